package manager

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
	"redundancypool/web"
)

// acquaintance is what this process has heard of the other sides' trust in this node. It is for
// people to see; what counts is what the other side answers.
type acquaintance struct {
	mu     sync.Mutex
	theirs map[trust.Fingerprint]bool // it trusts this node
}

func (a *acquaintance) note(fp trust.Fingerprint, trusts bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.theirs == nil || len(a.theirs) > 100 {
		a.theirs = map[trust.Fingerprint]bool{}
	}
	a.theirs[fp] = trusts
}

func (a *acquaintance) trusts(fp trust.Fingerprint) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.theirs[fp]
}

// met hears of everybody who contacts this Manager, and notes who may be its partner. A member of a
// running pool meets nobody new; only that a partner comes with another key is worth to be known.
func (m *Manager) met(c arbiter.Contact) error {
	s, _, e := m.snapshot()
	text, _ := c.Fingerprint.MarshalText()
	bound := e != nil && e.pool != nil && e.pool.Record().Phase == pool.PhaseEffective
	if bound && inPool(e, string(text)) || c.Role == pool.Arbiter.String() || s.Mode != settings.Standalone && c.Role == string(s.Mode) {
		return nil
	}
	from := c.Address.Addr().Unmap()
	expected := s.Mode != settings.Standalone && (from == s.Peer.Address || from == s.Peer.Second)
	if bound && !expected {
		return nil
	}
	note, fresh, err := arbiter.Note(m.trust, c, c.Port, expected)
	if err == nil {
		m.known.note(c.Fingerprint, c.Trusts != "")
	}
	if fresh {
		m.reportContact(note)
	}
	return arbiter.RefuseContact(err)
}

// inPool reports whether a key, as 64 hex digits, is that of another member of this node's pool.
func inPool(e *engine, fingerprint string) bool {
	rec := e.pool.Record()
	for _, o := range rec.Members {
		if o.ID != rec.Self && o.Fingerprint == fingerprint {
			return true
		}
	}
	return false
}

// reportContact makes an event of a key that is new here.
func (m *Manager) reportContact(c trust.Contact) {
	details := map[string]any{"fingerprint": c.Fingerprint.String(), "address": c.Address, "name": c.Name}
	if c.Instead.IsZero() {
		m.event(journal.Warning, "trust", "first_contact", fmt.Sprintf("%s at %s came for the first time and waits for approval", called(c), c.Address), details)
		return
	}
	details["approved"] = c.Instead.String()
	m.event(journal.Error, "trust", "certificate_changed",
		fmt.Sprintf("%s at %s has another certificate than the approved one and is refused: compare the fingerprints, then approve the new one, or replace the member", called(c), c.Address), details)
}

// called is a contact's role and name for people.
func called(c trust.Contact) string {
	what := "a Manager that is not set to anything"
	if c.Role != "" {
		what = "a node that says it is " + c.Role
	}
	if c.Name != "" {
		what += " (" + c.Name + ")"
	}
	return what
}

