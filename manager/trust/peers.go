package trust

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
)

// PeerRecord is one approved peer.
type PeerRecord struct {
	Fingerprint Fingerprint `json:"fingerprint"`
	Role        string      `json:"role"`              // master, backup or arbiter
	Name        string      `json:"name"`              // for people; may be empty
	Address     string      `json:"address,omitempty"` // where it was then: host, or host and pool port; may be empty
	How         How         `json:"how,omitempty"`
	ApprovedMS  int64       `json:"approved_ms"`
}

// How is the way that an approval came about. Empty: by an earlier release, which did not note it.
type How string

// The ways.
const (
	ByToken       How = "token"       // it proved that it was given this node's token, or made the token given here
	ByFingerprint How = "fingerprint" // a person compared its fingerprint
	ByMaster      How = "master"      // the approved Master named it as a member of the pool
)

// state is the content of trust.json.
type state struct {
	Version int          `json:"version"`
	Peers   []PeerRecord `json:"peers"`
	Token   *tokenState  `json:"token,omitempty"`
	// Rejected are the contacts that a person does not want to see again for a while.
	Rejected []Contact `json:"rejected,omitempty"`
}

const stateVersion = 1

// maxPeers bounds the list: a pool has two peers, the rest leaves room for replaced nodes.
const maxPeers = 64

// Approve records that the node of p is trusted in its role from now on; ApprovedMS is set here.
// Approving again replaces the record, and takes back a rejection. The node with the fingerprint
// instead (zero: none), which p replaces, is not trusted any more. It returns once that is on disk.
func (s *Store) Approve(p PeerRecord, instead ...Fingerprint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.withPeer(p, instead...)
	if err != nil {
		return err
	}
	return s.save(next)
}

// Withdraw ends the trust in fp. It returns once that is on disk; an unknown fp is no error.
// Connections that are open stay open: the caller closes them.
func (s *Store) Withdraw(fp Fingerprint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state
	next.Peers = slices.DeleteFunc(slices.Clone(s.state.Peers), func(p PeerRecord) bool { return p.Fingerprint == fp })
	if len(next.Peers) == len(s.state.Peers) {
		return nil
	}
	return s.save(next)
}

// Approved reports whether fp is trusted now.
func (s *Store) Approved(fp Fingerprint) bool {
	_, ok := s.Lookup(fp)
	return ok
}

// Lookup returns the record of fp, and whether it is trusted now.
func (s *Store) Lookup(fp Fingerprint) (PeerRecord, bool) {
	if fp.IsZero() {
		return PeerRecord{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.state.Peers {
		if p.Fingerprint == fp {
			return p, true
		}
	}
	return PeerRecord{}, false
}

// List returns a copy of all approved peers in the order of their approval.
func (s *Store) List() []PeerRecord {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.state.Peers)
}

// withPeer returns the state with p approved instead of some; s.mu is held.
func (s *Store) withPeer(p PeerRecord, instead ...Fingerprint) (state, error) {
	fp, role, name := p.Fingerprint, p.Role, p.Name
	switch {
	case fp.IsZero():
		return state{}, errors.New("trust: approve: the fingerprint is empty")
	case fp == s.fp:
		return state{}, errors.New("trust: approve: this is the node's own fingerprint: " +
			"the address belongs to this node, or its data folder was copied from here")
	case role != "master" && role != "backup" && role != "arbiter":
		return state{}, fmt.Errorf("trust: approve: role %q is not one of master, backup, arbiter", role)
	case len(name) > 256 || len(p.Address) > 256:
		return state{}, fmt.Errorf("trust: approve: the name has %d bytes, the address %d: 256 at most", len(name), len(p.Address))
	}
	next := s.state
	next.Peers = slices.DeleteFunc(slices.Clone(s.state.Peers), func(o PeerRecord) bool {
		return o.Fingerprint == fp || slices.Contains(instead, o.Fingerprint)
	})
	next.Rejected = slices.DeleteFunc(slices.Clone(s.state.Rejected), func(c Contact) bool { return c.Fingerprint == fp })
	if len(next.Peers) >= maxPeers {
		return state{}, fmt.Errorf("trust: approve: %d peers are approved already: withdraw those that are gone", maxPeers)
	}
	p.ApprovedMS = s.now().UnixMilli()
	next.Peers = append(next.Peers, p)
	return next, nil
}

// save writes next and, once it is on disk, makes it the state; s.mu is held.
func (s *Store) save(next state) error {
	next.Version = stateVersion
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("trust: encode %s: %w", stateFile, err)
	}
	if err := writeFile(filepath.Join(s.dir, stateFile), append(text, '\n')); err != nil {
		return err
	}
	s.state = next
	s.met.list = slices.DeleteFunc(s.met.list, func(c Contact) bool {
		return slices.ContainsFunc(next.Peers, func(p PeerRecord) bool { return p.Fingerprint == c.Fingerprint })
	})
	return nil
}

func loadState(path string) (state, error) {
	text, err := readLimited(path)
	if errors.Is(err, fs.ErrNotExist) {
		return state{Version: stateVersion}, nil
	}
	if err != nil {
		return state{}, err
	}
	st, err := decodeState(text)
	if err != nil {
		return state{}, fmt.Errorf("trust: %s: %w: restore it from a copy, or remove it and approve the peers again", path, err)
	}
	return st, nil
}

func decodeState(text []byte) (state, error) {
	var st state
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&st); err != nil {
		return state{}, fmt.Errorf("damaged: %w", err)
	}
	if st.Version != stateVersion {
		return state{}, fmt.Errorf("version %d, this program reads %d", st.Version, stateVersion)
	}
	for _, p := range st.Peers {
		if p.Fingerprint.IsZero() {
			return state{}, errors.New("damaged: a peer has an empty fingerprint")
		}
	}
	if len(st.Rejected) > maxRejected {
		return state{}, fmt.Errorf("damaged: %d rejected contacts, %d at most", len(st.Rejected), maxRejected)
	}
	if t := st.Token; t != nil && (len(t.Key) != keySize || t.Wrong < 0 || t.Expires.Before(t.Created)) {
		return state{}, errors.New("damaged: the pairing token in it cannot be read")
	}
	return st, nil
}
