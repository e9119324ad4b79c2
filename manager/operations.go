package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
)

// faces is what the command line and the pages can ask of this Manager; they are one piece of
// code underneath.
type faces struct{ m *Manager }

func refuse(code, fix, format string, args ...any) error {
	return &control.Error{Code: code, Message: fmt.Sprintf(format, args...), Fix: fix}
}

var errRestarting = &control.Error{Code: "restarting", Message: "this Manager is restarting into another mode", Fix: "try again in a few seconds"}

// engineNow returns the running engine, waiting a moment for one that is just starting.
func (m *Manager) engineNow(ctx context.Context) (*engine, error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if _, _, e := m.snapshot(); e != nil {
			return e, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil, errRestarting
}

// Set stores new redundancy settings and restarts into them. It returns before the pool forms.
func (f faces) Set(ctx context.Context, form control.Form) (control.Done, error) {
	m := f.m
	e, err := m.engineNow(ctx)
	if err != nil {
		return control.Done{}, err
	}
	old, prog, _ := m.snapshot()
	next, err := old.Apply(form.Values)
	if err != nil {
		return control.Done{}, fieldErrors(err)
	}
	if e.pool != nil && e.pool.Record().Phase == pool.PhaseEffective && next.Mode == old.Mode {
		return m.changeRunning(ctx, e, form)
	}
	next.Deactivated = false
	if err := next.Validate(); err != nil {
		return control.Done{}, fieldErrors(err)
	}
	if prog.Forming {
		return control.Done{}, refuse("forming", "cancel it first with \"manager redundancy cancel\", or wait", "a pool is being formed already")
	}
	if e.pool != nil && e.pool.Record().Phase == pool.PhaseEffective && next.Mode != old.Mode {
		return control.Done{}, refuse("in_pool", "leave it first with \"manager redundancy leave\"", "this Manager belongs to a running pool as %s", old.Mode)
	}
	if next.Mode == settings.Standalone {
		if err := m.checkListeners(old, next); err != nil {
			return control.Done{}, err
		}
		return m.store(next, settings.Progress{}, "settings changed")
	}
	if err := m.checkBeforeSet(ctx, old, next); err != nil {
		return control.Done{}, err
	}
	if next.Mode == settings.Backup && !form.Yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "this Manager's own data will be replaced by the Master's", Fix: "confirm it, or give --yes",
			Confirm: []control.Question{{Code: "replace_data", Text: "The data of this Manager are saved to " + m.savesDir() + " and then replaced by the Master's.", Word: "replace"}}}
	}
	if e.db != nil {
		if _, err := m.saveAs(ctx, e, "before-"+string(next.Mode), "before this Manager was set to "+string(next.Mode), "the settings"); err != nil {
			return control.Done{}, fmt.Errorf("save the database first: %w", err)
		}
	}
	if next.Mode == settings.Master {
		if err := m.pairBoth(ctx, next, form); err != nil {
			return control.Done{}, err
		}
		if err := m.askMembers(ctx, e, next); err != nil {
			return control.Done{}, err
		}
	}
	m.keepPeople(ctx)
	prog = settings.Progress{Forming: true, Attempt: pool.NewID(), Remaining: m.cfg.ConfigurationTimeout, Before: &old}
	d, err := m.store(next, prog, "set to "+string(next.Mode))
	d.Message = fmt.Sprintf("stored; restarting as %s; if the pool is not effective by %s this Manager falls back to Standalone", next.Mode,
		m.deadline())
	return d, err
}

