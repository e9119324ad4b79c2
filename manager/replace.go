package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/trust"
	"redundancypool/web"
)

// Replace puts a new machine in the place of a member of the running pool, dead or alive. It is
// done by the Primary while it serves: the old one goes out first, so that the quorum is never
// lost; the new one reads along, is filled, and then votes. step gets what happens; who stops
// listening does not stop it.
func (f faces) Replace(ctx context.Context, q control.Replacement, step func(control.Step) error) (control.Done, error) {
	m := f.m
	e, err := m.primaryEngine(ctx)
	if err != nil {
		return control.Done{}, err
	}
	role, old, err := e.place(q.Member)
	if err != nil {
		return control.Done{}, err
	}
	next := pool.Member{Role: role, Symbol: old.Symbol, Comment: old.Comment}
	if next.Address, next.Second, err = e.newAddress(q, old); err != nil {
		return control.Done{}, err
	}
	if err := e.quorumWithout(old); err != nil {
		return control.Done{}, err
	}
	if !q.Yes {
		return control.Done{}, e.askReplace(role, old, next)
	}
	peer, err := e.pairNew(ctx, role, old, next.Address, q.Pairing)
	if err != nil {
		return control.Done{}, err
	}
	text, _ := peer.Fingerprint.MarshalText()
	next.Fingerprint = string(text)
	// Asked before anything is changed: who refuses is told beside its field.
	ask, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := m.askMember(ask, next.Fingerprint, e.joinRequest(role, next.Address)); err != nil {
		return control.Done{}, fieldError("address", "refused", fmt.Sprintf("the new %v at %v: %v", role, next.Address, err), "correct it on that side or here, and try again")
	}
	w := m.startWork("Replacing the " + title(role))
	e.wg.Go(func() { e.replace(e.ctx, w, old, next) })
	return w.follow(ctx, step)
}

// title is a role as people write it.
func title(r pool.Role) string { return web.Word(r.String()) }

// primaryEngine returns the engine of the Primary of a running pool, or says where that is.
func (m *Manager) primaryEngine(ctx context.Context) (*engine, error) {
	e, err := m.engineNow(ctx)
	if err != nil {
		return nil, err
	}
	if e.pool == nil || e.pool.Record().Phase != pool.PhaseEffective {
		return nil, refuse("not_in_pool", "form a pool first", "this Manager belongs to no running pool")
	}
	if e.onDuty(ctx) {
		return e, nil
	}
	for _, o := range e.pool.State().Members {
		if o.Status == pool.Primary {
			return nil, refuse("not_primary", fmt.Sprintf("do it there: https://%v:8443/members", o.Address.Addr()), "%s at %v is Primary", o.Name, o.Address.Addr())
		}
	}
	return nil, refuse("no_primary", "bring another member back, or see \"manager redundancy recover\"", "no Manager is Primary now")
}

// place finds whose place is meant; old is empty when nobody is in it.
func (e *engine) place(member string) (role pool.Role, old pool.Member, err error) {
	role, known := map[string]pool.Role{"master": pool.Master, "backup": pool.Backup, "arbiter": pool.Arbiter}[strings.ToLower(member)]
	if !known {
		return role, old, fieldError("member", "invalid", fmt.Sprintf("%.40q is no member", member), "give master, backup or arbiter")
	}
	rec := e.pool.Record()
	old, _ = rec.ByRole(role)
	if old.ID == rec.Self {
		return role, old, fieldError("member", "invalid", "this Manager itself is the "+role.String(), "hand over first, and do it on the other Manager")
	}
	return role, old, nil
}

func (e *engine) newAddress(q control.Replacement, old pool.Member) (first, second netip.AddrPort, err error) {
	port := q.Port
	if port == 0 {
		port = 8099
	}
	if q.Address == "" {
		if !old.Address.IsValid() {
			return first, second, fieldError("address", "required", "the address is missing", "give the new machine's address")
		}
		if q.Port == 0 {
			port = old.Address.Port()
		}
		return netip.AddrPortFrom(old.Address.Addr(), port), old.Second, nil
	}
	a, err := netip.ParseAddr(q.Address)
	if err != nil {
		return first, second, fieldError("address", "invalid", fmt.Sprintf("%.60q is not an IP address", q.Address), "give the new machine's address")
	}
	first = netip.AddrPortFrom(a, port)
	for _, o := range e.pool.Record().Members {
		if o.ID != old.ID && o.Address == first {
			return first, second, fieldError("address", "duplicate", fmt.Sprintf("%v is %s", first, o.Name), "every member needs an address of its own")
		}
	}
	if !e.settings.VIP.Contains(a) {
		return first, second, fieldError("address", "subnet", fmt.Sprintf("%v is outside %v, the network of the virtual IP", a, e.settings.VIP.Masked()), "members and virtual IP share one LAN")
	}
	if q.Second != "" {
		b, err := netip.ParseAddr(q.Second)
		if err != nil {
			return first, second, fieldError("second", "invalid", fmt.Sprintf("%.60q is not an IP address", q.Second), "give the address on the second path, or nothing")
		}
		second = netip.AddrPortFrom(b, port)
	} else if a == old.Address.Addr() {
		second = old.Second
	}
	return first, second, nil
}

