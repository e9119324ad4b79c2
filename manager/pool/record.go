package pool

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
)

// MemberID names a member's Raft store. It is born with the store and dies with it: a member
// that lost its store comes back under a new one.
type MemberID string

// Member is one of the pool.
type Member struct {
	ID          MemberID       `json:"id"`
	Name        string         `json:"name"`
	Role        Role           `json:"role"`
	Address     netip.AddrPort `json:"address"`          // pool port on the first path
	Second      netip.AddrPort `json:"second,omitzero"`  // pool port on the second path, if any
	Fingerprint string         `json:"fingerprint"`      // of its public key
	MAC         string         `json:"mac,omitempty"`    // of the interface towards the LAN, to know its ARP answers
	Symbol      string         `json:"symbol,omitempty"` // free text of the operator
	Comment     string         `json:"comment,omitempty"`
	// Deactivated: it votes, but takes no Primary and may be away (maintenance).
	Deactivated bool `json:"deactivated,omitempty"`
}

// addr returns the member's address on a path; invalid when it has none there.
func (m Member) addr(path int) netip.AddrPort {
	if path == 1 {
		return m.Second
	}
	return m.Address
}

// Phase is how far a pool has come.
type Phase string

// The phases of a Record.
const (
	PhaseSingle    Phase = "single"    // a pool of one
	PhaseForming   Phase = "forming"   // members are known, but no second one votes yet
	PhaseEffective Phase = "effective" // three voters
)

// Record is what a member knows of its pool beside the Raft log: who is who and where. It is
// kept in pool.json in the member's folder.
type Record struct {
	Pool        string   `json:"pool"`        // keys the data; survives forming and leaving
	Incarnation string   `json:"incarnation"` // new at each forming and each forced survival
	Self        MemberID `json:"self"`
	Phase       Phase    `json:"phase"`
	Members     []Member `json:"members"` // this node included
	Timing      Timing   `json:"timing"`
	VIP         string   `json:"vip,omitempty"`    // address/prefix, the same on all
	Active      bool     `json:"active,omitempty"` // the Master takes Primary back by itself
	// Revision counts the changes that were agreed on while the pool ran.
	Revision uint64 `json:"revision,omitempty"`
	// Gone are former members, so that they learn when they come back.
	Gone []Gone `json:"gone,omitempty"`
	// Highest is the highest log term seen of each member: one that returns with less has lost
	// or rolled back its store.
	Highest map[MemberID]Position `json:"highest,omitempty"`
}

// Position is a place in the log.
type Position struct {
	Term  uint64 `json:"term"`
	Index uint64 `json:"index"`
}

// Before reports whether p is older than q by Raft's order of logs.
func (p Position) Before(q Position) bool {
	return p.Term < q.Term || p.Term == q.Term && p.Index < q.Index
}

// Member returns the member with that id.
func (r Record) Member(id MemberID) (Member, bool) {
	i := slices.IndexFunc(r.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return r.Members[i], true
}

// ByRole returns the first member with that role.
func (r Record) ByRole(role Role) (Member, bool) {
	i := slices.IndexFunc(r.Members, func(m Member) bool { return m.Role == role })
	if i < 0 {
		return Member{}, false
	}
	return r.Members[i], true
}

// me returns this node's own entry.
func (r Record) me() Member { m, _ := r.Member(r.Self); return m }

// NewID returns a random identity of 128 bits in hexadecimal.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

const recordFile = "pool.json"

// ReadRecord reads the pool record in dir. errors.Is(err, fs.ErrNotExist) when there is none.
func ReadRecord(dir string) (Record, error) {
	path := filepath.Join(dir, recordFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, fmt.Errorf("%s is damaged (%w): restore it from a backup of the folder, or reset this member", path, err)
	}
	if r.Pool == "" || r.Self == "" || len(r.Members) == 0 {
		return Record{}, fmt.Errorf("%s is incomplete: it must name the pool, this member and all members", path)
	}
	if _, ok := r.Member(r.Self); !ok {
		return Record{}, fmt.Errorf("%s does not list this member %s", path, r.Self)
	}
	return r, nil
}

// WriteRecord replaces the pool record in dir, durably and in one step.
func WriteRecord(dir string, r Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(dir, recordFile), append(b, '\n')); err != nil {
		return fmt.Errorf("write pool record: %w", err)
	}
	return nil
}

// replaceFile writes body beside path, syncs it, renames it over path and syncs the folder.
func replaceFile(path string, body []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}