// contact shows this node's key to a partner and notes the partner's. Errors: *arbiter.ContactError,
// *transport.Refusal with a code, *trust.ChangedError, or why the key that answers is not taken
// (trust.ErrRejected).
func (m *Manager) contact(ctx context.Context, s settings.Settings, as pool.Role, at netip.AddrPort) (arbiter.Contact, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Timing.ConnectTimeout+3*time.Second)
	defer cancel()
	self := m.introduction("")
	self.Role, self.Name, self.Port = pool.Master.String(), nodeName(s, m.trust), s.Local.MemberPort()
	if as == pool.Master {
		self.Role = pool.Backup.String()
	}
	c, err := arbiter.Greet(ctx, m.trust, at, self)
	var no *transport.Refusal
	if errors.As(err, &no) && no.Code == "rejected" {
		return c, transport.Refuse("rejected", "this Manager was rejected there: approve it there by its fingerprint, if that was wrong")
	}
	if err != nil {
		return c, err
	}
	note, fresh, err := arbiter.Note(m.trust, c, at.Port(), true)
	if fresh {
		m.reportContact(note)
	}
	if err != nil {
		return c, err
	}
	m.known.note(c.Fingerprint, c.Trusts != "")
	if known, ok := m.trust.Lookup(c.Fingerprint); ok && known.Role == as.String() && known.Address != at.String() {
		known.Address = at.String() // the same key: it has moved, or its address was not known
		if err := m.trust.Approve(known); err != nil {
			return c, err
		}
	}
	arb := pool.Arbiter.String()
	switch {
	case c.Role != as.String() && (c.Role == arb || as == pool.Arbiter || c.Role != pool.Standalone.String()):
		return c, transport.Refuse("wrong_role", "it is %s, not %v", c.Role, as)
	case !note.Instead.IsZero():
		return c, &trust.ChangedError{Role: as.String(), Address: at.String(), Approved: note.Instead, Got: c.Fingerprint}
	case c.Standing == pool.Stray:
		return c, transport.Refuse("not_fresh", "it is not newly installed: its folder has state of another pool; run \"arbiter reset\" on its machine")
	case c.Standing == pool.Bound && !c.Fellow:
		fix := "leave that pool first"
		if as == pool.Arbiter {
			fix += ", or run \"arbiter reset\" on its machine if it no longer exists"
		}
		return c, transport.Refuse("belongs_to_pool", "it already belongs to another pool; %s", fix)
	}
	return c, nil
}

// changed hears of connections between members that came to nothing because of another key.
func (m *Manager) changed(addr, want string, err error) {
	var pe *trust.PeerError
	if !errors.As(err, &pe) || pe.Want.IsZero() {
		return
	}
	known, ok := m.trust.Lookup(pe.Want)
	if !ok {
		return
	}
	c := trust.Contact{Fingerprint: pe.Got, Role: known.Role, Name: known.Name, Address: addr, Instead: pe.Want}
	if fresh, err := m.trust.Meet(c, true); err == nil && fresh {
		m.reportContact(c)
	}
}

// refusedPeer hears of peers on the pool port that were not admitted: a member of the running pool that
// comes with another key is reported.
func (m *Manager) refusedPeer(from net.Addr, h transport.Hello, fingerprint string, err error) {
	var no *transport.Refusal
	if !errors.As(err, &no) || no.Code != "fingerprint" {
		return
	}
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil {
		return
	}
	o, ok := e.pool.Record().Member(pool.MemberID(h.From))
	got, err1 := trust.ParseFingerprint(fingerprint)
	want, err2 := trust.ParseFingerprint(o.Fingerprint)
	if !ok || err1 != nil || err2 != nil {
		return
	}
	host, _, _ := net.SplitHostPort(from.String())
	c := trust.Contact{Fingerprint: got, Role: o.Role.String(), Name: o.Name, Address: host, Instead: want}
	if fresh, err := m.trust.Meet(c, host == o.Address.Addr().String()); err == nil && fresh {
		m.reportContact(c)
	}
}

// partner is a member that this node's settings name.
type partner struct {
	role  pool.Role
	at    netip.AddrPort
	field string // of the form
}

