package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
)

// Connections implements control.Trust.
func (f faces) Connections(context.Context) (control.Connections, error) {
	m := f.m
	out := control.Connections{Fingerprint: m.trust.Fingerprint().String(), Approved: []control.Approval{}, Contacts: []control.Contact{}}
	_, _, e := m.snapshot()
	member := func(fp trust.Fingerprint) bool {
		text, _ := fp.MarshalText()
		return e != nil && e.pool != nil && inPool(e, string(text))
	}
	for _, p := range m.trust.List() {
		out.Approved = append(out.Approved, control.Approval{
			Fingerprint: p.Fingerprint.String(), Role: p.Role, Name: p.Name, Address: p.Address, How: string(p.How), SinceMS: p.ApprovedMS, InPool: member(p.Fingerprint),
		})
	}
	for _, c := range m.trust.Contacts() {
		k := control.Contact{
			Fingerprint: c.Fingerprint.String(), Role: c.Role, Name: c.Name, Address: c.Address, FirstMS: c.First.UnixMilli(), LastMS: c.Last.UnixMilli(),
		}
		if !c.Rejected.IsZero() {
			k.RejectedUntilMS = c.Rejected.UnixMilli()
		}
		if !c.Instead.IsZero() {
			k.Instead, k.InPool = c.Instead.String(), member(c.Instead)
		}
		out.Contacts = append(out.Contacts, k)
	}
	return out, nil
}

// Contact implements control.Trust.
func (f faces) Contact(ctx context.Context, address, role string) (control.Done, error) {
	m := f.m
	s, _, _ := m.snapshot()
	var as pool.Role
	if err := as.UnmarshalText([]byte(role)); err != nil || as == pool.Standalone {
		return control.Done{}, refuse("invalid", "say master, backup or arbiter", "role %q of the other side", role)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return control.Done{}, refuse("invalid", "give its IP address, with the pool port where that is not 8099", "address %q", address)
		}
		at = netip.AddrPortFrom(ip, settings.DefaultPoolPort)
	}
	met, err := m.contact(ctx, s, as, at)
	if err != nil {
		err := fieldOfContact(partner{as, at, "address"}, err)
		var e *control.Error
		if errors.As(err, &e) && len(e.Fields) == 1 {
			return control.Done{}, refuse(e.Fields[0].Code, e.Fields[0].Fix, "%s", e.Fields[0].Message)
		}
		return control.Done{}, err
	}
	text := fmt.Sprintf("%s at %v answers; its fingerprint is %v", met.Name, at, met.Fingerprint)
	if m.trust.Approved(met.Fingerprint) {
		text += "; it is approved here"
	} else {
		text += "; compare it there, then approve it here"
	}
	if met.Trusts != "" {
		return control.Done{Message: text + "; this Manager is approved there"}, nil
	}
	return control.Done{Message: text + "; this Manager waits for approval there"}, nil
}

