package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
)

// pace is how often what the pool should be is compared with what it is.
const pace = 100 * time.Millisecond

// rest waits for a change, but no longer than d; false: ctx ended.
func rest(ctx context.Context, changed <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changed:
	case <-t.C:
	}
	return true
}

// tend is the Primary's work on a change of the running pool: it brings the log's members and then
// everybody's services to what was agreed, one small step after another. It keeps no memory: after
// the death of any member, this one included, the next Primary goes on by what it finds.
func (e *engine) tend(ctx context.Context) {
	asked := map[pool.MemberID]time.Time{}
	for {
		changed := e.pool.Changed()
		if e.duty.Load() != nil && e.pool.Record().Phase == pool.PhaseEffective {
			if err := e.tendOnce(ctx, asked); err != nil && ctx.Err() == nil {
				e.m.log.Debug("changing the pool", "error", err)
			}
		} else {
			clear(asked)
		}
		if !rest(ctx, nil, pace) || !rest(ctx, changed, 2*pace) {
			return
		}
	}
}

// reconcile serves tend and a replacement under way, one at a time.
func (e *engine) reconcile(ctx context.Context, step func(pool.Step)) error {
	e.m.reconciling.Lock()
	defer e.m.reconciling.Unlock()
	return e.pool.Reconcile(ctx, step)
}

func (e *engine) tendOnce(ctx context.Context, asked map[pool.MemberID]time.Time) error {
	w := e.m.work()
	if err := e.reconcile(ctx, w.poolStep); err != nil {
		return err
	}
	a, found, err := e.agreed(ctx)
	if err != nil || !found {
		return err
	}
	st := e.pool.State()
	var self, other, third pool.MemberState
	for _, o := range st.Members {
		switch {
		case o.ID == st.Record.Self:
			self = o
		case o.Role == pool.Arbiter:
			third = o
		default:
			other = o
		}
	}
	there := func(m pool.MemberState) bool { return m.Status == pool.Online || m.Status == pool.Primary }
	// restart asks a member to open its services anew, and waits for it to be back.
	restart := func(m pool.MemberState) error {
		if time.Since(asked[m.ID]) < 3*time.Second {
			return nil
		}
		asked[m.ID] = time.Now()
		w.step("restart_"+m.Role.String(), m.Name+" restarts its services with the new values", false)
		return e.m.call(ctx, m.Address, m.Fingerprint, pool.MethodReopen, pool.Attempt{Pool: st.Record.Pool, Incarnation: st.Record.Incarnation, Why: "new values were agreed"}, nil)
	}
	back := func(m pool.MemberState) {
		if _, ok := asked[m.ID]; ok {
			delete(asked, m.ID)
			w.step("restart_"+m.Role.String(), m.Name+" works by the new values", true)
		}
	}
	for _, m := range []pool.MemberState{other, third} {
		if m.ID == "" {
			continue
		}
		rest := other // who must be there while m is away, beside this Primary
		if m.ID == other.ID {
			rest = third
		}
		switch {
		case !there(m) && time.Since(asked[m.ID]) < 20*time.Second:
			return nil // it is just restarting
		case !there(m):
			delete(asked, m.ID) // it gets the values when it returns
		case m.Revision < a.Revision:
			return nil // they are on their way
		case m.RunsOld && there(rest):
			return restart(m)
		case !m.RunsOld && (m.Role == pool.Arbiter || m.InStep):
			back(m)
		default:
			return nil
		}
	}
	switch {
	case self.RunsOld && len(st.Reasons) == 0 && st.Health == pool.Protected:
		w.step("handover", "Primary moves to "+other.Name+", so that this Manager can restart its services", false)
		if err := e.pool.HandOver(ctx, "new values were agreed", func(string) {}); err != nil {
			return err
		}
		e.m.requestRestart("new values were agreed")
		return nil
	case self.RunsOld && (other.ID == "" || !there(other)) && there(third):
		// Nobody else can serve: a short pause is the only way.
		e.m.event(journal.Warning, "pool", "restart_alone", "restarting the services without another Manager: a short interruption", nil)
		e.m.requestRestart("new values were agreed, and the other Manager is away")
		return nil
	case self.RunsOld || a.Home == "":
		return nil
	case a.Home == self.ID || other.ID != a.Home || !there(other):
		err := e.agree(ctx, "the change of the pool is complete", func(a *agreement) error { a.Home = ""; return nil })
		if err == nil {
			w.finish("everybody works by the new values", nil)
		}
		return err
	case len(st.Reasons) == 0 && st.Health == pool.Protected:
		w.step("home", "Primary moves back to "+other.Name, false)
		return e.pool.HandOver(ctx, "back after the change of the pool", func(string) {})
	}
	return nil
}

// onReopen restarts this Manager's services because the Primary says that new values hold.
func (m *Manager) onReopen(_ context.Context, t pool.Attempt) (any, error) {
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Pool != t.Pool {
		return nil, errRestarting
	}
	if e.pool.State().Status == pool.Primary {
		return nil, errors.New("this Manager is Primary")
	}
	m.requestRestart(t.Why)
	return struct{}{}, nil
}

// awaitReconciled goes on until the log's members are those that were agreed.
func (e *engine) awaitReconciled(ctx context.Context, step func(pool.Step)) error {
	for {
		err := e.reconcile(ctx, step)
		if err == nil && e.duty.Load() != nil {
			return nil
		}
		if e.duty.Load() == nil {
			return fmt.Errorf("this Manager is not Primary any more; the next Primary goes on")
		}
		if !errors.Is(err, pool.ErrWaits) {
			e.m.log.Warn("changing the pool's members", "error", err)
		}
		if !rest(ctx, nil, pace) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
