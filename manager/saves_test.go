package manager_test

import (
	"strings"
	"testing"
	"time"
)

// A saved database is restored in the running pool, for all its members; until then nothing is
// lost: the data of before are saved first.
func TestADatabaseIsRestoredInARunningPool(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "kept")
	s.form()
	if _, err := s.remote(masterHost).SaveDatabase(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	all, err := s.remote(masterHost).ListSaves(t.Context())
	if err != nil || len(all) == 0 || all[0].Why != "asked for" || all[0].Units != 1 || all[0].Schema == 0 || all[0].Samples != 0 {
		t.Fatalf("saves %+v, %v", all, err)
	}
	save := all[0].Name
	s.addUnit(masterHost, "later")
	_, err = s.remote(backupHost).RestoreDatabase(t.Context(), save, true)
	s.refused(err, "no save")
	_, err = s.remote(masterHost).RestoreDatabase(t.Context(), save, false)
	s.refused(err, "replaces the present data")
	s.awaitHealth(masterHost, "protected")
	d, err := s.remote(masterHost).RestoreDatabase(t.Context(), save, true)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.Message, "before-restore") {
		t.Errorf("restoring says %q, not where the data of before are", d.Message)
	}
	s.await(60*time.Second, "the pool is formed anew", func() (bool, string) {
		r := s.status(masterHost)
		return r.Health == "protected" && r.Status == "primary" && r.Deadline == nil, r.Status + " " + r.Health
	})
	s.awaitHealth(backupHost, "protected")
	s.awaitOwner(masterHost)
	for _, n := range []string{masterHost, backupHost} {
		if got := s.units(n); got != "kept" {
			t.Errorf("%s has units %q", n, got)
		}
	}
	saved := false
	if all, err = s.remote(backupHost).ListSaves(t.Context()); err == nil {
		for _, x := range all {
			saved = saved || strings.HasPrefix(x.Name, "before-resync")
		}
	}
	if !saved {
		t.Errorf("the Backup's copy was not saved: %+v %v", all, err)
	}
	if _, err := s.remote(masterHost).KeepSaves(t.Context(), 1, 0); err != nil {
		t.Fatal(err)
	}
	if all, err = s.remote(masterHost).ListSaves(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%d saves with one to keep, %v", len(all), err)
	}
	if _, err := s.remote(masterHost).DeleteSave(t.Context(), all[0].Name, true); err != nil {
		t.Fatal(err)
	}
}