// quorumWithout refuses to take a member out while the third does not answer: nobody could agree.
func (e *engine) quorumWithout(old pool.Member) error {
	st := e.pool.State()
	for _, o := range st.Members {
		if o.ID != st.Record.Self && o.ID != old.ID && o.Status != pool.Online {
			return refuse("no_quorum", "bring it back first; if it is lost too, see \"manager redundancy recover\"", "%s at %v does not answer, and taking a member out needs it", o.Name, o.Address)
		}
	}
	return nil
}

func (e *engine) askReplace(role pool.Role, old, next pool.Member) error {
	out := &control.Error{Code: "confirm", Message: "a member of the running pool is replaced", Fix: "confirm it, or give --yes"}
	alive := false
	for _, o := range e.pool.State().Members {
		alive = alive || o.ID == old.ID && (o.Status == pool.Online || o.Status == pool.Primary)
	}
	switch {
	case old.ID == "":
	case alive:
		out.Confirm = append(out.Confirm, control.Question{Code: "alive", Text: fmt.Sprintf("%s at %v is alive. It is taken out of the pool and forgets it.", old.Name, old.Address), Word: "replace"})
	default:
		out.Confirm = append(out.Confirm, control.Question{Code: "dead", Text: fmt.Sprintf("%s at %v does not answer. It is taken out of the pool; when it comes back it is refused until it has been reset.", old.Name, old.Address)})
	}
	text := fmt.Sprintf("The machine at %v becomes the %s. Service goes on meanwhile; a failover is not possible until it is done.", next.Address, title(role))
	if role != pool.Arbiter {
		text += " Its own data are saved there and replaced by a copy of this Manager's."
	}
	out.Confirm = append(out.Confirm, control.Question{Code: "new", Text: text})
	return out
}

