package trust

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// key is a fingerprint that differs by n.
func key(n int) (f Fingerprint) {
	binary.BigEndian.PutUint32(f[:], uint32(n+1))
	return f
}

func meet(s *Store, n int, address string, expected bool) (bool, error) {
	return s.Meet(Contact{Fingerprint: key(n), Role: "master", Name: fmt.Sprint("node ", n), Address: address}, expected)
}

func TestContactWaitsForApprovalAndExpires(t *testing.T) {
	s := open(t, t.TempDir())
	c := &clock{now: time.Now()}
	c.use(s)
	fresh, err := meet(s, 1, "10.0.0.1:8099", false)
	if !fresh || err != nil {
		t.Fatalf("first contact: %v, %v", fresh, err)
	}
	first := c.now
	c.now = c.now.Add(contactLife)
	if fresh, err := meet(s, 1, "10.0.0.1:8099", false); fresh || err != nil {
		t.Errorf("the same again: %v, %v", fresh, err)
	}
	c.now = c.now.Add(contactLife)
	list := s.Contacts()
	if len(list) != 1 || !list[0].First.Equal(first) || list[0].Last.Equal(first) || list[0].Name != "node 1" {
		t.Errorf("contacts %+v", list)
	}
	c.now = c.now.Add(time.Second)
	if list := s.Contacts(); len(list) != 0 {
		t.Errorf("not heard for %v, and still there: %+v", contactLife+time.Second, list)
	}
	meet(s, 1, "10.0.0.1:8099", false)
	if err := s.Approve(PeerRecord{Fingerprint: key(1), Role: "master", How: ByFingerprint}); err != nil {
		t.Fatal(err)
	}
	if fresh, err := meet(s, 1, "10.0.0.1:8099", false); fresh || err != nil || len(s.Contacts()) != 0 {
		t.Errorf("an approved node is a contact: %v, %v, %+v", fresh, err, s.Contacts())
	}
	if _, err := s.Meet(Contact{Fingerprint: s.Fingerprint()}, true); err == nil || !strings.Contains(err.Error(), "this node itself") {
		t.Errorf("its own key: %v", err)
	}
	if _, err := s.Meet(Contact{}, true); err == nil {
		t.Error("a contact without a key was taken")
	}
}

