package manager_test

import (
	"strings"
	"testing"
	"time"

	"redundancypool/manager/control"
	"redundancypool/web"
)

// steps collects the texts of an operation's steps.
func steps(into *[]string) func(control.Step) error {
	return func(s control.Step) error { *into = append(*into, s.Text); return nil }
}

func reasons(r web.Redundancy) string {
	var out []string
	for _, why := range r.Reasons {
		out = append(out, why.Code)
	}
	return strings.Join(out, " ")
}

// A dead member is replaced while the pool serves; who was replaced is refused when it returns; the
// other Manager's copy is made anew by force; a partner is deactivated and activated again.
func TestMembersOfARunningPoolAreReplaced(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	s.form()

	// The Backup's machine is lost; a fresh one gets its address.
	s.kill(backupHost)
	s.awaitHealth(masterHost, "degraded")
	s.addUnit(masterHost, "meanwhile")
	_, err := s.remote(masterHost).Replace(t.Context(), control.Replacement{Member: "backup"}, noSteps)
	s.refused(err, "replaced")
	_, err = s.remote(masterHost).Replace(t.Context(), control.Replacement{Member: "master", Yes: true}, noSteps)
	s.refused(err, "this Manager itself")
	lost := s.dir(backupHost)
	s.dirs[backupHost] = lost + "2"
	s.start(backupHost)
	s.set(backupHost, s.backupForm())
	var said []string
	d, err := s.remote(masterHost).Replace(t.Context(), control.Replacement{Member: "backup", Pairing: s.token(backupHost), Yes: true}, steps(&said))
	if err != nil {
		t.Fatalf("replace: %v after %q", err, said)
	}
	if text := strings.Join(said, "; "); !strings.Contains(text, "is out") || !strings.Contains(text, "votes") || !strings.Contains(d.Message, "in step") {
		t.Errorf("replacing said %q, %q", text, d.Message)
	}
	s.awaitHealth(masterHost, "protected")
	s.awaitHealth(backupHost, "protected")
	if got := s.units(backupHost); got != "meanwhile,of-master" {
		t.Errorf("the new Backup has units %q", got)
	}

	// The old one comes back in its place: it is refused and says so.
	s.kill(backupHost)
	s.dirs[backupHost] = lost
	s.start(backupHost)
	s.await(20*time.Second, "the replaced Backup says that it was", func() (bool, string) {
		r := s.status(backupHost)
		return strings.Contains(reasons(r), "refused_replaced") && r.Status == "online", reasons(r)
	})
	s.kill(backupHost)
	s.dirs[backupHost] = lost + "2"
	s.start(backupHost)
	s.awaitHealth(masterHost, "protected")

	// The Backup's copy is made anew.
	if d, err = s.remote(masterHost).Resync(t.Context(), true, steps(&said)); err != nil {
		t.Fatalf("resync: %v after %q", err, said)
	}
	s.awaitHealth(masterHost, "protected")
	s.awaitHealth(backupHost, "protected")
	if got := s.units(backupHost); got != "meanwhile,of-master" {
		t.Errorf("the re-synchronised Backup has units %q", got)
	}

	// The Arbiter is replaced by a reset one, with the Backup as Primary.
	if _, err := s.remote(masterHost).HandOver(t.Context(), "", noSteps); err != nil {
		t.Fatal(err)
	}
	s.awaitHealth(backupHost, "protected")
	s.kill(arbiterHost)
	s.awaitHealth(backupHost, "degraded")
	reset(s)
	s.start(arbiterHost)
	_, err = s.remote(masterHost).Replace(t.Context(), control.Replacement{Member: "arbiter", Yes: true}, noSteps)
	s.refused(err, "is Primary", "10.78.0.2")
	if _, err = s.remote(backupHost).Replace(t.Context(), control.Replacement{Member: "arbiter", Pairing: s.arbiterToken(), Yes: true}, steps(&said)); err != nil {
		t.Fatalf("replace the Arbiter: %v after %q", err, said)
	}
	s.awaitHealth(backupHost, "protected")

	// The Master's machine is lost: a fresh one takes its place and its role.
	s.kill(masterHost)
	s.awaitHealth(backupHost, "degraded")
	removeDir(s, masterHost)
	s.start(masterHost)
	f := s.backupForm()
	f.Values["local.address"], f.Values["peer.address"] = addresses[masterHost], addresses[backupHost]
	s.set(masterHost, f)
	if _, err = s.remote(backupHost).Replace(t.Context(), control.Replacement{Member: "master", Pairing: s.token(masterHost), Yes: true}, steps(&said)); err != nil {
		t.Fatalf("replace the Master: %v after %q", err, said)
	}
	s.awaitHealth(masterHost, "protected")
	s.await(10*time.Second, "the new machine is Master", func() (bool, string) { r := s.status(masterHost); return r.Role == "master", r.Role })
	if _, err := s.remote(masterHost).HandOver(t.Context(), "master", noSteps); err != nil {
		t.Fatal(err)
	}
	s.awaitOwner(masterHost)
	s.awaitHealth(masterHost, "protected")

	// A partner is deactivated from the Primary, through a restart, and activated again.
	if _, err := s.remote(masterHost).Partner(t.Context(), "backup", false, true); err != nil {
		t.Fatal(err)
	}
	s.awaitHealth(masterHost, "degraded")
	s.kill(backupHost)
	s.start(backupHost)
	s.await(10*time.Second, "the Backup is still deactivated", func() (bool, string) {
		text := reasons(s.status(masterHost))
		return strings.Contains(text, "backup_maintenance"), text
	})
	if _, err := s.remote(masterHost).Partner(t.Context(), "backup", true, true); err != nil {
		t.Fatal(err)
	}
	s.awaitHealth(masterHost, "protected")
}
