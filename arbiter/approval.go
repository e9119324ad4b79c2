package arbiter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/trust"
)

// Note puts down the key of a contact for a person to approve, where it came from another node or
// answered a call of this one. port is the pool port of that node, 0 when it is not known. With expected
// it is where this node was told that a partner is. It returns what was put down, and whether
// that key is new here. Errors: as trust.Store.Meet. The Managers use it as well.
func Note(s *trust.Store, c Contact, port uint16, expected bool) (note trust.Contact, fresh bool, err error) {
	note = trust.Contact{Fingerprint: c.Fingerprint, Role: c.Role, Name: c.Name, Address: c.Address.Addr().Unmap().String()}
	if port != 0 {
		note.Address = netip.AddrPortFrom(c.Address.Addr().Unmap(), port).String()
	}
	if note.Role == pool.Standalone.String() {
		note.Role = "" // not set to anything yet
	}
	if p, ok := s.Expected(note.Role, note.Address); ok && p.Fingerprint != note.Fingerprint && !s.Approved(note.Fingerprint) {
		note.Instead = p.Fingerprint
	}
	fresh, err = s.Meet(note, expected)
	return note, fresh, err
}

// met hears of everybody who contacts this Arbiter. A Master waits for its approval here; a Manager that
// is not set yet may become one.
func (a *Arbiter) met(c Contact) error {
	if p := a.seen.Load(); p != nil && p.Record().Phase == pool.PhaseEffective {
		return nil // it belongs to a pool, and says so
	}
	if c.Role != pool.Master.String() && c.Role != pool.Standalone.String() {
		return nil
	}
	note, fresh, err := Note(a.trust, c, 0, false)
	if fresh {
		text := fmt.Sprintf("%s at %s came for the first time and waits for approval: compare the fingerprint with the one that it shows itself, then run \"arbiter approve FINGERPRINT\"", note.Name, note.Address)
		code, sev := "first_contact", journal.Warning
		if !note.Instead.IsZero() {
			text, code, sev = "it is not the approved Master: "+text, "certificate_changed", journal.Error
		}
		a.event(sev, "trust", code, text)
		a.cfg.Log.Warn(code, "from", note.Address, "name", note.Name, "fingerprint", note.Fingerprint.String())
	}
	return RefuseContact(err)
}

// RefuseContact gives the reasons of Meet a code that the other side understands; nil stays nil.
func RefuseContact(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, trust.ErrRejected):
		return transport.Refuse("rejected", "%v", err)
	case errors.Is(err, trust.ErrTooMany):
		return transport.Refuse("too_often", "%v", err)
	}
	return transport.Refuse("refused", "%v", err)
}

// takenLocked says why this Arbiter is not free for the pool with that id: it belongs to another, or
// its folder has state that no new Arbiter has.
func (a *Arbiter) takenLocked(id string) error {
	if stray := a.stray.Load(); stray != nil {
		return transport.Refuse("not_fresh", "this Arbiter is not newly installed: %s has the store of a pool without its record; run \"arbiter reset\" on its machine", *stray)
	}
	if a.member == nil {
		return nil
	}
	rec := a.member.Record()
	if rec.Pool != id || rec.Phase == pool.PhaseEffective {
		return transport.Refuse("belongs_to_pool", "this Arbiter already belongs to pool %s; leave that pool first, or run \"arbiter reset\" on its machine if it no longer exists", short(rec.Pool))
	}
	return nil
}

// isStray reports whether a folder below pools has more than a join that came to nothing.
func isStray(dir string) bool {
	list, err := os.ReadDir(dir)
	if err != nil {
		return true
	}
	return slices.ContainsFunc(list, func(f os.DirEntry) bool { return f.Name() != joinFile && f.Name() != joinFile+".new" })
}

// Connections is what "arbiter connections --json" prints.
type Connections struct {
	Fingerprint trust.Fingerprint  `json:"fingerprint"` // of this Arbiter
	Approved    []trust.PeerRecord `json:"approved"`
	Contacts    []trust.Contact    `json:"contacts"`
}

// trustCall is the body of the commands about trust.
type trustCall struct {
	Fingerprint string `json:"fingerprint"`
}

// trustOps are the commands about trust on the control socket.
func (a *Arbiter) trustOps() map[string]control.Handler {
	about := func(code string, do func(trust.Fingerprint) (string, error)) control.Handler {
		return func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var q trustCall
			if err := json.Unmarshal(in, &q); err != nil {
				return nil, &control.Error{Code: "malformed", Message: "the request cannot be read"}
			}
			fp, err := trust.ParseFingerprint(q.Fingerprint)
			if err != nil {
				return nil, err
			}
			text, err := do(fp)
			if err == nil {
				a.event(journal.Warning, "trust", code, text+", by "+caller(ctx))
			}
			return control.Done{Message: text}, err
		}
	}
	return map[string]control.Handler{
		"connections": func(context.Context, json.RawMessage, func(any) error) (any, error) {
			c := Connections{Fingerprint: a.trust.Fingerprint(), Approved: a.trust.List(), Contacts: a.trust.Contacts()}
			if c.Approved == nil {
				c.Approved = []trust.PeerRecord{}
			}
			if c.Contacts == nil {
				c.Contacts = []trust.Contact{}
			}
			return c, nil
		},
		"approve":  about("approved", a.approve),
		"reject":   about("rejected", a.reject),
		"withdraw": about("withdrawn", a.withdraw),
	}
}

// approve trusts a Master by its fingerprint, also one that has not come yet: who types it has
// compared it.
func (a *Arbiter) approve(fp trust.Fingerprint) (string, error) {
	p := trust.PeerRecord{Fingerprint: fp, Role: pool.Master.String(), How: trust.ByFingerprint}
	var instead []trust.Fingerprint
	if c, ok := a.trust.Contact(fp); ok {
		p.Name, p.Address = c.Name, c.Address
		if !c.Instead.IsZero() {
			instead = append(instead, c.Instead)
		}
	}
	if err := a.trust.Approve(p, instead...); err != nil {
		return "", err
	}
	return "approved as Master: " + fp.String(), nil
}

func (a *Arbiter) reject(fp trust.Fingerprint) (string, error) {
	if err := a.trust.Reject(fp); err != nil {
		return "", err
	}
	return "rejected for an hour: " + fp.String(), nil
}

// withdraw ends the trust in a node that this Arbiter's pool does not need.
func (a *Arbiter) withdraw(fp trust.Fingerprint) (string, error) {
	text, err := fp.MarshalText()
	if err != nil {
		return "", err
	}
	if p := a.seen.Load(); p != nil {
		for _, m := range p.Record().Members {
			if m.Fingerprint == string(text) {
				return "", &control.Error{Code: "in_pool", Message: m.Name + " is a member of this Arbiter's pool", Fix: "leave the pool on the Primary first"}
			}
		}
	}
	if !a.trust.Approved(fp) {
		return "", &control.Error{Code: "unknown", Message: "no such approval: it may be withdrawn already", Fix: "see \"arbiter connections\""}
	}
	if err := a.trust.Withdraw(fp); err != nil {
		return "", fmt.Errorf("withdraw: %w", err)
	}
	return "withdrawn: " + fp.String(), nil
}

// hostOf is where a connection comes from.
func hostOf(c *transport.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().WithZone("").String()
	}
	return ""
}