// askMembers asks both members, as far as they trust this Master already, whether they would join with these settings, so that a difference
// is told at once and beside its field; nothing begins yet.
func (m *Manager) askMembers(ctx context.Context, e *engine, s settings.Settings) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	rec := e.pool.Record()
	out := &control.Error{Code: "invalid", Message: "the pool cannot be formed with these settings"}
	for _, o := range []struct {
		role  pool.Role
		at    settings.Member
		field string
	}{{pool.Backup, s.Peer, "peer.address"}, {pool.Arbiter, s.Arbiter, "arbiter.address"}} {
		peer, err := m.approvedAt(o.role, o.at.AddrPort())
		if err != nil {
			continue // waits for approval
		}
		text, _ := peer.Fingerprint.MarshalText()
		q := m.joinRequest(s, o.role, o.at)
		q.Pool, q.Incarnation, q.Remaining = rec.Pool, pool.NewID(), time.Minute
		err = m.askMember(ctx, string(text), q)
		var no *transport.Refusal
		if diff := pool.DifferencesOf(err); len(diff) > 0 {
			for _, d := range diff {
				out.Fields = append(out.Fields, differs(o.role, o.field, d))
			}
			continue
		}
		switch {
		case errors.As(err, &no) && no.Code == "not_trusted": // waits for approval there
		case errors.As(err, &no):
			out.Fields = append(out.Fields, control.FieldError{Field: o.field, Code: no.Code, Message: fmt.Sprintf("the %v at %v refuses: %s", o.role, q.Address, no.Text), Fix: "correct it on that side or here, then set again"})
		case err != nil:
			out.Fields = append(out.Fields, control.FieldError{Field: o.field, Code: "unreachable", Message: fmt.Sprintf("the %v at %v: %v", o.role, q.Address, err), Fix: "check address and port, and that it runs"})
		}
	}
	if len(out.Fields) > 0 {
		return out
	}
	return nil
}

// askMember asks one member, again while it is restarting, and takes the question back.
func (m *Manager) askMember(ctx context.Context, fp string, q pool.JoinRequest) error {
	for {
		err := m.call(ctx, q.Address, fp, pool.MethodJoin, q, nil)
		if err == nil {
			return m.call(ctx, q.Address, fp, pool.MethodAbandon, pool.Attempt{Pool: q.Pool, Incarnation: q.Incarnation, Why: "only asked"}, nil)
		}
		var no *transport.Refusal
		if !errors.As(err, &no) || no.Code != "busy" {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// store writes settings and progress, in the order that a crash between them survives, and asks
// for the restart.
func (m *Manager) store(s settings.Settings, p settings.Progress, why string) (control.Done, error) {
	if err := settings.SaveProgress(m.cfg.Dir, p); err != nil {
		return control.Done{}, err
	}
	if err := settings.Save(m.cfg.Dir, s); err != nil {
		return control.Done{}, err
	}
	m.mu.Lock()
	m.settings, m.progress = s, p
	m.mu.Unlock()
	m.event(journal.Info, "node", "settings", why, nil)
	m.requestRestart(why)
	return control.Done{Message: "stored; restarting"}, nil
}

// fieldErrors turns the settings' errors into the form's.
func fieldErrors(err error) error {
	var es settings.Errors
	if !errors.As(err, &es) {
		return err
	}
	out := &control.Error{Code: "invalid", Message: "the settings cannot be used"}
	for _, e := range es {
		out.Fields = append(out.Fields, control.FieldError(e))
	}
	return out
}

// pairBoth proves this Master to Backup and Arbiter with the tokens given; without a token it shows
// its key to the member, which must have no other than the approved one. What is then still to be
// approved, on either side, is waited for after the restart.
func (m *Manager) pairBoth(ctx context.Context, s settings.Settings, form control.Form) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, p := range []struct {
		role  pool.Role
		at    settings.Member
		field string
		token string
	}{{pool.Backup, s.Peer, "pairing", form.Pairing}, {pool.Arbiter, s.Arbiter, "arbiter_pairing", form.ArbiterPairing}} {
		if p.token == "" {
			o := partner{p.role, p.at.AddrPort(), map[pool.Role]string{pool.Backup: "peer.address", pool.Arbiter: "arbiter.address"}[p.role]}
			met, err := m.contact(ctx, s, o.role, o.at)
			if err == nil && met.Role == pool.Standalone.String() {
				err = transport.Refuse("not_on_hold", "it is Standalone: set it to Backup first")
			}
			if err != nil {
				return fieldOfContact(o, err)
			}
			continue
		}
		token, err := trust.ParseToken(p.token)
		if err != nil {
			return fieldError(p.field, "invalid", err.Error(), "copy the token again")
		}
		ans, err := arbiter.Pair(ctx, m.trust, m.dialer, p.at.AddrPort(), token, pool.Master, nodeName(s, m.trust))
		if known, ok := m.trust.Lookup(token.Fingerprint); err != nil && ok && known.Role == p.role.String() && isRefusal(err) {
			// The token served in an earlier try, and what it was for still holds.
			known.Address = p.at.AddrPort().String()
			if err := m.trust.Approve(known); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fieldError(p.field, "pairing", fmt.Sprintf("pairing with the %v at %v: %v", p.role, p.at.AddrPort(), err),
				"check address and port, that it runs, and that the token is its newest one")
		}
		if ans.Role != p.role {
			return fieldError(p.field, "wrong_role", fmt.Sprintf("the node at %v is %v, not %v", p.at.AddrPort(), ans.Role, p.role), "exchange the two addresses or tokens")
		}
		m.event(journal.Info, "trust", "paired", fmt.Sprintf("%s at %v is trusted as %v", ans.Name, p.at.AddrPort(), p.role), nil)
	}
	return nil
}

func isRefusal(err error) bool { return errors.As(err, new(*transport.Refusal)) }

func fieldError(field, code, message, fix string) error {
	return &control.Error{Code: "invalid", Message: "the settings cannot be used", Fields: []control.FieldError{{Field: field, Code: code, Message: message, Fix: fix}}}
}

// Cancel ends a forming before its deadline.
func (f faces) Cancel(ctx context.Context) (control.Done, error) {
	m := f.m
	e, err := m.engineNow(ctx)
	if err != nil {
		return control.Done{}, err
	}
	s, prog, _ := m.snapshot()
	if !prog.Forming || e.pool != nil && e.pool.Record().Phase == pool.PhaseEffective {
		return control.Done{}, refuse("not_forming", "nothing to do", "no pool is being formed here")
	}
	m.mu.Lock()
	a := m.attempt
	m.mu.Unlock()
	switch {
	case s.Mode == settings.Master && a != nil:
		a.cancel(errCancelled)
	case e.pool != nil && e.pool.Votes():
		return control.Done{}, refuse("voting", "wait a moment, then leave the pool instead", "the pool is just becoming effective")
	default:
		m.fallBack("cancelled", "cancelled by the operator")
	}
	return control.Done{Message: "cancelled; returning to Standalone with the data of before"}, nil
}

// Activate and Deactivate switch redundancy on and off without losing its settings.
func (f faces) Activate(ctx context.Context) (control.Done, error) {
	return f.setMaintenance(ctx, false)
}

// Deactivate implements control.Redundancy.
func (f faces) Deactivate(ctx context.Context, yes bool) (control.Done, error) {
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "a deactivated Manager takes no Primary", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "deactivate", Text: "This Manager votes and follows, but takes no Primary until it is activated; a failover is not possible meanwhile."}}}
	}
	return f.setMaintenance(ctx, true)
}