// partners are those of a mode, with an address.
func partners(s settings.Settings) []partner {
	all := []partner{{pool.Master, s.Peer.AddrPort(), "peer.address"}}
	switch s.Mode {
	case settings.Master:
		all = []partner{{pool.Backup, s.Peer.AddrPort(), "peer.address"}, {pool.Arbiter, s.Arbiter.AddrPort(), "arbiter.address"}}
	case settings.Standalone, "":
		return nil
	}
	out := all[:0]
	for _, p := range all {
		if p.at.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// approvedAt returns the trusted peer of a role at an address: the newest one there, else the newest
// whose address is not known. A node that moved is known there again once it was contacted.
func (m *Manager) approvedAt(role pool.Role, at netip.AddrPort) (trust.PeerRecord, error) {
	if p, ok := m.trust.Expected(role.String(), at.String()); ok {
		return p, nil
	}
	if role == pool.Master { // where its connections come from need not be where it listens
		return m.approved(role)
	}
	return trust.PeerRecord{}, transport.Refuse("not_trusted", "no %v at %v is trusted yet: give its pairing token, or approve its fingerprint", role, at)
}

// fieldOfContact puts what a first contact came to beside the form's field.
func fieldOfContact(p partner, err error) error {
	var no *transport.Refusal
	var ch *trust.ChangedError
	switch {
	case errors.As(err, &ch):
		return fieldError(p.field, "certificate_changed", ch.Error(),
			"compare the new fingerprint on that machine and approve it on the page Redundancy connections only if it is the right machine, or give its pairing token")
	case errors.As(err, &no):
		return fieldError(p.field, no.Code, fmt.Sprintf("the %v at %v refuses: %s", p.role, p.at, no.Text), "correct it on that side or here, then set again")
	case errors.Is(err, trust.ErrRejected):
		return fieldError(p.field, "rejected", fmt.Sprintf("the %v at %v was rejected on this Manager", p.role, p.at), "approve it on the page Redundancy connections, if that was wrong")
	}
	return fieldError(p.field, "unreachable", fmt.Sprintf("first contact with the %v at %v: %v", p.role, p.at, err), "check address and port, and that it runs")
}

// awaitTrust makes contact with a partner once, and tells in words what is missing until both trust
// each other; nil: nothing is.
func (m *Manager) awaitTrust(ctx context.Context, s settings.Settings, p partner) error {
	met, err := m.contact(ctx, s, p.role, p.at)
	if err != nil {
		var no *transport.Refusal
		if errors.As(err, &no) {
			return transport.Refuse(no.Code, "%v at %v: %s", p.role, p.at, no.Text)
		}
		return fmt.Errorf("%v at %v: %w", p.role, p.at, err)
	}
	known, here := m.trust.Lookup(met.Fingerprint)
	here = here && known.Role == p.role.String()
	there := met.Trusts == pool.Master.String()
	name := fmt.Sprintf("the %v at %v", p.role, p.at)
	switch {
	case !here && !there:
		return transport.Refuse("not_trusted", "waiting for approval on this Manager and on %s", name)
	case !here:
		return transport.Refuse("not_trusted", "waiting for approval of %s on this Manager", name)
	case !there:
		return transport.Refuse("not_trusted", "waiting for approval of this Manager on %s", name)
	}
	return nil
}

// describeTrust adds the partners of a pool that is being formed and are no members yet, and says of each
// that is not trusted that it is not: nothing works with it until then. A partner of whatever mode that
// comes with another key is told as well.
func (m *Manager) describeTrust(r *web.Redundancy, s settings.Settings, prog settings.Progress) {
	for _, c := range m.trust.Contacts() {
		if !c.Instead.IsZero() && c.Rejected.IsZero() {
			r.Reasons = append(r.Reasons, web.Reason{Code: "certificate_changed", Text: fmt.Sprintf("the %s at %s comes with another certificate than the approved one and is refused: see Redundancy connections", c.Role, c.Address)})
		}
	}
	if !prog.Forming {
		return
	}
	for _, p := range partners(s) {
		if slices.ContainsFunc(r.Members, func(o web.Member) bool { return o.Role == p.role.String() }) {
			continue
		}
		row := web.Member{Name: "", Role: p.role.String(), Status: pool.Unknown.String(), Address: p.at.String()}
		if known, err := m.approvedAt(p.role, p.at); err == nil {
			row.Name = known.Name
		} else {
			row.Status = pool.Unreachable.String()
			r.Reasons = append(r.Reasons, web.Reason{Code: "not_trusted", Text: fmt.Sprintf("the %v at %v is not trusted here yet: approve its fingerprint, or pair it with a token", p.role, p.at)})
		}
		r.Members = append(r.Members, row)
	}
}