// pairNew proves this Manager and the new machine to each other, or finds that done.
func (e *engine) pairNew(ctx context.Context, role pool.Role, old pool.Member, at netip.AddrPort, pairing string) (trust.PeerRecord, error) {
	m := e.m
	kind := role
	if kind == pool.Master { // it waits as a Backup, and takes the Master's place once it is filled
		kind = pool.Backup
	}
	if pairing == "" {
		var best trust.PeerRecord
		for _, r := range m.trust.List() {
			text, _ := r.Fingerprint.MarshalText()
			if (r.Role == kind.String() || r.Role == role.String()) && string(text) != old.Fingerprint && r.ApprovedMS >= best.ApprovedMS {
				best = r
			}
		}
		if best.Fingerprint.IsZero() {
			return best, fieldError("pairing", "required", fmt.Sprintf("the new %v is not trusted yet", role), fmt.Sprintf("give the pairing token of the machine at %v", at))
		}
		return best, nil
	}
	token, err := trust.ParseToken(pairing)
	if err != nil {
		return trust.PeerRecord{}, fieldError("pairing", "invalid", err.Error(), "copy the token again")
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ans, err := arbiter.Pair(ctx, m.trust, m.dialer, at, token, pool.Master, m.name())
	if known, ok := m.trust.Lookup(token.Fingerprint); err != nil && ok && isRefusal(err) {
		return known, nil // it served in an earlier try
	}
	if err != nil {
		return trust.PeerRecord{}, fieldError("pairing", "pairing", fmt.Sprintf("pairing with the machine at %v: %v", at, err), "check address and port, that it runs and waits, and that the token is its newest one")
	}
	if ans.Role != kind {
		return trust.PeerRecord{}, fieldError("pairing", "wrong_role", fmt.Sprintf("the node at %v is %v, not %v", at, ans.Role, kind), "give the token of the right machine")
	}
	m.event(journal.Info, "trust", "paired", fmt.Sprintf("%s at %v is trusted as %v", ans.Name, at, role), nil)
	known, _ := m.trust.Lookup(token.Fingerprint)
	return known, nil
}

func (e *engine) joinRequest(role pool.Role, at netip.AddrPort) pool.JoinRequest {
	rec := e.pool.Record()
	as := role
	if as == pool.Master {
		as = pool.Backup
	}
	me, _ := rec.Member(rec.Self)
	return pool.JoinRequest{
		Pool: rec.Pool, Incarnation: rec.Incarnation, As: as, Address: at, Master: me.Address,
		VIP: rec.VIP, Version: e.m.cfg.Version, Remaining: e.m.cfg.ConfigurationTimeout,
	}
}

// replace does what Replace and Resync have prepared.
func (e *engine) replace(ctx context.Context, w *work, old, next pool.Member) {
	limited, cancel := context.WithTimeout(ctx, e.m.cfg.ConfigurationTimeout)
	defer cancel()
	name, err := e.exchange(limited, w, old, next)
	if err != nil {
		e.m.event(journal.Error, "pool", "replace_failed", "replacing the "+next.Role.String()+": "+err.Error(), nil)
		w.finish("", err)
		return
	}
	e.m.event(journal.Info, "pool", "replaced", name+" is the "+title(next.Role)+" now", nil)
	w.finish(name+" is the "+title(next.Role)+" now and in step", nil)
}

// exchange takes old out, if there is one, and puts next in; it returns the new member's name.
func (e *engine) exchange(ctx context.Context, w *work, old, next pool.Member) (string, error) {
	if old.ID != "" {
		w.step("out", old.Name+" is being taken out", false)
		err := e.agree(ctx, old.Name+" is taken out of the pool", func(a *agreement) error {
			a.Members = slices.DeleteFunc(slices.Clone(a.Members), func(o pool.Member) bool { return o.ID == old.ID })
			a.Gone = pool.Bury(a.Gone, old, pool.GoneReplaced)
			return nil
		})
		if err != nil {
			return "", err
		}
		if err := e.awaitReconciled(ctx, w.poolStep); err != nil {
			return "", fmt.Errorf("take %s out: %w", old.Name, err)
		}
		w.step("out", old.Name+" is out", true)
		if old.Fingerprint != next.Fingerprint {
			e.dismissOld(ctx, old)
		}
	}
	j, err := e.joinSoon(ctx, next)
	if err != nil {
		return "", fmt.Errorf("the new %v at %v: %w", next.Role, next.Address, err)
	}
	next.ID, next.Name, next.MAC, next.Deactivated = j.ID, j.Name, j.MAC, false
	if j.Second.IsValid() {
		next.Second = j.Second
	}
	w.step("join", j.Name+" agrees to join", true)
	if err := e.agree(ctx, next.Name+" becomes the "+next.Role.String(), func(a *agreement) error {
		a.Members = append(slices.Clone(a.Members), next)
		return nil
	}); err != nil {
		return "", err
	}
	if err := e.planFor(ctx, next); err != nil {
		undo := e.agree(ctx, next.Name+" could not be configured and is left out", func(a *agreement) error {
			a.Members = slices.DeleteFunc(slices.Clone(a.Members), func(o pool.Member) bool { return o.ID == next.ID })
			return nil
		})
		return "", errors.Join(fmt.Errorf("configure %s at %v: %w", next.Name, next.Address, err), undo)
	}
	if err := e.awaitReconciled(ctx, w.poolStep); err != nil {
		return "", fmt.Errorf("fill %s: %w", next.Name, err)
	}
	return next.Name, nil
}

// dismissOld tells a member that was taken out alive, and ends the trust in it.
func (e *engine) dismissOld(ctx context.Context, old pool.Member) {
	rec := e.pool.Record()
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := e.m.call(short, old.Address, old.Fingerprint, pool.MethodDismiss, pool.Attempt{Pool: rec.Pool, Why: old.Name + " was replaced"}, nil); err != nil {
		e.m.log.Info("the replaced member could not be told; it is refused when it comes back", "member", old.Name, "error", err)
	}
	if fp, err := trust.ParseFingerprint(old.Fingerprint); err == nil {
		if err := e.m.trust.Withdraw(fp); err != nil {
			e.m.log.Warn("withdraw the approval of a replaced member", "error", err)
		}
	}
}

// joinSoon asks a machine to join, again while it is still getting ready for that.
func (e *engine) joinSoon(ctx context.Context, next pool.Member) (j pool.JoinAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err = e.m.call(ctx, next.Address, next.Fingerprint, pool.MethodJoin, e.joinRequest(next.Role, next.Address), &j)
		var no *transport.Refusal
		if err == nil || errors.As(err, &no) && no.Code != "busy" && no.Code != "belongs_to_pool" && no.Code != "not_on_hold" {
			return j, err
		}
		if !rest(ctx, nil, 200*time.Millisecond) {
			return j, err
		}
	}
}

// planFor gives the new member the whole pool.
func (e *engine) planFor(ctx context.Context, next pool.Member) error {
	rec := e.pool.Record()
	rec.Phase, rec.Highest = pool.PhaseForming, nil
	plan := pool.Plan{Record: rec, Remaining: e.m.cfg.ConfigurationTimeout}
	if next.Role != pool.Arbiter {
		var err error
		if plan.Certificate, plan.Key, err = e.m.trust.PoolCertificatePEM(); err != nil {
			return err
		}
	}
	return e.m.call(ctx, next.Address, next.Fingerprint, pool.MethodPlan, plan, nil)
}
