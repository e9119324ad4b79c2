package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/web"
)

// handOverLimit bounds a hand over from its order to the new Primary's account.
const handOverLimit = 30 * time.Second

// HandOver moves Primary, from whichever Manager it is asked on.
func (f faces) HandOver(ctx context.Context, to string, step func(control.Step) error) (control.HandOverResult, error) {
	m := f.m
	// Whoever asked through the virtual IP loses the connection when it moves: what is begun goes on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), handOverLimit)
	defer cancel()
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
		return control.HandOverResult{}, notMoved(err)
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
		var said []control.Step
		err := e.m.call(ctx, o.Address, o.Fingerprint, methodHandOver, pool.Attempt{Pool: st.Record.Pool}, &said)
		if isRefusal(err) {
			return control.HandOverResult{}, notMoved(err)
		}
		if err != nil { // the question may have arrived, or not: what comes of it tells
			report("no answer from " + o.Name + ": " + err.Error())
		}
		for _, s := range said {
			_ = step(s)
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
	said, began := []control.Step{}, time.Now()
	err := e.pool.HandOver(ctx, "asked for by an operator on the other Manager", func(s string) {
		said = append(said, control.Step{AtMS: time.Since(began).Milliseconds(), Code: "step", Text: s})
	})
	if code := moveCode(err); code != "" {
		return nil, transport.Refuse(code, "%v", err)
	}
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
	return control.HandOverResult{}, refuse("unknown", "look at the status of both Managers", "after %v no Manager has reported that it took over", time.Since(began).Round(time.Millisecond))
}

// moveCode is the outcome of a hand over that failed; empty: it did not, or for another reason.
func moveCode(err error) string {
	switch {
	case errors.Is(err, pool.ErrHandOverRefused):
		return "refused"
	case errors.Is(err, pool.ErrHandOverAborted):
		return "aborted"
	case errors.Is(err, pool.ErrHandOverUnknown):
		return "unknown"
	}
	return ""
}

// notMoved makes an error of a hand over, here or on the other Manager, one with its outcome.
func notMoved(err error) error {
	code := moveCode(err)
	var no *transport.Refusal
	if code == "" && errors.As(err, &no) {
		code = no.Code
	}
	if code == "" {
		return err
	}
	fix := map[string]string{
		"refused": "remove that reason, then hand over again", "aborted": "look at the other Manager's log, then hand over again",
		"unknown": "look at the status of both Managers",
	}[code]
	return refuse(code, fix, "%v", err)
}

// HandOver implements web.Moving.
func (d desk) HandOver(ctx context.Context, step func(web.MoveStep)) (web.Move, error) {
	r, err := d.faces().HandOver(ctx, "", func(s control.Step) error { step(web.MoveStep{AtMS: s.AtMS, Text: s.Text}); return nil })
	if err != nil {
		return web.Move{}, plainly(pageError(err))
	}
	return web.Move{From: r.From, To: r.To, Term: r.Term, GapMS: r.GapMS, Text: fmt.Sprintf("%s from %s to %s, term %d.", r.Text, r.From, r.To, r.Term)}, nil
}

// Interruptions implements web.Moving.
func (d desk) Interruptions(ctx context.Context) ([]float64, error) {
	_, _, e := d.m.snapshot()
	if e == nil || e.db == nil {
		return nil, nil
	}
	all, err := e.db.Changeovers(ctx, 200)
	if err != nil {
		return nil, err
	}
	var out []float64
	for _, row := range all {
		var c pool.Changeover
		if json.Unmarshal([]byte(row.JSON), &c) != nil || c.Kind != "hand_over" && c.Kind != "take_back" || c.VIPMS < 0 {
			continue
		}
		out = append(out, max(c.VIPMS, c.FirstWrite))
	}
	return out, nil
}
