package manager

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

func TestValuesOfTheFormLeadBackToTheSettings(t *testing.T) {
	full := settings.Default()
	full.Mode, full.Name, full.Active = settings.Master, "cell 1", true
	full.VIP = netip.MustParsePrefix("10.0.0.50/24")
	full.Local.Address, full.Peer.Second = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.2")
	for _, s := range []settings.Settings{settings.Default(), full} {
		back, err := settings.Settings{}.Apply(settingsValues(s))
		if err != nil {
			t.Fatal(err)
		}
		if back != s {
			t.Errorf("went in\n%+v\ncame back\n%+v", s, back)
		}
	}
}

func TestChecklistOfTheMasterNamesWhatIsToCome(t *testing.T) {
	s := settings.Default()
	s.Peer.Address, s.Arbiter.Address = netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	list, toCopy := masterList(s, []pool.Step{
		{Code: "backup_trust", Text: "cell 2 and this Master trust each other", Done: true}, {Code: "backup_join", Text: "cell 2 agrees to join", Done: true},
		{Code: "arbiter_trust", Text: "waiting for approval on this Manager"},
		{Code: "synchronise", Text: "copying the database to cell 2: 9 entries to go", Behind: 9},
	})
	want := []string{
		"master: true settings stored, database saved", "master: false all members agree: the pool is effective",
		"backup: true it and this Master trust each other", "backup: true it agrees to join", "backup: false it is connected", "backup: false it has all data",
		"arbiter: false it and this Master trust each other (waiting for approval on this Manager)", "arbiter: false it agrees to join", "arbiter: false it is connected",
	}
	var got []string
	for _, m := range list {
		for _, l := range m.Steps {
			line := fmt.Sprint(m.Role, ": ", l.Done, " ", l.Text)
			if l.Problem != "" {
				line += " (" + l.Problem + ")"
			}
			got = append(got, line)
		}
	}
	if !slices.Equal(got, want) || toCopy != 9 {
		t.Errorf("%d to copy, %q", toCopy, got)
	}
	if _, toCopy := masterList(s, nil); toCopy != -1 {
		t.Errorf("before it is known: %d to copy", toCopy)
	}
}
