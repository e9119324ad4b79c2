package manager_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
)

func TestPoolIsFormedAndLeftAndFormedAgain(t *testing.T) {
	s := newSite(t, time.Minute)
	s.env = append(s.env, "SITE_VERIFY=500ms")
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	s.addUnit(backupHost, "of-backup")
	s.form()
	if got := s.units(backupHost); got != "of-master" {
		t.Errorf("the Backup has units %q, want the Master's", got)
	}
	s.awaitOwner(masterHost)
	s.verifiesItself(backupHost)
	f := control.Form{Values: map[string]string{"vip": "10.78.0.60/24"}}
	_, err := s.remote(masterHost).Set(t.Context(), f)
	s.refused(err, "confirm")

	if _, err := s.remote(backupHost).Leave(t.Context(), true); err != nil { // by its Primary, for all
		t.Fatal(err)
	}
	for _, n := range []string{masterHost, backupHost} {
		s.awaitStatus(n, "standalone")
		s.awaitHealth(n, "standalone")
		if got := s.units(n); got != "of-master" {
			t.Errorf("after leaving %s has units %q", n, got)
		}
	}
	s.awaitOwner("")
	if st := s.arbiterStatus(); st.Pool != nil {
		t.Errorf("the Arbiter still is in pool %s", *st.Pool)
	}
	s.form()
}

// Both sides wait no longer than they were told, and end with exactly what they had before.
func TestFormingThatDoesNotSucceedLosesNothing(t *testing.T) {
	s := newSite(t, 10*time.Second) // long enough for a busy machine to get through a step
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	s.addUnit(backupHost, "of-backup")
	unharmed := func() {
		t.Helper()
		for _, n := range []string{masterHost, backupHost} {
			s.awaitStatus(n, "standalone")
			if got, want := s.units(n), "of-"+n; got != want {
				t.Errorf("%s has units %q, want %q", n, got, want)
			}
		}
	}
	reason := func(name, code string) {
		t.Helper()
		for _, r := range s.status(name).Reasons {
			if r.Code == code {
				return
			}
		}
		t.Errorf("%s gives no reason %s: %+v", name, code, s.status(name).Reasons)
	}

	// Cancelled on hold.
	s.set(backupHost, s.backupForm())
	s.awaitStatus(backupHost, "on_hold")
	if _, err := s.remote(backupHost).Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	unharmed()
	reason(backupHost, "fell_back_cancelled")

	// On hold until the time is used up; killed on the way, it keeps the time that was left.
	s.set(backupHost, s.backupForm())
	s.awaitStatus(backupHost, "on_hold")
	s.await(15*time.Second, "half of the time has passed", func() (bool, string) {
		d := s.status(backupHost).Deadline
		return d != nil && d.RemainingMS < 5000, ""
	})
	s.kill(backupHost)
	s.start(backupHost)
	if d := s.status(backupHost).Deadline; d == nil || d.RemainingMS > 6000 {
		t.Errorf("after a restart the deadline is %+v, with less than 5 s left before", d)
	}
	unharmed()
	reason(backupHost, "fell_back_timeout")

	// A Master whose Arbiter dies; the Backup is on hold or joined by then.
	s.set(backupHost, s.backupForm())
	pairing, arbiterPairing := s.token(backupHost), s.arbiterToken()
	s.set(masterHost, s.masterForm(pairing, arbiterPairing))
	s.kill(arbiterHost)
	unharmed()
	reason(masterHost, "fell_back_timeout")

	// Cancelled on the Master: the Backup stays on hold for its own time, then falls back.
	s.start(arbiterHost)
	s.set(backupHost, s.backupForm())
	s.awaitStatus(backupHost, "on_hold")
	s.set(masterHost, s.masterForm(pairing, arbiterPairing)) // the tokens have served; what they were for still holds
	s.kill(arbiterHost)
	s.awaitStatus(masterHost, "configuring")
	if _, err := s.remote(masterHost).Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	unharmed()
	reason(masterHost, "fell_back_cancelled")

	// The same values again, with everybody there.
	s.start(arbiterHost)
	if st := s.arbiterStatus(); st.Pool != nil {
		t.Errorf("the Arbiter still is in the unfinished pool %s", *st.Pool)
	}
	s.set(backupHost, s.backupForm())
	s.awaitStatus(backupHost, "on_hold")
	s.set(masterHost, s.masterForm(pairing, arbiterPairing))
	if r := s.awaitHealth(masterHost, "protected"); len(r.Reasons) > 0 {
		t.Errorf("reasons of the tries before are still there: %+v", r.Reasons)
	}
	if got := s.units(backupHost); got != "of-master" {
		t.Errorf("the Backup has units %q, want the Master's", got)
	}
}

