package manager

import (
	"context"
	"fmt"
	"strings"
	"time"

	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/web"
)

// source is the pages' view of this Manager.
type source struct{ m *Manager }

// Changed implements web.Source.
func (s source) Changed() <-chan struct{} {
	if _, _, e := s.m.snapshot(); e != nil && e.pool != nil {
		return e.pool.Changed()
	}
	c := make(chan struct{})
	time.AfterFunc(500*time.Millisecond, func() { close(c) })
	return c
}

// Redundancy implements web.Source. It waits for no disk and no network.
func (s source) Redundancy() (r web.Redundancy) {
	m := s.m
	set, prog, e := m.snapshot()
	r = web.Redundancy{
		Role: string(set.Mode), Status: pool.Configuring.String(), Health: pool.HealthForming.String(), Node: nodeName(set, m.trust),
		Members: []web.Member{}, Reasons: []web.Reason{}, Licence: web.Licence{State: licenceUnknown, Text: "Unknown; there is no other Manager to compare with"},
	}
	if r.Role == "" {
		r.Role = string(settings.Standalone)
	}
	address := set.VIP
	if e != nil && e.keeper != nil {
		address = e.settings.VIP // a new one is agreed on before it is bound
	}
	if address.IsValid() && set.Mode != settings.Standalone {
		r.VIP.Address = ref(address.String())
		if set.Interface != "" {
			r.VIP.Interface = ref(set.Interface)
		}
	}
	if f := prog.FallBack; f != nil {
		r.Reasons = append(r.Reasons, web.Reason{Code: "fell_back_" + f.Code, Text: f.Text})
	}
	if prog.Forming {
		r.Deadline = &web.Deadline{RemainingMS: max(0, prog.Remaining.Milliseconds()), Text: m.waitingText(set, prog)}
	}
	m.mu.Lock()
	trouble := m.trouble
	room, tight := m.space.reason()
	m.mu.Unlock()
	if tight {
		r.Reasons = append(r.Reasons, room)
	}
	if trouble != nil {
		r.NotRunning, r.Status, r.Health = true, pool.Unknown.String(), pool.Failure.String()
		r.Reasons = append(r.Reasons, web.Reason{Code: "not_running", Text: "this Manager cannot start into its mode, and tries again: " + trouble.Error()})
	}
	defer m.complete(&r, set)
	defer m.describeTrust(&r, set, prog)
	if e == nil && trouble != nil {
		return r
	}
	if e == nil {
		r.Reasons = append(r.Reasons, web.Reason{Code: "restarting", Text: "this Manager is restarting into another mode"})
		return r
	}
	e.describeVIP(&r)
	if e.pool == nil {
		r.Status = pool.OnHold.String()
		r.Reasons = append(r.Reasons, web.Reason{Code: "on_hold", Text: "this Backup waits for its Master"})
		return r
	}
	e.describePool(&r, prog)
	m.describeWatched(&r)
	return r
}

// waitingText says what happens at the deadline, and what is missing until then.
func (m *Manager) waitingText(set settings.Settings, _ settings.Progress) string {
	m.mu.Lock()
	a := m.attempt
	m.mu.Unlock()
	text := "without an effective pool this Manager then returns to Standalone with the data of before"
	if set.Mode == settings.Master && a != nil {
		steps, problem := a.view()
		if len(steps) > 0 {
			text += "; now: " + steps[len(steps)-1].Text
		}
		if problem != "" {
			text += "; last problem: " + problem
		}
	}
	return text
}

func (e *engine) describeVIP(r *web.Redundancy) {
	if e.keeper == nil {
		return
	}
	v := e.keeper.State()
	r.VIP.Bound = v.Bound
	r.VIP.Interface = ref(v.Interface)
	if v.GuardPID != 0 {
		r.GuardPID = ref(v.GuardPID)
	}
	if c := v.LastConflict; c != nil && time.Since(c.At) < time.Minute && !c.Peer {
		r.Reasons = append(r.Reasons, web.Reason{Code: "vip_conflict", Text: fmt.Sprintf("another host (%v) claims the virtual IP", c.MAC)})
	}
}

func (e *engine) describePool(r *web.Redundancy, prog settings.Progress) {
	st := e.pool.State()
	r.Term, r.Status, r.Health = st.Term, st.Status.String(), st.Health.String()
	r.Pool = ref(st.Record.Pool)
	if prog.Forming && st.Record.Phase != pool.PhaseEffective {
		r.Status, r.Health = pool.Configuring.String(), pool.HealthForming.String()
	} else if r.Role != string(settings.Standalone) || len(st.Members) > 1 {
		r.WorstTakeoverMS = ref(st.Record.Timing.WorstTakeover().Milliseconds())
	}
	if n := e.fieldUnits(st); n >= 0 {
		r.FieldUnits = ref(n)
	}
	e.describeMembers(r, st)
	describeRecovery(r, st)
	if st.Leader != "" {
		r.PictureAgeMS = ref(st.ViewAge.Milliseconds())
	}
	for _, why := range st.Reasons {
		if why.Code == "standalone" {
			continue
		}
		r.Reasons = append(r.Reasons, web.Reason{Code: why.Code, Text: why.Text})
	}
	for _, n := range st.Notes {
		r.Reasons = append(r.Reasons, web.Reason{Code: n.Code, Text: n.Text})
	}
	if st.Sick != "" && !r.Members[0].Maintenance { // that is among the reasons already
		r.Reasons = append(r.Reasons, web.Reason{Code: "not_fit", Text: st.Sick})
	}
	r.FailoverPossible = st.Health == pool.Protected && len(st.Reasons) == 0
	if c := st.Change; c != nil && c.Kind != "start" {
		r.LastChangeover = changeover(*c)
	}
}

// memberRole is this node's role: its own until the pool has given it one.
func memberRole(inPool pool.Role, configured string) string {
	if inPool == pool.Standalone {
		return configured
	}
	return inPool.String()
}

func (e *engine) fieldUnits(st pool.State) int {
	if d := e.duty.Load(); d != nil {
		return len(d.broker.Sessions())
	}
	switch v := st.Extra["field_units"].(type) {
	case float64:
		return int(v)
	case int:
		return v
	}
	return -1
}

func changeover(c pool.Changeover) *web.Changeover {
	out := &web.Changeover{
		Kind: strings.ReplaceAll(c.Kind, "_", ""), Cause: c.Cause, At: c.At, Term: c.Term, From: c.From, To: c.To,
		DetectedMS: known(c.DetectedMS), ElectedMS: known(c.ElectedMS), VIPMS: known(c.VIPMS),
		FirstWriteMS: known(c.FirstWrite), FirstUnitMS: known(c.FirstUnit), AllUnitsMS: known(c.AllUnits),
	}
	if c.Audited {
		out.Lost, out.StoredTwice = ref(c.Lost), ref(c.StoredTwice)
	}
	return out
}

func known(v float64) *float64 {
	if v < 0 {
		return nil
	}
	return &v
}

func ref[T any](v T) *T { return &v }

// Status implements control.Manager.
func (f faces) Status(context.Context) (any, error) { return source(f).Redundancy(), nil }
