package manager

import (
	"strings"
	"testing"
)

func TestStatusChangesOnceItIsSeenTwice(t *testing.T) {
	s := settled{now: "unknown"}
	var got []string
	for word := range strings.FieldsSeq("online online online primary online unreachable unreachable online online online") {
		if from, to, ok := s.see(word); ok {
			got = append(got, from+">"+to)
		}
	}
	if strings.Join(got, " ") != "unknown>online online>unreachable unreachable>online" {
		t.Errorf("changes %q", got)
	}
	for _, tt := range []struct {
		from, to string
		told     bool
	}{{"online", "primary", true}, {"primary", "online", true}, {"online", "standalone", true}, {"standalone", "on_hold", false}, {"unknown", "online", false}, {"configuring", "online", false}} {
		if toldByPool(tt.from, tt.to) != tt.told {
			t.Errorf("%s to %s: told by the pool %v", tt.from, tt.to, !tt.told)
		}
	}
}