func TestRejectionIsRememberedForAWhile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if s.Reject(key(1)) == nil {
		t.Error("rejected somebody who never came")
	}
	meet(s, 1, "10.0.0.1", false)
	if err := s.Reject(key(1)); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	c := &clock{now: time.Now()}
	c.use(s)
	if _, err := meet(s, 1, "10.0.0.1", true); !errors.Is(err, ErrRejected) {
		t.Errorf("a rejected node after a restart: %v", err)
	}
	if got, ok := s.Contact(key(1)); !ok || got.Rejected.IsZero() {
		t.Errorf("its contact: %+v, %v", got, ok)
	}
	c.now = c.now.Add(rejectLife + time.Second)
	if fresh, err := meet(s, 1, "10.0.0.1", false); !fresh || err != nil {
		t.Errorf("after %v: %v, %v", rejectLife, fresh, err)
	}
	if err := s.Reject(key(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Approve(PeerRecord{Fingerprint: key(1), Role: "master"}); err != nil {
		t.Fatal(err)
	}
	if _, err := meet(s, 1, "10.0.0.1", false); err != nil || len(s.Contacts()) != 0 {
		t.Errorf("approved after all: %v, %+v", err, s.Contacts())
	}
}

// Whoever is in the LAN may make as many keys as they like.
func TestStrangersCannotFloodTheContacts(t *testing.T) {
	s := open(t, t.TempDir())
	c := &clock{now: time.Now()}
	c.use(s)
	n := 0
	for host := range 20 {
		for range 10 {
			n++
			_, _ = meet(s, n, fmt.Sprintf("10.0.1.%d:%d", host, n), false)
		}
	}
	if got := len(s.Contacts()); got != maxContacts {
		t.Errorf("%d contacts are kept, want %d", got, maxContacts)
	}
	of := map[string]int{}
	for _, c := range s.Contacts() {
		if of[hostOf(c.Address)]++; of[hostOf(c.Address)] > maxOfHost {
			t.Errorf("%d of host %s", of[hostOf(c.Address)], hostOf(c.Address))
		}
	}
	if _, err := meet(s, 9999, "10.0.9.9", false); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	c.now = c.now.Add(time.Second)
	if fresh, err := meet(s, 10000, "10.0.0.2:8099", true); !fresh || err != nil {
		t.Errorf("the partner that is waited for: %v, %v", fresh, err)
	}
	if _, ok := s.Contact(key(10000)); !ok || len(s.Contacts()) != maxContacts {
		t.Errorf("it is not listed, or the list grew to %d", len(s.Contacts()))
	}
	for range maxInWindow { // key 2 is still there
		_, _ = meet(s, 2, "10.0.1.0", false)
	}
	if _, err := meet(s, 2, "10.0.1.0", false); !errors.Is(err, ErrTooMany) {
		t.Errorf("a host that comes without end: %v", err)
	}
	c.now = c.now.Add(paceWindow)
	if _, err := meet(s, 2, "10.0.1.0", false); err != nil {
		t.Errorf("later: %v", err)
	}
	for host := range 3 * maxPaceHosts {
		s.met.admit(fmt.Sprint(host), c.now)
	}
	if len(s.met.count) > maxPaceHosts {
		t.Errorf("%d hosts are counted", len(s.met.count))
	}
}

func TestNameOfAStrangerIsHarmless(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Meet(Contact{Fingerprint: key(1), Name: "a\x1b[31m\n\xff" + strings.Repeat("ü", 500)}, false); err != nil {
		t.Fatal(err)
	}
	c, _ := s.Contact(key(1))
	if strings.ContainsAny(c.Name, "\x1b\n") || len([]rune(c.Name)) > maxName || !strings.HasPrefix(c.Name, "a[31m") {
		t.Errorf("name %q", c.Name)
	}
}

func TestExpectedPartner(t *testing.T) {
	s := open(t, t.TempDir())
	for _, p := range []PeerRecord{
		{Fingerprint: key(1), Role: "backup"}, {Fingerprint: key(2), Role: "backup", Address: "10.0.0.2:8099"}, {Fingerprint: key(3), Role: "arbiter", Address: "10.0.0.3"},
		{Fingerprint: key(4), Role: "backup", Address: "10.0.0.2"}, {Fingerprint: key(5), Role: "backup", Address: "10.0.0.9:8099"},
	} {
		if err := s.Approve(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		role, address string
		want          Fingerprint
	}{{"backup", "10.0.0.2:8100", key(4)}, {"backup", "10.0.0.77", key(1)}, {"arbiter", "10.0.0.3:1", key(3)}, {"arbiter", "10.0.0.4", Fingerprint{}}, {"master", "10.0.0.2", Fingerprint{}}} {
		if p, ok := s.Expected(tt.role, tt.address); p.Fingerprint != tt.want || ok == tt.want.IsZero() {
			t.Errorf("%s at %s: %+v, %v", tt.role, tt.address, p, ok)
		}
	}
	if err := s.Approve(PeerRecord{Fingerprint: key(6), Role: "backup", Address: "10.0.0.2"}, key(4)); err != nil {
		t.Fatal(err)
	}
	if s.Approved(key(4)) || !s.Approved(key(6)) {
		t.Error("the replaced key is still trusted, or the new one is not")
	}
}

func TestFailedRejectChangesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	meet(s, 1, "10.0.0.1", false)
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if s.Reject(key(1)) == nil {
		t.Fatal("rejected without a disk")
	}
	if c, ok := s.Contact(key(1)); !ok || !c.Rejected.IsZero() {
		t.Errorf("contact %+v, %v", c, ok)
	}
}
