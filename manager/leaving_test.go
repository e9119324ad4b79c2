package manager_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redundancypool/manager/control"
)

func noSteps(control.Step) error { return nil }

// Maintenance, planned changes of Primary, and what is refused meanwhile.
func TestPrimaryIsHandedOver(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	_, err := s.remote(masterHost).HandOver(t.Context(), "", noSteps)
	s.refused(err, "no pool")
	s.form()
	if _, err := s.remote(backupHost).HandOver(t.Context(), "backup", noSteps); err != nil {
		t.Fatalf("hand over asked for on the Backup: %v", err)
	}
	s.awaitOwner(backupHost)
	_, err = s.remote(backupHost).HandOver(t.Context(), "backup", noSteps)
	s.refused(err, "already")
	s.awaitHealth(backupHost, "protected")
	if _, err := s.remote(backupHost).HandOver(t.Context(), "master", noSteps); err != nil {
		t.Fatalf("hand over back: %v", err)
	}
	s.awaitOwner(masterHost)
	s.awaitHealth(masterHost, "protected")

	// A stopped Primary hands over first, and ends soon.
	began := time.Now()
	if err := s.process(masterHost).Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	t.Logf("the Primary stopped in %v", time.Since(began))
	s.awaitOwner(backupHost)
	r := s.status(backupHost)
	if c := r.LastChangeover; c == nil || c.Kind != "handover" {
		t.Errorf("stopping the Primary was no hand over: %+v", c)
	}
	_, err = s.remote(backupHost).HandOver(t.Context(), "", noSteps)
	s.refused(err, "master")
	s.start(masterHost)
	s.awaitHealth(backupHost, "protected")

	// A deactivated Master takes no Primary, and is still deactivated after a restart.
	if _, err := s.remote(masterHost).Deactivate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.awaitHealth(backupHost, "degraded")
	s.kill(masterHost)
	s.start(masterHost)
	s.await(10*time.Second, "the Master is in maintenance after a restart", func() (bool, string) {
		text := ""
		for _, why := range s.status(backupHost).Reasons {
			text += why.Code + " "
		}
		return strings.Contains(text, "master_maintenance"), text
	})
	_, err = s.remote(backupHost).HandOver(t.Context(), "", noSteps)
	s.refused(err, "maintenance")
	if _, err := s.remote(masterHost).Activate(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitHealth(backupHost, "protected")
	for _, n := range []string{arbiterHost, backupHost} {
		began := time.Now()
		if err := s.process(n).Stop(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s stopped in %v", n, time.Since(began))
	}
}

func TestPoolIsLeftWithoutTheDeadBackup(t *testing.T)  { leaveWithout(t, backupHost) }
func TestPoolIsLeftWithoutTheDeadArbiter(t *testing.T) { leaveWithout(t, arbiterHost) }

func leaveWithout(t *testing.T, dead string) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	s.form()
	s.kill(dead)
	s.awaitHealth(masterHost, "degraded")
	d, err := s.remote(masterHost).Leave(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(d.Message, "could not be told") {
		t.Errorf("leaving says %q, not who could not be told", d.Message)
	}
	s.awaitStatus(masterHost, "standalone")
	s.awaitOwner("")
	if got := s.units(masterHost); got != "of-master" {
		t.Errorf("the Master has units %q after leaving", got)
	}
	// Whoever was away learns it when it returns, from either of the others.
	s.start(dead)
	if dead == arbiterHost {
		s.awaitStatus(backupHost, "standalone")
		s.await(20*time.Second, "the Arbiter has forgotten the pool", func() (bool, string) { return s.arbiterStatus().Pool == nil, "it is in a pool" })
		return
	}
	s.awaitStatus(backupHost, "standalone")
	if got := s.units(backupHost); got != "of-master" {
		t.Errorf("the Backup has units %q after leaving", got)
	}
	s.form()
}

// The Master is lost while the Arbiter is away: the Backup cannot know whether it is, and a person
// decides.
func TestLoneSurvivorGoesOn(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	s.form()
	_, err := s.remote(backupHost).Recover(t.Context(), true)
	s.refused(err, "not a lone survivor")
	s.kill(backupHost)
	s.awaitHealth(masterHost, "degraded")
	s.addUnit(masterHost, "beyond") // the survivor will not have it
	s.kill(arbiterHost)
	s.kill(masterHost)
	s.start(backupHost)
	s.awaitHealth(backupHost, "failure")
	s.awaitOwner("")
	_, err = s.remote(backupHost).Recover(t.Context(), false)
	s.refused(err, "confirm")
	d, err := s.remote(backupHost).Recover(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(d.Message)
	s.awaitOwner(backupHost)
	s.awaitStatus(backupHost, "primary")
	s.awaitHealth(backupHost, "degraded")
	s.addUnit(backupHost, "of-survivor")

	// The lost ones come back, and are refused, whoever they find.
	s.start(masterHost)
	s.await(10*time.Second, "the old Master is refused", func() (bool, string) {
		r := s.status(masterHost)
		return r.Health == "failure" && r.Status == "online" && strings.Contains(reasons(r), "refused_forced"), r.Status + " " + reasons(r)
	})
	s.await(10*time.Second, "what it had beyond is exported", func() (bool, string) {
		all, _ := filepath.Glob(filepath.Join(s.dir(masterHost), "beyond", "*.jsonl"))
		if len(all) != 1 {
			return false, fmt.Sprint(all)
		}
		b, err := os.ReadFile(all[0])
		return err == nil && strings.Contains(string(b), `"unit_add"`) && strings.Contains(string(b), `"beyond"`), string(b)
	})
	s.awaitOwner(backupHost)

	// Formed anew, with the survivor as the Master.
	if _, err := s.remote(masterHost).Leave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.awaitStatus(masterHost, "standalone")
	reset(s)
	s.start(arbiterHost)
	f := s.backupForm()
	f.Values["local.address"], f.Values["peer.address"] = addresses[masterHost], addresses[backupHost]
	s.set(masterHost, f)
	g := s.masterForm(s.token(masterHost), s.arbiterToken())
	g.Values["local.address"], g.Values["peer.address"] = addresses[backupHost], addresses[masterHost]
	s.set(backupHost, g)
	s.awaitHealth(backupHost, "protected")
	s.awaitOwner(backupHost)
	if got := s.units(masterHost); got != "of-master,of-survivor" {
		t.Errorf("the new Backup has units %q", got)
	}
}

// The Backup was away when its Master stored more and died: the Arbiter knows how much is missing, and
// resigns, so that nobody can be Primary of the old pool any more.
func TestLoneSurvivorGoesOnByTheArbitersWord(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	s.kill(backupHost)
	s.awaitHealth(masterHost, "degraded")
	s.addUnit(masterHost, "missing")
	s.kill(masterHost)
	s.start(backupHost)
	s.awaitHealth(backupHost, "failure")
	var asked *control.Error
	s.await(20*time.Second, "the survivor knows where the Arbiter is", func() (bool, string) {
		_, err := s.remote(backupHost).Recover(t.Context(), false)
		return errors.As(err, &asked) && len(asked.Confirm) == 2 && asked.Confirm[1].Word == "alone" && strings.HasPrefix(asked.Confirm[0].Text, "At most"), fmt.Sprint(err, asked)
	})
	if strings.HasPrefix(asked.Confirm[0].Text, "At most 0 ") {
		t.Errorf("a unit is missing here, and it says %q", asked.Confirm[0].Text)
	}
	if _, err := s.remote(backupHost).Recover(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.awaitOwner(backupHost)
	if st := s.arbiterStatus(); st.Pool != nil {
		t.Errorf("the Arbiter still is in pool %s", *st.Pool)
	}
	s.start(masterHost)
	s.await(20*time.Second, "the old Master is refused and has no Arbiter", func() (bool, string) {
		r := s.status(masterHost)
		return r.Status == "online" && strings.Contains(reasons(r), "refused_forced"), r.Status + " " + reasons(r)
	})
	s.awaitOwner(backupHost)
}

// A survivor that tries to form a pool anew, in vain, keeps the virtual IP.
func TestSurvivorKeepsTheVirtualIPThroughAVainForming(t *testing.T) {
	s := newSite(t, 4*time.Second)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	s.form()
	s.kill(backupHost)
	s.awaitHealth(masterHost, "degraded")
	s.kill(arbiterHost)
	s.awaitHealth(masterHost, "failure")
	if _, err := s.remote(masterHost).Recover(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.awaitOwner(masterHost)
	removeDir(s, backupHost)
	reset(s)
	s.start(backupHost, arbiterHost)
	s.set(backupHost, s.backupForm())
	s.set(masterHost, s.masterForm(s.token(backupHost), s.arbiterToken()))
	s.kill(arbiterHost)
	s.awaitStatus(backupHost, "standalone") // both have fallen back
	s.await(20*time.Second, "the Master gave up", func() (bool, string) { return s.status(masterHost).Deadline == nil, "" })
	s.awaitStatus(masterHost, "primary")
	s.awaitOwner(masterHost)
	if got := s.units(masterHost); got != "of-master" {
		t.Errorf("the survivor has units %q", got)
	}
}