// Whoever is killed while the pool is formed: what is left of the time suffices. SITE_ROUNDS and
// SITE_SEED ask for more than the short form.
func TestFormingGoesOnAfterAKillInTheMiddle(t *testing.T) {
	rounds, seed := 3, uint64(1)
	if n, err := strconv.Atoi(os.Getenv("SITE_ROUNDS")); err == nil {
		rounds = n
	}
	if n, err := strconv.ParseUint(os.Getenv("SITE_SEED"), 10, 64); err == nil {
		seed = n
	}
	dice := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	for round := range rounds {
		s.set(backupHost, s.backupForm())
		s.set(masterHost, s.masterForm(s.token(backupHost), s.arbiterToken()))
		victim := []string{masterHost, backupHost, arbiterHost}[(round+int(seed))%3]
		wait := time.Duration(dice.IntN(1500)) * time.Millisecond
		t.Logf("seed %d, round %d: %s is killed after %v", seed, round, victim, wait)
		time.Sleep(wait) // any moment will do
		s.kill(victim)
		s.start(victim)
		var primary string
		s.await(60*time.Second, "the pool is protected", func() (bool, string) {
			text := ""
			for _, n := range []string{masterHost, backupHost} {
				r := s.status(n)
				if r.Status == "primary" && r.Health == "protected" {
					primary = n
					return true, ""
				}
				text += fmt.Sprintf("%s: %s/%s %v %+v; ", n, r.Status, r.Health, r.Reasons, r.Deadline)
			}
			return false, text
		})
		s.awaitHealth(backupHost, "protected") // has noticed, too
		if got := s.units(backupHost); got != "of-master" {
			t.Errorf("the Backup has units %q, want the Master's", got)
		}
		if _, err := s.remote(primary).Leave(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		s.awaitStatus(masterHost, "standalone")
		s.awaitStatus(backupHost, "standalone")
	}
}

// What cannot work is refused at once, says which field, and changes nothing.
func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	backup, master := s.remote(backupHost), s.remote(masterHost)
	with := func(f control.Form, key, value string) control.Form { f.Values[key] = value; return f }

	_, err := backup.Set(t.Context(), with(s.backupForm(), "interface", "eth7"))
	s.refused(err, "interface", "eth7")
	_, err = backup.Set(t.Context(), with(s.backupForm(), "local.address", "10.78.0.77"))
	s.refused(err, "local.address", "10.78.0.77")
	_, err = backup.Set(t.Context(), with(s.backupForm(), "vip", addresses[arbiterHost]+"/24"))
	s.refused(err, "vip", s.host(arbiterHost).MAC().String())
	_, err = backup.Token(t.Context())
	s.refused(err, "not on hold")
	_, err = master.Set(t.Context(), s.masterForm("", ""))
	s.refused(err, "peer.address", "set it to Backup first")
	_, err = master.Set(t.Context(), with(s.masterForm("", ""), "arbiter.address", addresses[backupHost]))
	s.refused(err, "arbiter.address", "is also")

	s.set(backupHost, with(s.backupForm(), "vip", "10.78.0.51/25"))
	_, err = master.Set(t.Context(), s.masterForm(s.arbiterToken(), s.arbiterToken()))
	s.refused(err, "pairing")
	_, err = master.Set(t.Context(), s.masterForm(s.token(backupHost), s.arbiterToken()))
	s.refused(err, "vip", "virtual IP", "10.78.0.50", "10.78.0.51", "prefix length", "/24", "/25")
	s.verified(masterHost, s.masterForm("", ""), "same_values failed vip", "backup_trust ok peer.address", "arbiter_free ok arbiter.address", "vip_free ok vip")
	s.verified(masterHost, with(s.masterForm("", ""), "peer.address", addresses[clientHost]), "backup_connect failed peer.address", "backup_layer2 ok peer.address", "timing ok timing")
	if st := s.arbiterStatus(); st.Pool != nil {
		t.Error("the Arbiter is in a pool after a refused try")
	}
	for _, r := range []string{s.status(masterHost).Role, s.status(masterHost).Status} {
		if r != "standalone" {
			t.Errorf("the Master is %s after refused tries", r)
		}
	}
	if _, err := backup.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.awaitStatus(backupHost, "standalone")

	// An Arbiter of another pool.
	s.form()
	err = arbiter.Reset(s.dir(arbiterHost))
	s.refused(err, "running")
	for _, n := range []string{masterHost, backupHost} {
		s.kill(n)
		if err := os.RemoveAll(s.dir(n)); err != nil {
			t.Fatal(err)
		}
		s.start(n)
	}
	s.set(backupHost, s.backupForm())
	pairing := s.token(backupHost)
	_, err = master.Set(t.Context(), s.masterForm(pairing, s.arbiterToken()))
	s.refused(err, "arbiter.address", "belongs to another pool", "arbiter reset")
	if err := s.process(arbiterHost).Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := arbiter.Reset(s.dir(arbiterHost)); err != nil {
		t.Fatal(err)
	}
	s.start(arbiterHost)
	s.set(masterHost, s.masterForm(pairing, s.arbiterToken()))
	s.awaitHealth(masterHost, "protected")
}

