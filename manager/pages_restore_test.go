package manager_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What a Standalone restored stands in no log: its Backup must get it with a full copy.
func TestRestoredDataReachTheBackup(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "kept")
	file := filepath.Join(t.TempDir(), "saved.db")
	if _, err := s.remote(masterHost).SaveDatabase(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if _, err := s.remote(masterHost).RemoveUnit(t.Context(), "kept", true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.remote(masterHost).RestoreDatabase(t.Context(), file, true); err != nil {
		t.Fatal(err)
	}
	s.awaitStatus(masterHost, "standalone")
	s.form()
	s.awaitHealth(masterHost, "protected")
	if got := s.units(backupHost); !strings.Contains(got, "kept") {
		t.Errorf("the Backup has the units %q", got)
	}
}
