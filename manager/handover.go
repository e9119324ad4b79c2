package manager

import (
	"context"
	"fmt"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
)

// HandOver moves Primary, from whichever Manager it is asked on.
func (f faces) HandOver(ctx context.Context, to string, step func(control.Step) error) (control.HandOverResult, error) {
	m := f.m
	e, err := m.engineNow(ctx)
	if err != nil {
		return control.HandOverResult{}, err
	}
	if e.pool == nil || len(e.pool.Record().Members) == 1 {
		return control.HandOverResult{}, refuse("not_in_pool", "form a pool first", "this Manager belongs to no pool")
	}
	began := time.Now()
	st := e.pool.State()
	self, _ := st.Record.Member(st.Record.Self)
	target := func(m pool.Member) bool { return to == "" || strings.EqualFold(to, m.Role.String()) }
	for _, o := range st.Members {
		if o.Status == pool.Primary && to != "" && target(o.Member) {
			return control.HandOverResult{}, refuse("is_primary", "nothing to do", "the %s is Primary already", to)
		}
	}
	if st.Status != pool.Primary {
		return e.handOverFromAfar(ctx, st, step)
	}
	if to != "" && strings.EqualFold(to, self.Role.String()) {
		return control.HandOverResult{}, refuse("is_primary", "nothing to do", "this Manager is Primary already")
	}
	report := func(text string) {
		_ = step(control.Step{AtMS: time.Since(began).Milliseconds(), Code: "step", Text: text})
	}
	if err := e.pool.HandOver(ctx, "asked for by an operator", report); err != nil {
		return control.HandOverResult{}, err
	}
	return e.awaitHandOver(ctx, self.Name, began, st.Term, report)
}

// methodHandOver asks the Primary, on the pool port, to hand over to the asking Manager.
const methodHandOver = "handover"

// handOverFromAfar asks the Primary to hand over to this Manager.
func (e *engine) handOverFromAfar(ctx context.Context, st pool.State, step func(control.Step) error) (control.HandOverResult, error) {
	began := time.Now()
	report := func(text string) {
		_ = step(control.Step{AtMS: time.Since(began).Milliseconds(), Code: "step", Text: text})
	}
	for _, o := range st.Members {
		if o.Status != pool.Primary || o.ID == st.Record.Self {
			continue
		}
		report("asking " + o.Name + " to hand over")
		var said []string
		if err := e.m.call(ctx, o.Address, o.Fingerprint, methodHandOver, pool.Attempt{Pool: st.Record.Pool}, &said); err != nil {
			return control.HandOverResult{}, err
		}
		for _, s := range said {
			report(s)
		}
		return e.awaitHandOver(ctx, o.Name, began, st.Term, report)
	}
	return control.HandOverResult{}, refuse("no_primary", "look at \"manager status\"", "no Manager is Primary now, so nobody can hand over")
}

// onHandOver hands over because the other Manager asks.
func (m *Manager) onHandOver(ctx context.Context, t pool.Attempt) (any, error) {
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Pool != t.Pool {
		return nil, transport.Refuse("unknown_pool", "this Manager is not in that pool")
	}
	said := []string{}
	err := e.pool.HandOver(ctx, "asked for by an operator on the other Manager", func(s string) { said = append(said, s) })
	return said, err
}

// fromPool admits the other Manager of this node's pool.
func (m *Manager) fromPool(_ transport.Hello, fingerprint string) error {
	if _, _, e := m.snapshot(); e != nil && e.pool != nil {
		for _, o := range e.pool.Record().Members {
			if o.Fingerprint == fingerprint && o.Role != pool.Arbiter {
				return nil
			}
		}
	}
	return transport.Refuse("not_a_member", "%s is not a Manager of this pool", short(fingerprint))
}

// awaitHandOver waits for the new Primary's account.
func (e *engine) awaitHandOver(ctx context.Context, from string, began time.Time, term uint64, report func(string)) (control.HandOverResult, error) {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		changed := e.pool.Changed()
		st := e.pool.State()
		if c := st.Change; c != nil && c.Term > term && c.VIPMS >= 0 {
			gap := c.VIPMS
			if c.FirstWrite > gap {
				gap = c.FirstWrite
			}
			report(fmt.Sprintf("%s is Primary and holds the virtual IP", c.To))
			return control.HandOverResult{From: from, To: c.To, Term: c.Term, GapMS: gap, Text: fmt.Sprintf("Primary moved in %.1f ms", gap)}, nil
		}
		select {
		case <-ctx.Done():
			return control.HandOverResult{}, context.Cause(ctx)
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
	return control.HandOverResult{}, fmt.Errorf("the other Manager leads since %v, but has not reported the virtual IP: look at its status", time.Since(began).Round(time.Millisecond))
}
