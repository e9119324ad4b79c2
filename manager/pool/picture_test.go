package pool

import (
	"testing"
	"time"
)

// TestPrimaryIsShownOnce: whatever came in late, one picture never has two of them, and reads the
// same on every member that hears the leader.
func TestPrimaryIsShownOnce(t *testing.T) {
	row := func(id MemberID, s Status, heard time.Duration) MemberState {
		return MemberState{Member: Member{ID: id}, Status: s, Heard: heard}
	}
	byM := View{Leader: "m", Members: []MemberView{{ID: "m", Status: Primary}, {ID: "b", Status: Online}, {ID: "a", Status: Unreachable}}}
	const limit = 350 * time.Millisecond
	for _, tt := range []struct {
		name  string
		self  MemberID
		fresh bool
		rows  []MemberState
		want  map[MemberID]Status
	}{
		{"the leader does not hear the Arbiter and this one does: the leader's word counts", "b", true,
			[]MemberState{row("b", Online, 0), row("m", Primary, 1), row("a", Online, 1)},
			map[MemberID]Status{"b": Online, "m": Primary, "a": Unreachable}},
		{"the leader is silent: its last word is worth nothing", "b", true,
			[]MemberState{row("b", Online, 0), row("m", Unreachable, time.Second), row("a", Online, 1)},
			map[MemberID]Status{"b": Online, "m": Unreachable, "a": Online}},
		{"this one is Primary now and the old one has said nothing since", "b", true,
			[]MemberState{row("b", Primary, 0), row("m", Primary, 1), row("a", Online, 1)},
			map[MemberID]Status{"b": Primary, "m": Online, "a": Unreachable}},
		{"the Arbiter hears the old Primary and the new leader", "a", true,
			[]MemberState{row("a", Online, 0), row("m", Primary, 1), row("b", Primary, 1)},
			map[MemberID]Status{"a": Online, "m": Primary, "b": Online}},
		{"no picture of late: own sight", "b", false,
			[]MemberState{row("b", Online, 0), row("m", Unreachable, time.Second), row("a", Unreachable, time.Second)},
			map[MemberID]Status{"b": Online, "m": Unreachable, "a": Unreachable}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			agree(tt.rows, byM, tt.fresh, tt.self, limit)
			for _, r := range tt.rows {
				if r.Status != tt.want[r.ID] {
					t.Errorf("%s is shown as %v, want %v", r.ID, r.Status, tt.want[r.ID])
				}
			}
		})
	}
}

// TestBackupAndArbiterCutFromEachOther: the Primary hears both, but a takeover would need a vote
// over the link that is cut; all three members show the same.
func TestBackupAndArbiterCutFromEachOther(t *testing.T) {
	tr := newTrio(t)
	tr.net.part("b", "a")
	all := []*node{tr.m, tr.b, tr.a}
	tr.wait("all three show the reason", func() bool {
		for _, n := range all {
			s := n.pool.State()
			if s.Health != Degraded || len(s.Reasons) != 1 || s.Reasons[0].Code != "backup_arbiter_link" {
				return false
			}
			for _, r := range s.Members {
				if r.Status == Unreachable {
					return false
				}
			}
		}
		return true
	})
	if err := tr.m.pool.HandOver(t.Context(), "test", func(string) {}); err == nil {
		t.Error("Primary was handed to a Manager that the Arbiter cannot vote for")
	}
	tr.net.heal()
	tr.waitProtected()
}
