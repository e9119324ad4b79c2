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
	Role        string      `json:"role"` // master, backup or arbiter
	Name        string      `json:"name"` // for people; may be empty
	ApprovedMS  int64       `json:"approved_ms"`
}

// state is the content of trust.json.
type state struct {
	Version int          `json:"version"`
	Peers   []PeerRecord `json:"peers"`
	Token   *tokenState  `json:"token,omitempty"`
}

const stateVersion = 1

// maxPeers bounds the list: a pool has two peers, the rest leaves room for replaced nodes.
const maxPeers = 64

// Approve records that the node with fingerprint fp is trusted in role, under a name for people.
// Approving again replaces the record. It returns once the record is on disk.
func (s *Store) Approve(fp Fingerprint, role, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.withPeer(fp, role, name)
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

// withPeer returns the state with fp approved; s.mu is held.
func (s *Store) withPeer(fp Fingerprint, role, name string) (state, error) {
	switch {
	case fp.IsZero():
		return state{}, errors.New("trust: approve: the fingerprint is empty")
	case fp == s.fp:
		return state{}, errors.New("trust: approve: this is the node's own fingerprint: " +
			"the address belongs to this node, or its data folder was copied from here")
	case role != "master" && role != "backup" && role != "arbiter":
		return state{}, fmt.Errorf("trust: approve: role %q is not one of master, backup, arbiter", role)
	case len(name) > 256:
		return state{}, fmt.Errorf("trust: approve: the name has %d bytes: 256 at most", len(name))
	}
	next := s.state
	next.Peers = slices.DeleteFunc(slices.Clone(s.state.Peers), func(p PeerRecord) bool { return p.Fingerprint == fp })
	if len(next.Peers) >= maxPeers {
		return state{}, fmt.Errorf("trust: approve: %d peers are approved already: withdraw those that are gone", maxPeers)
	}
	next.Peers = append(next.Peers, PeerRecord{
		Fingerprint: fp, Role: role, Name: name, ApprovedMS: s.now().UnixMilli(),
	})
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
	if t := st.Token; t != nil && (len(t.Key) != keySize || t.Wrong < 0 || t.Expires.Before(t.Created)) {
		return state{}, errors.New("damaged: the pairing token in it cannot be read")
	}
	return st, nil
}
