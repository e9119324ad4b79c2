package web

import (
	"fmt"
	"strings"
)

// Verdict is the whole picture in one word and one sentence.
type Verdict struct {
	Word string `json:"word"` // one of health
	Text string `json:"text"`
}

// Verdict judges the picture as this node has it. It never says more than what is known here.
func (r Redundancy) Verdict() Verdict {
	return Verdict{Word: r.Health, Text: r.judge()}
}

func (r Redundancy) judge() string {
	first := func(otherwise string) string {
		if why := r.Hindrances(); len(why) > 0 {
			return strings.TrimRight(why[0].Text, ".")
		}
		return otherwise
	}
	switch {
	case r.NotRunning:
		return "This Manager does not run in its mode: " + first("the cause is in its log") + "."
	case r.Status == "on_hold":
		return "This Backup waits for its Master to configure the pool."
	case r.Health == "configuring" && r.Deadline == nil && len(r.Members) == 0:
		return "This Manager is restarting into another mode."
	case r.Health == "configuring":
		return "The pool is being formed and protects nothing yet."
	case r.Health == "standalone":
		return "This Manager works alone: nothing takes over when it fails."
	case r.Health == "protected":
		return fmt.Sprintf("%s serves, the other Manager is in step and the Arbiter answers: any one of them may fail without loss.", r.primaryName())
	case r.Health == "degraded":
		return fmt.Sprintf("%s serves, but the next fault may stop the service: %s.", r.primaryName(), first("not all members are well"))
	case r.Health == "failure" && r.alone():
		return "This member hears no other one. It serves nothing; the others may serve without it: look at their pages."
	case r.Health == "failure":
		return "No Manager is Primary, as far as this member can tell: data can be read, nothing is written."
	}
	return "Nothing is known of the pool yet."
}

// primaryName names the Primary as this node knows it.
func (r Redundancy) primaryName() string {
	for _, m := range r.Members {
		if m.Status == statusPrimary {
			return m.Title()
		}
	}
	return "The Primary"
}

// alone reports that no other member is heard.
func (r Redundancy) alone() bool {
	if len(r.Members) < 2 {
		return false
	}
	for _, m := range r.Members {
		if !m.Self && m.Status != "unreachable" && m.Status != "unknown" {
			return false
		}
	}
	return true
}

// Hindrances are the reasons why a failover would not succeed, without what else is to be known.
func (r Redundancy) Hindrances() []Reason {
	if r.FailoverPossible {
		return nil
	}
	var out []Reason
	for _, why := range r.Reasons {
		if !hindersNothing(why.Code) {
			out = append(out, why)
		}
	}
	return out
}

// hindersNothing reports that a reason with this code is only good to know.
func hindersNothing(code string) bool {
	switch code {
	case "take_back_waits", "certificate_changed", "vip_conflict":
		return true
	}
	return strings.HasPrefix(code, "fell_back_") || strings.HasPrefix(code, "verify_") || strings.HasSuffix(code, "_flapping")
}

// Title is the member's name, or its role when it has none.
func (m Member) Title() string {
	if m.Name != "" {
		return m.Name
	}
	return Word(m.Role)
}
