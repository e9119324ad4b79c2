package manager_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
	"redundancypool/web"
)

func (s *site) connections(name string) control.Connections {
	s.t.Helper()
	c, err := s.remote(name).Connections(s.t.Context())
	if err != nil {
		s.t.Fatalf("connections of %s: %v", name, err)
	}
	return c
}

// awaitContact waits until a Manager shows an unapproved node of that role.
func (s *site) awaitContact(name, role string) (c control.Contact) {
	s.t.Helper()
	s.await(15*time.Second, name+" shows an unapproved "+role, func() (bool, string) {
		all := s.connections(name).Contacts
		i := slices.IndexFunc(all, func(c control.Contact) bool { return c.Role == role })
		if i >= 0 {
			c = all[i]
		}
		return i >= 0, ""
	})
	return c
}

func (s *site) approve(name, fingerprint string) {
	s.t.Helper()
	if _, err := s.remote(name).Approve(s.t.Context(), fingerprint, "", false); err != nil {
		s.t.Fatalf("approve on %s: %v", name, err)
	}
}

func (s *site) arbiterApproves(fingerprint string) {
	s.t.Helper()
	var d control.Done
	if err := control.NewClient(s.dir(arbiterHost)).Call(s.t.Context(), "approve", map[string]string{"fingerprint": fingerprint}, nil, &d); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) code(err error) string {
	var e *control.Error
	if errors.As(err, &e) && len(e.Fields) == 1 {
		return e.Fields[0].Field + " " + e.Fields[0].Code
	}
	return ""
}