// verified asks for a Verify and wants these checks, each "code result field", among its results.
func (s *site) verified(name string, f control.Form, want ...string) {
	s.t.Helper()
	r, err := s.remote(name).Verify(s.t.Context(), f)
	if err != nil {
		s.t.Fatal(err)
	}
	got := map[string]bool{}
	for _, c := range r.Checks {
		got[c.Code+" "+c.Result+" "+c.Field] = true
	}
	for _, w := range want {
		if !got[w] {
			s.t.Errorf("verify lacks %q: %+v", w, r.Checks)
		}
	}
}

// verifiesItself finds a fault that comes while the pool runs, and that it has gone.
func (s *site) verifiesItself(name string) {
	s.t.Helper()
	ip := func(args ...string) {
		s.t.Helper()
		if err := s.host(name).Do(func() error { return exec.Command("ip", args...).Run() }); err != nil {
			s.t.Fatalf("ip %v: %v", args, err)
		}
	}
	reasons := func(want int) {
		s.t.Helper()
		s.await(20*time.Second, fmt.Sprintf("%s names %d faults and compares the licences", name, want), func() (bool, string) {
			r := s.status(name)
			n := 0
			for _, why := range r.Reasons {
				if strings.HasPrefix(why.Code, "verify_") {
					n++
				}
			}
			return n == want && r.Licence.State == "match", fmt.Sprintf("%+v %+v", r.Licence, r.Reasons)
		})
	}
	reasons(0)
	ip("route", "add", "default", "via", s.vip.Addr().String())
	reasons(1)
	if r := s.status(name); r.Health != "protected" || len(r.Reasons) == 0 || r.Reasons[0].Code != "verify_not_gateway" {
		s.t.Errorf("with the virtual IP as gateway: %s %+v", r.Health, r.Reasons)
	}
	ip("route", "del", "default")
	reasons(0)
	text := ""
	files, err := filepath.Glob(filepath.Join(s.dir(name), "journal", "*.jsonl"))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		text += string(b)
	}
	if err != nil || !strings.Contains(text, `"verify_not_gateway"`) || !strings.Contains(text, `"verify_passed"`) {
		s.t.Errorf("the journal has no events of it: %v", err)
	}
}
