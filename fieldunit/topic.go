package fieldunit

import (
	"fmt"
	"strings"
)

// MaxName is the length of a unit's name at most, in bytes.
const MaxName = 64

const (
	nativePrefix    = "fieldunit/"
	telemetrySuffix = "/telemetry"
	commandSuffix   = "/command"
	maxTopic        = 1024
)

// ValidateName reports why name cannot be a field unit's name: 1 to MaxName characters of
// A-Z, a-z, 0-9, "_" and "-". The same name is the unit's MQTT user name and part of its topics,
// so that it needs no escaping anywhere.
func ValidateName(name string) error {
	if name == "" {
		return fmt.Errorf("unit name is empty: use 1 to %d characters of A-Z a-z 0-9 _ -", MaxName)
	}
	if len(name) > MaxName {
		return fmt.Errorf("unit name has %d characters, at most %d are allowed: shorten it", len(name), MaxName)
	}
	for i := range len(name) {
		if c := name[i]; !letter(c) && c != '_' && c != '-' {
			return fmt.Errorf("unit name %q has %q at position %d: use only A-Z a-z 0-9 _ -", name, c, i+1)
		}
	}
	return nil
}

func letter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// TelemetryTopic returns the topic to which the unit publishes native payloads.
func TelemetryTopic(unit string) string { return nativePrefix + unit + telemetrySuffix }

// CommandTopic returns the only topic that the unit may subscribe to.
func CommandTopic(unit string) string { return nativePrefix + unit + commandSuffix }

// ValidateTopic reports why unit may not publish to topic. A unit publishes as itself alone:
// below "fieldunit/" only its own telemetry topic is open. Every other topic is open too, since
// gateways name theirs freely and the payload is recognised by its shape, except topics that
// begin with "$" (MQTT 3.1.1, 4.7.2) and those of Sparkplug B, which is not JSON.
func ValidateTopic(unit, topic string) error {
	bad := func(what, fix string) error {
		return &PayloadError{Field: "topic", What: fmt.Sprintf("%.100q %s", topic, what), Fix: fix}
	}
	own := TelemetryTopic(unit)
	switch {
	case topic == own:
		return nil
	case topic == "":
		return bad("is empty", "publish to "+own)
	case len(topic) > maxTopic:
		return bad(fmt.Sprintf("has more than %d bytes", maxTopic), "shorten it")
	case strings.ContainsAny(topic, "+#\x00"):
		return bad("has a wildcard or a zero byte", "publish to a plain topic")
	case strings.HasPrefix(topic, nativePrefix):
		return bad("is not this unit's", "publish to "+own)
	case strings.HasPrefix(topic, "$"):
		return bad("belongs to the server", "publish to "+own)
	case strings.HasPrefix(topic, "spBv1.0/"):
		return bad("is a Sparkplug B topic", "set the gateway's application to JSON, or publish to "+own)
	}
	return nil
}