// Without tokens: three nodes show their keys, people compare and approve them, and the pool forms by itself.
func TestPoolIsFormedByComparingFingerprints(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.addUnit(masterHost, "of-master")
	master, backup := s.remote(masterHost), s.remote(backupHost)

	_, err := master.Set(t.Context(), s.masterForm("", ""))
	s.refused(err, "peer.address", "set it to Backup first")
	s.set(backupHost, s.backupForm())
	s.awaitStatus(backupHost, "on_hold")

	// An Arbiter with state that no new one has; reset cures it.
	arb := s.dir(arbiterHost)
	stray := filepath.Join(arb, "pools", strings.Repeat("ab", 16))
	if err := s.process(arbiterHost).Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(stray, 0o700), os.WriteFile(filepath.Join(stray, "raft.db"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.start(arbiterHost)
	_, err = master.Set(t.Context(), s.masterForm("", ""))
	if got := s.code(err); got != "arbiter.address arbiter_free" {
		t.Errorf("a used Arbiter is refused with %q: %v", got, err)
	}
	_, err = master.Set(t.Context(), s.masterForm(s.token(backupHost), s.arbiterToken()))
	if got := s.code(err); got != "arbiter.address arbiter_free" {
		t.Errorf("with tokens it is refused with %q: %v", got, err)
	}
	for _, a := range s.connections(masterHost).Approved {
		if _, err := master.Withdraw(t.Context(), a.Fingerprint, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range s.connections(backupHost).Approved {
		if _, err := backup.Withdraw(t.Context(), a.Fingerprint, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.process(arbiterHost).Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	reset(s)
	s.start(arbiterHost)
	if got := s.status(masterHost).Role; got != "standalone" {
		t.Errorf("after refused tries the Master is %s", got)
	}

	s.set(masterHost, s.masterForm("", ""))
	onMaster, onBackup := s.awaitContact(masterHost, "backup"), s.awaitContact(backupHost, "master")
	third := s.awaitContact(masterHost, "arbiter")
	if own := s.connections(masterHost).Fingerprint; onBackup.Fingerprint != own {
		t.Errorf("the Backup shows %s, the Master's own is %s", onBackup.Fingerprint, own)
	}
	if own := s.connections(backupHost).Fingerprint; onMaster.Fingerprint != own || onMaster.Address != addresses[backupHost]+":8099" {
		t.Errorf("the Master shows %+v, the Backup's own is %s", onMaster, own)
	}
	r := s.status(masterHost)
	if !slices.ContainsFunc(r.Reasons, func(r web.Reason) bool { return r.Code == "not_trusted" && strings.Contains(r.Text, "backup at") }) {
		t.Errorf("the Master does not say that its Backup is not trusted: %+v", r.Reasons)
	}
	for _, m := range r.Members {
		if m.Role == "backup" && m.Status != "unreachable" {
			t.Errorf("an untrusted Backup is shown as %s", m.Status)
		}
	}

	// Rejected, it is refused for a while; approved after all, it is let in.
	if _, err := backup.Reject(t.Context(), onBackup.Fingerprint); err != nil {
		t.Fatal(err)
	}
	s.await(10*time.Second, "the Master says that it was rejected", func() (bool, string) {
		text := ""
		if d := s.status(masterHost).Deadline; d != nil {
			text = d.Text
		}
		return strings.Contains(text, "was rejected there"), text
	})
	s.approve(backupHost, onBackup.Fingerprint)
	s.approve(masterHost, onMaster.Fingerprint)
	if got := s.status(masterHost); got.Status == "primary" || got.Health == "protected" {
		t.Errorf("%s/%s although the Arbiter is not approved", got.Status, got.Health)
	}
	s.approve(masterHost, third.Fingerprint)
	s.await(10*time.Second, "the Master waits for the Arbiter's approval", func() (bool, string) {
		text := ""
		if d := s.status(masterHost).Deadline; d != nil {
			text = d.Text
		}
		return strings.Contains(text, "waiting for approval of this Manager on the arbiter"), text
	})
	s.arbiterApproves(s.connections(masterHost).Fingerprint)
	s.awaitHealth(masterHost, "protected")
	s.awaitHealth(backupHost, "protected")
	for _, n := range []string{masterHost, backupHost} {
		c := s.connections(n)
		if len(c.Contacts) != 0 || len(c.Approved) != 2 || !c.Approved[0].InPool || c.Approved[0].How == "" {
			t.Errorf("connections of %s: %+v", n, c)
		}
		_, err := s.remote(n).Withdraw(t.Context(), c.Approved[0].Fingerprint, true)
		s.refused(err, "member of the running pool")
	}

	// A person changes the own login on the Manager that is Online; the Primary keeps it, for both.
	if _, err := master.AddUser(t.Context(), "ann", "first password"); err != nil {
		t.Fatal(err)
	}
	s.await(10*time.Second, "the Backup keeps a new password", func() (bool, string) {
		_, err := backup.SetPassword(t.Context(), "ann", "second password")
		return err == nil, fmt.Sprint(err)
	})
	if _, err := backup.EndSessions(t.Context(), "ann"); err != nil {
		t.Errorf("log out everywhere on the Backup: %v", err)
	}
	_, err = backup.SetPassword(t.Context(), "bob", "some password")
	s.refused(err, "no user")

	// The Backup's machine is installed anew: another key at its address is refused and told.
	before := s.connections(backupHost).Fingerprint
	s.kill(backupHost)
	removeDir(s, backupHost)
	s.start(backupHost)
	s.set(backupHost, s.backupForm())
	changed := control.Contact{}
	s.await(20*time.Second, "the Master shows the changed certificate", func() (bool, string) {
		for _, changed = range s.connections(masterHost).Contacts {
			if changed.Instead != "" {
				return true, ""
			}
		}
		return false, ""
	})
	if changed.Instead != before || changed.Fingerprint != s.connections(backupHost).Fingerprint || !changed.InPool {
		t.Errorf("changed certificate: %+v, before %s", changed, before)
	}
	_, err = master.Approve(t.Context(), changed.Fingerprint, "", true)
	s.refused(err, "replace the member")
	if !slices.ContainsFunc(s.status(masterHost).Reasons, func(r web.Reason) bool { return r.Code == "certificate_changed" }) {
		t.Errorf("the status does not tell it: %+v", s.status(masterHost).Reasons)
	}
	events := 0
	if err := master.Query(t.Context(), "SELECT count(*) FROM event WHERE code = 'certificate_changed'", func([]string) error { return nil }, func(row []any) error {
		if !strings.HasPrefix(fmt.Sprint(row[0]), "0") {
			events++
		}
		return nil
	}); err != nil || events == 0 {
		t.Errorf("no event tells the changed certificate (%v)", err)
	}
	if _, err := master.Leave(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.awaitStatus(masterHost, "standalone")

	// Outside a pool it is refused as long as the old one is approved, and approved with a confirmation.
	_, err = master.Set(t.Context(), s.masterForm("", ""))
	if got := s.code(err); got != "peer.address certificate_changed" {
		t.Errorf("a changed certificate is refused with %q: %v", got, err)
	}
	s.refused(err, before, changed.Fingerprint)
	if got := s.status(masterHost).Role; got != "standalone" {
		t.Errorf("after that the Master is %s", got)
	}
	_, err = master.Approve(t.Context(), changed.Fingerprint, "", false)
	s.refused(err, "another key is approved")
	if _, err = master.Approve(t.Context(), changed.Fingerprint, "", true); err != nil {
		t.Fatal(err)
	}
	if c := s.connections(masterHost); slices.ContainsFunc(c.Approved, func(a control.Approval) bool { return a.Fingerprint == before }) {
		t.Error("the key before is still trusted")
	}
	s.approve(backupHost, s.awaitContact(backupHost, "master").Fingerprint)
	s.set(masterHost, s.masterForm("", ""))
	s.awaitHealth(masterHost, "protected")
	var fresh arbiter.Connections
	if err := control.NewClient(arb).Call(t.Context(), "connections", nil, nil, &fresh); err != nil || len(fresh.Contacts) != 0 {
		t.Errorf("contacts of the Arbiter: %+v, %v", fresh.Contacts, err)
	}
}
