package trust

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Contact is a node that has proved that it owns a key, and that nobody has approved. Role and
// Name are its own words.
type Contact struct {
	Fingerprint Fingerprint `json:"fingerprint"`
	Role        string      `json:"role"`    // master, backup or arbiter; empty: it is none of these yet
	Name        string      `json:"name"`    // for people
	Address     string      `json:"address"` // host, with the pool port where it is known
	First       time.Time   `json:"first"`
	Last        time.Time   `json:"last"`
	// Instead is the approved fingerprint that was expected from this node; zero: none was.
	Instead Fingerprint `json:"instead"`
	// Rejected is until when this node is not listened to, because a person said so; zero: nobody did.
	Rejected time.Time `json:"rejected,omitzero"`
}

// What strangers may leave here. A contact is repeated every second or two while somebody waits
// for the approval, so one that was not heard for a quarter of an hour is over.
const (
	contactLife  = 15 * time.Minute
	rejectLife   = time.Hour
	maxContacts  = 32
	maxOfHost    = 4 // keys from one host
	maxRejected  = 64
	paceWindow   = 10 * time.Second
	maxInWindow  = 30  // contacts of one host
	maxPaceHosts = 256 // hosts that are counted
	maxName      = 64  // runes of a stranger's name
)

var (
	// ErrRejected is returned by Meet for a node that a person rejected not long ago.
	ErrRejected = errors.New("this node was rejected here: it can be approved by its fingerprint on that list of contacts")
	// ErrTooMany is returned by Meet when strangers have left too many contacts, or come too often.
	ErrTooMany = errors.New("too many contacts by nodes that are not approved: approve or reject some, then try again")
)

// contacts is what Meet keeps; it is not on disk, for a node that still waits comes again.
type contacts struct {
	list  []Contact
	began time.Time      // of the present window
	count map[string]int // contacts in it, by host
}

// Meet notes that a node has shown its key, unless it is approved in the role that it names. With
// expected it comes from where this node was told that a partner is, or this node itself has
// called it: then strangers cannot keep it out. It reports whether this key is new here.
//
// Errors: ErrRejected, ErrTooMany, or the key is empty or this node's own.
func (s *Store) Meet(c Contact, expected bool) (fresh bool, err error) {
	switch {
	case c.Fingerprint.IsZero():
		return false, errors.New("trust: contact without a fingerprint")
	case c.Fingerprint == s.fp:
		return false, errors.New("this node itself answers there: the address is its own, or the data folder of the other was copied from here")
	}
	c.Name = plainName(c.Name)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if !expected && !s.met.admit(hostOf(c.Address), now) {
		return false, ErrTooMany
	}
	for _, p := range s.state.Peers {
		if p.Fingerprint == c.Fingerprint && (p.Role == c.Role || c.Role == "") {
			return false, nil
		}
	}
	for _, r := range s.state.Rejected {
		if r.Fingerprint == c.Fingerprint && now.Before(r.Rejected) {
			return false, ErrRejected
		}
	}
	s.met.expire(now)
	c.First, c.Last, c.Rejected = now, now, time.Time{}
	for i, old := range s.met.list {
		if old.Fingerprint == c.Fingerprint {
			c.First = old.First
			s.met.list[i] = c
			return old.Instead != c.Instead, nil
		}
	}
	return true, s.met.add(c, expected)
}

// add makes room for an expected contact, and refuses others when there is none.
func (m *contacts) add(c Contact, expected bool) error {
	var all, ofHost []int // places in the list
	for i, o := range m.list {
		all = append(all, i)
		if hostOf(o.Address) == hostOf(c.Address) {
			ofHost = append(ofHost, i)
		}
	}
	crowd := ofHost
	if len(ofHost) < maxOfHost {
		crowd = all
	}
	if len(all) >= maxContacts || len(ofHost) >= maxOfHost {
		if !expected {
			return ErrTooMany
		}
		oldest := slices.MinFunc(crowd, func(a, b int) int { return m.list[a].Last.Compare(m.list[b].Last) })
		m.list = slices.Delete(m.list, oldest, oldest+1)
	}
	m.list = append(m.list, c)
	return nil
}

// admit counts a contact of host, and reports whether it is one too many in this window.
func (m *contacts) admit(host string, now time.Time) bool {
	if m.count == nil || now.Sub(m.began) >= paceWindow || now.Before(m.began) || len(m.count) >= maxPaceHosts {
		m.began, m.count = now, map[string]int{}
	}
	m.count[host]++
	return m.count[host] <= maxInWindow
}

func (m *contacts) expire(now time.Time) {
	m.list = slices.DeleteFunc(m.list, func(c Contact) bool { return now.Sub(c.Last) > contactLife || now.Before(c.First) })
}

// Contacts lists the nodes that wait for an approval, in the order of their coming, and behind them
// those rejected not long ago.
func (s *Store) Contacts() []Contact {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.met.expire(now)
	out := slices.Clone(s.met.list)
	for _, r := range s.state.Rejected {
		if now.Before(r.Rejected) {
			out = append(out, r)
		}
	}
	return out
}

// Contact returns what is known of a node that is not approved, and whether anything is.
func (s *Store) Contact(fp Fingerprint) (Contact, bool) {
	for _, c := range s.Contacts() {
		if c.Fingerprint == fp {
			return c, true
		}
	}
	return Contact{}, false
}

// Reject makes Meet refuse the node for an hour, also after a restart. It returns once that is on
// disk. An approved node is not rejected but withdrawn.
func (s *Store) Reject(fp Fingerprint) error {
	c, ok := s.Contact(fp)
	if !ok {
		return errors.New("trust: reject: no such contact: it may have expired")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c.Rejected = now.Add(rejectLife)
	next := s.state
	next.Rejected = slices.DeleteFunc(slices.Clone(s.state.Rejected), func(r Contact) bool { return r.Fingerprint == fp || !now.Before(r.Rejected) })
	if over := len(next.Rejected) + 1 - maxRejected; over > 0 {
		next.Rejected = next.Rejected[over:]
	}
	next.Rejected = append(next.Rejected, c)
	if err := s.save(next); err != nil {
		return err
	}
	s.met.drop(fp)
	return nil
}

func (m *contacts) drop(fp Fingerprint) {
	m.list = slices.DeleteFunc(m.list, func(c Contact) bool { return c.Fingerprint == fp })
}

// plainName is a stranger's name without what could disturb a page or a terminal.
func plainName(name string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		if n++; n > maxName || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, ""))
}

// hostOf is the host of an address with or without a port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}

// Expected returns the newest approved node of that role at that host; of those whose host is not
// known, the newest, when there is no other.
func (s *Store) Expected(role, address string) (PeerRecord, bool) {
	var known, unknown PeerRecord
	for _, p := range s.List() { // the newest comes last
		switch {
		case p.Role != role:
		case p.Address == "":
			unknown = p
		case hostOf(p.Address) == hostOf(address):
			known = p
		}
	}
	if !known.Fingerprint.IsZero() {
		return known, true
	}
	return unknown, !unknown.Fingerprint.IsZero()
}

// ChangedError reports that a node came with another key than the approved one.
type ChangedError struct {
	Role, Address string
	Approved, Got Fingerprint
}

func (e *ChangedError) Error() string {
	return fmt.Sprintf("the certificate of the %s at %s changed: its fingerprint is %v, approved is %v", e.Role, e.Address, e.Got, e.Approved)
}
