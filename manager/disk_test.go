package manager_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"redundancypool/deploy/lab"
)

// newDiskSite is a site whose hosts keep their data on disks of their own, which can be made to
// fail; the pool is formed.
func newDiskSite(t *testing.T) *site {
	s := newSite(t, time.Minute)
	for _, n := range []string{masterHost, backupHost, arbiterHost} {
		h := s.host(n)
		if err := h.FaultyDisk(64 << 20); err != nil {
			t.Skipf("no disk of its own for %s here: %v", h.Name(), err)
		}
		s.dirs[h.Name()] = filepath.Join(h.DiskPath(), "d")
	}
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	s.awaitOwner(masterHost)
	return s
}

// writable waits until the named Manager takes a write.
func (s *site) writable(name, unit string) {
	s.t.Helper()
	s.addUnit(name, unit)
}

func (s *site) alive(names ...string) {
	s.t.Helper()
	for _, n := range names {
		if !s.process(n).Alive() {
			s.t.Errorf("the process of %s has ended", n)
		}
	}
}

// A Primary that cannot write any more lays Primary and the virtual IP down; nothing acknowledged is lost,
// and once the disk is back the pool is Protected again. No process ends by itself.
func TestPrimaryWhoseDiskFailsIsReplaced(t *testing.T) {
	s := newDiskSite(t)
	for i, fault := range []struct {
		name         string
		cause, cease func(*lab.Host) error
	}{
		{"full", (*lab.Host).FillDisk, (*lab.Host).FreeDisk},
		{"hung", (*lab.Host).HangDisk, (*lab.Host).ThawDisk},
	} {
		unit := fmt.Sprintf("before-%s", fault.name)
		s.writable(masterHost, unit)
		began := time.Now()
		if err := fault.cause(s.host(masterHost)); err != nil {
			t.Fatalf("disk of the Master %s: %v", fault.name, err)
		}
		s.awaitOwner(backupHost)
		t.Logf("disk %s: the virtual IP moved after %v", fault.name, time.Since(began).Round(time.Millisecond))
		s.writable(backupHost, fmt.Sprintf("during-%s", fault.name))
		if r := s.status(masterHost); r.Status == "primary" {
			t.Errorf("the Master with the disk %s says it is Primary", fault.name)
		}
		s.alive(masterHost, backupHost, arbiterHost)
		if err := fault.cease(s.host(masterHost)); err != nil {
			t.Fatal(err)
		}
		s.awaitHealth(backupHost, "protected")
		want := s.units(backupHost)
		s.await(10*time.Second, "both have the same units", func() (bool, string) {
			got := s.units(masterHost)
			return got == want && bytes.Count([]byte(got), []byte(",")) == 2*i+1, got + " and " + want
		})
		if _, err := s.remote(backupHost).HandOver(t.Context(), "master", noSteps); err != nil {
			t.Fatalf("hand back after the disk was %s: %v", fault.name, err)
		}
		s.awaitOwner(masterHost)
		s.awaitHealth(masterHost, "protected")
	}
}

// The same on those who only follow: the Primary goes on without a pause.
func TestFollowerWhoseDiskFailsIsWaitedFor(t *testing.T) {
	s := newDiskSite(t)
	for _, who := range []string{backupHost, arbiterHost} {
		for _, fault := range []struct {
			name         string
			cause, cease func(*lab.Host) error
		}{
			{"full", (*lab.Host).FillDisk, (*lab.Host).FreeDisk},
			{"hung", (*lab.Host).HangDisk, (*lab.Host).ThawDisk},
		} {
			if err := fault.cause(s.host(who)); err != nil {
				t.Fatal(err)
			}
			began0 := time.Now()
			s.writable(masterHost, who+"-"+fault.name+"-1")
			t.Logf("disk of %s %s: first write after %v", who, fault.name, time.Since(began0).Round(time.Millisecond))
			if who == backupHost {
				s.awaitHealth(masterHost, "degraded")
			}
			s.writable(masterHost, who+"-"+fault.name+"-2")
			if o := s.owners(); o != masterHost {
				t.Errorf("disk of %s %s: the virtual IP is on %q", who, fault.name, o)
			}
			s.alive(masterHost, backupHost, arbiterHost)
			if err := fault.cease(s.host(who)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			s.awaitHealth(masterHost, "protected")
			t.Logf("disk of %s %s: protected %v after it was back", who, fault.name, time.Since(began).Round(time.Millisecond))
			want := s.units(masterHost)
			s.await(10*time.Second, "the Backup has everything", func() (bool, string) { got := s.units(backupHost); return got == want, got })
		}
	}
}
