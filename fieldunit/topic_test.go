package fieldunit

import (
	"strings"
	"testing"
)

func TestValidateName(t *testing.T) {
	for _, name := range []string{"a", "plc-1_B", strings.Repeat("x", MaxName)} {
		if err := ValidateName(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "a b", "a/b", "ü", "a+", "#", "$a", "a\x00", strings.Repeat("x", MaxName+1)} {
		if ValidateName(name) == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestValidateTopic(t *testing.T) {
	for _, tt := range []struct {
		topic string
		ok    bool
	}{
		{"fieldunit/u1/telemetry", true},
		{"/neuron/mqtt/modbus/grp", true},
		{"neuron/client/upload", true},
		{"factory-a/line-1", true},
		{"fieldunit/u2/telemetry", false},
		{"fieldunit/u1/command", false},
		{"fieldunit/", false},
		{"$SYS/x", false},
		{"a/+/b", false},
		{"#", false},
		{"", false},
		{"spBv1.0/g/NDATA/n", false},
		{strings.Repeat("x", 2000), false},
	} {
		if err := ValidateTopic("u1", tt.topic); (err == nil) != tt.ok {
			t.Errorf("%.40q: %v", tt.topic, err)
		}
	}
}