func (f faces) setMaintenance(ctx context.Context, on bool) (control.Done, error) {
	m := f.m
	e, err := m.engineNow(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if e.pool == nil || e.pool.Record().Phase != pool.PhaseEffective {
		return control.Done{}, refuse("not_in_pool", "form a pool first", "this Manager belongs to no running pool")
	}
	if !on && deactivated(e.pool.Record()) {
		return control.Done{}, refuse("deactivated_there", "activate it there", "this Manager was deactivated on the Primary")
	}
	if on && e.pool.State().Status == pool.Primary {
		if err := e.pool.HandOverFor(context.WithoutCancel(ctx), pool.CauseMaintenance, "redundancy is being deactivated here", func(string) {}); err != nil {
			return control.Done{}, fmt.Errorf("this Manager is Primary and cannot lay it down: %w", err)
		}
	}
	m.mu.Lock()
	m.settings.Deactivated = on
	s := m.settings
	m.mu.Unlock()
	if err := settings.Save(m.cfg.Dir, s); err != nil {
		return control.Done{}, err
	}
	e.pool.SetMaintenance(on)
	word := "activated"
	if on {
		word = "deactivated"
	}
	m.event(journal.Info, "pool", word, "redundancy "+word+" on this Manager", nil)
	return control.Done{Message: "redundancy is " + word + " on this Manager"}, nil
}

// Token makes a pairing token on a Backup that is on hold.
func (f faces) Token(ctx context.Context) (string, error) {
	m := f.m
	for end := time.Now().Add(5 * time.Second); ; {
		s, prog, e := m.snapshot()
		if s.Mode != settings.Backup || !prog.Forming {
			return "", refuse("not_on_hold", "run \"manager redundancy set --mode backup ...\" first", "this Manager is not on hold but %s", s.Mode)
		}
		if e != nil && e.settings.Mode == settings.Backup {
			break
		}
		if time.Now().After(end) {
			return "", errRestarting
		}
		time.Sleep(20 * time.Millisecond)
	}
	t, err := m.trust.NewToken(0)
	if err != nil {
		return "", err
	}
	return t.Text(), nil
}