// Approve implements control.Trust.
func (f faces) Approve(_ context.Context, fingerprint, role string, yes bool) (control.Done, error) {
	m := f.m
	fp, err := trust.ParseFingerprint(fingerprint)
	if err != nil {
		return control.Done{}, refuse("invalid", "copy it whole", "%v", err)
	}
	c, came := m.trust.Contact(fp)
	if role == "" {
		role = c.Role
	}
	if role == "" {
		if !came {
			return control.Done{}, refuse("unknown", "let it come again, or name its role", "no node with this fingerprint has come here lately")
		}
		return control.Done{}, refuse("role", "say whether it is to be master, backup or arbiter", "this node is not set to anything yet")
	}
	if came && c.Role != "" && c.Role != role {
		return control.Done{}, refuse("wrong_role", "approve it as what it is", "this node says that it is %s, not %s", c.Role, role)
	}
	p := trust.PeerRecord{Fingerprint: fp, Role: role, Name: c.Name, Address: c.Address, How: trust.ByFingerprint}
	if c.Instead.IsZero() {
		if err := m.trust.Approve(p); err != nil {
			return control.Done{}, refuse("invalid", "look at the fingerprint again", "%v", err)
		}
		m.event(journal.Info, "trust", "approved", fmt.Sprintf("%s at %s was approved as %s by its fingerprint", p.Name, p.Address, role), map[string]any{"fingerprint": fp.String()})
		return control.Done{Message: "approved as " + role + ": " + fp.String()}, nil
	}
	text, _ := c.Instead.MarshalText()
	if _, _, e := m.snapshot(); e != nil && e.pool != nil && inPool(e, string(text)) {
		return control.Done{}, refuse("in_pool", "if the machine was installed anew, replace the member on the Primary", "the running pool has another key for this member and cannot take a second one")
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "another key is approved for this node", Fix: "compare the new fingerprint on that machine first", Confirm: []control.Question{
			{Code: "certificate_changed", Text: fmt.Sprintf("The %s at %s had %v, and comes with %v now. Somebody else may answer at its address. Approve the new key only after the fingerprint was read on that machine itself; the old one is then not trusted any more.",
				role, c.Address, c.Instead, fp)}}}
	}
	if err := m.trust.Approve(p, c.Instead); err != nil {
		return control.Done{}, refuse("invalid", "look at the fingerprint again", "%v", err)
	}
	m.event(journal.Warning, "trust", "certificate_replaced", fmt.Sprintf("another key of %s at %s was approved as %s", p.Name, p.Address, role),
		map[string]any{"fingerprint": fp.String(), "before": c.Instead.String()})
	return control.Done{Message: "approved as " + role + " instead of the key before: " + fp.String()}, nil
}

// Reject implements control.Trust.
func (f faces) Reject(_ context.Context, fingerprint string) (control.Done, error) {
	m := f.m
	fp, err := trust.ParseFingerprint(fingerprint)
	if err != nil {
		return control.Done{}, refuse("invalid", "copy it whole", "%v", err)
	}
	c, ok := m.trust.Contact(fp)
	if !ok {
		return control.Done{}, refuse("unknown", "an approved node is withdrawn, not rejected", "no node with this fingerprint has come here lately")
	}
	if err := m.trust.Reject(fp); err != nil {
		return control.Done{}, err
	}
	m.event(journal.Warning, "trust", "rejected", fmt.Sprintf("%s at %s was rejected", called(c), c.Address), map[string]any{"fingerprint": fp.String()})
	return control.Done{Message: "rejected for an hour: " + fp.String()}, nil
}

// Withdraw implements control.Trust. Connections that are open are refused at their next
// handshake; a member of the running pool has to leave it first.
func (f faces) Withdraw(_ context.Context, fingerprint string, yes bool) (control.Done, error) {
	m := f.m
	fp, err := trust.ParseFingerprint(fingerprint)
	if err != nil {
		return control.Done{}, refuse("invalid", "copy it whole", "%v", err)
	}
	known, ok := m.trust.Lookup(fp)
	if !ok {
		return control.Done{}, refuse("unknown", "see the list of approvals", "no such approval: it may be withdrawn already")
	}
	text, _ := fp.MarshalText()
	if _, _, e := m.snapshot(); e != nil && e.pool != nil && inPool(e, string(text)) {
		return control.Done{}, refuse("in_pool", "leave the pool first, or replace the member", "%s is a member of the running pool, which needs it", known.Name)
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "an approval is to be withdrawn", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "withdraw", Text: fmt.Sprintf("%s with the fingerprint %v is not trusted as %s any more and cannot connect until it is approved anew.", known.Name, fp, known.Role)}}}
	}
	if err := m.trust.Withdraw(fp); err != nil {
		return control.Done{}, err
	}
	m.event(journal.Warning, "trust", "withdrawn", fmt.Sprintf("the approval of %s as %s was withdrawn", known.Name, known.Role), map[string]any{"fingerprint": fp.String()})
	return control.Done{Message: "the approval was withdrawn"}, nil
}
