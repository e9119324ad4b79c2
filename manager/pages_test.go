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
	list, toCopy := masterSteps(s, []pool.Step{
		{Code: "backup_trust", Text: "cell 2 and this Master trust each other", Done: true}, {Code: "backup_join", Text: "cell 2 agrees to join", Done: true},
		{Code: "synchronise", Text: "copying the database to cell 2: 9 entries to go", Behind: 9},
	})
	want := []string{
		"true settings stored, database saved", "true cell 2 and this Master trust each other", "false the Arbiter at 10.0.0.3:8099 and this Master trust each other",
		"true cell 2 agrees to join", "false the Arbiter at 10.0.0.3:8099 agrees to join", "false the Backup is connected",
		"false the Arbiter is connected", "false copying the database to cell 2: 9 entries to go", "false all members agree: the pool is effective",
	}
	var got []string
	for _, l := range list {
		got = append(got, fmt.Sprint(l.Done, " ", l.Text))
	}
	if !slices.Equal(got, want) || toCopy != 9 {
		t.Errorf("%d to copy, %q", toCopy, got)
	}
	if _, toCopy := masterSteps(s, nil); toCopy != -1 {
		t.Errorf("before it is known: %d to copy", toCopy)
	}
}
