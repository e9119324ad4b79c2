package manager_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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

// The values of a running pool are changed from either Manager and hold for all, whoever is away
// meanwhile: the virtual IP, addresses, times and Active.
func TestARunningPoolIsChanged(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	set := func(name string, values map[string]string) control.Done {
		t.Helper()
		d, err := s.remote(name).Set(t.Context(), control.Form{Yes: true, Values: values})
		if err != nil {
			t.Fatalf("set %v on %s: %v", values, name, err)
		}
		return d
	}
	setting := func(name, key, want string) {
		t.Helper()
		s.await(20*time.Second, name+" has "+key+" "+want, func() (bool, string) {
			b, _ := os.ReadFile(filepath.Join(s.dir(name), "settings.toml"))
			return strings.Contains(string(b), want), string(b)
		})
	}

	// The virtual IP, asked for on the Backup: refused while somebody has it, then moved.
	_, err := s.remote(backupHost).Set(t.Context(), control.Form{Yes: true, Values: map[string]string{"vip": addresses[clientHost] + "/24"}})
	s.refused(err, "vip", "held by")
	_, err = s.remote(backupHost).Set(t.Context(), control.Form{Yes: true, Values: map[string]string{"vip": "10.99.0.1/24"}})
	s.refused(err, "outside")
	_, err = s.remote(backupHost).Set(t.Context(), control.Form{Values: map[string]string{"vip": "10.78.0.60/24"}})
	s.refused(err, "confirm")
	was := s.vip
	s.vip = netip.MustParsePrefix("10.78.0.60/24")
	set(backupHost, map[string]string{"vip": s.vip.String()})
	s.awaitOwner(masterHost) // its home, after the Backup had it
	s.awaitHealth(masterHost, "protected")
	now := s.vip
	if s.vip = was; s.owners() != "" {
		t.Errorf("the virtual IP before is still on %s", s.owners())
	}
	s.vip = now
	for _, n := range []string{masterHost, backupHost} {
		setting(n, "vip", "10.78.0.60/24")
	}

	// The Backup's address, which that host must have first.
	_, err = s.remote(masterHost).Set(t.Context(), control.Form{Yes: true, Values: map[string]string{"peer.address": "10.78.0.12"}})
	s.refused(err, "peer.address", "no address 10.78.0.12")
	if err := s.host(backupHost).AddAddr(netip.MustParsePrefix("10.78.0.12/24")); err != nil {
		t.Fatal(err)
	}
	set(masterHost, map[string]string{"peer.address": "10.78.0.12", "peer.port": "8100"})
	s.await(20*time.Second, "all call the Backup there", func() (bool, string) {
		text := ""
		for _, m := range s.arbiterStatus().Members {
			text += m.Address + " "
		}
		return strings.Contains(text, "10.78.0.12:8100"), text
	})
	s.awaitHealth(masterHost, "protected")
	setting(backupHost, "local", "10.78.0.12")

	// Times, while the Arbiter is away: it gets them when it returns.
	s.kill(arbiterHost)
	s.awaitHealth(masterHost, "degraded")
	set(masterHost, map[string]string{"timing.missed_heartbeats": "20"})
	setting(backupHost, "timing", "missed_heartbeats = 20")
	s.start(arbiterHost)
	s.awaitHealth(masterHost, "protected")
	worst := func(name string) int64 {
		if w := s.status(name).WorstTakeoverMS; w != nil {
			return *w
		}
		return 0
	}
	s.await(30*time.Second, "all work by the new times", func() (bool, string) {
		r := s.status(masterHost)
		return r.Health == "protected" && r.Status == "primary" && worst(masterHost) == worst(backupHost) && worst(backupHost) > 700, r.Status
	})

	// The Primary dies as soon as it has answered: whoever leads then sees the change through.
	set(masterHost, map[string]string{"timing.missed_heartbeats": "24"})
	s.kill(masterHost)
	s.start(masterHost)
	s.await(40*time.Second, "all work by what was agreed before the Primary died", func() (bool, string) {
		m, b := s.status(masterHost), s.status(backupHost)
		text := fmt.Sprintf("%s/%s %d, %s/%s %d", m.Status, m.Health, worst(masterHost), b.Status, b.Health, worst(backupHost))
		return m.Health == "protected" && b.Health == "protected" && worst(masterHost) == worst(backupHost) && worst(masterHost) > 800, text
	})
	if s.status(masterHost).Status != "primary" {
		if _, err := s.remote(masterHost).HandOver(t.Context(), "master", noSteps); err != nil {
			t.Fatal(err)
		}
		s.awaitHealth(masterHost, "protected")
	}

	// Active, while the Backup is away.
	s.kill(backupHost)
	s.awaitHealth(masterHost, "degraded")
	set(masterHost, map[string]string{"active": "true", "timing.stability_delay": "1s"})
	s.start(backupHost)
	s.awaitHealth(masterHost, "protected")
	s.awaitOwner(masterHost)
	s.kill(masterHost)
	s.awaitOwner(backupHost)
	s.start(masterHost)
	s.await(60*time.Second, "the Master takes Primary back", func() (bool, string) { r := s.status(masterHost); return r.Status == "primary", r.Status })
}
