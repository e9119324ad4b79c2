package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
)

// heldJoin is what a Backup on hold has agreed to with its Master.
type heldJoin struct {
	req pool.JoinRequest
	id  pool.MemberID
}

// registerCalls answers the forming protocol on this node.
func (m *Manager) registerCalls() {
	master := func(_ transport.Hello, fp string) error { return arbiter.FromMaster(m.trust, fp) }
	m.port.HandleCall(pool.MethodPair, nil, func(_ context.Context, c *transport.Conn, body []byte) (any, error) {
		if s, _, _ := m.snapshot(); s.Mode != settings.Backup {
			return nil, transport.Refuse("not_on_hold", "this Manager is %s: set it to Backup first, then pair it", s.Mode)
		}
		return arbiter.AcceptPairing(m.trust, c, body, pool.Backup, m.name())
	})
	greeter := &arbiter.Greeter{Self: m.introduction, Met: m.met}
	m.port.HandleCall(pool.MethodGreet, nil, greeter.Answer)
	m.port.HandleCall(pool.MethodJoin, master, decoded(m.onJoin))
	m.port.HandleCall(pool.MethodCompare, master, decoded(m.onCompare))
	m.port.HandleCall(pool.MethodPlan, master, decoded(m.onPlan))
	m.port.HandleCall(pool.MethodAbandon, master, decoded(m.onAbandon))
	m.port.HandleCall(pool.MethodDismiss, m.fromPool, decoded(m.onDismiss))
	m.port.HandleCall(methodLeave, m.fromPool, decoded(m.onLeave))
	m.port.HandleCall(methodChange, m.fromPool, decoded(m.onChange))
	m.port.HandleCall(methodPrepare, m.fromPool, decoded(m.onPrepare))
	m.port.HandleCall(methodHold, m.fromPool, decoded(m.onHold))
	m.port.HandleCall(pool.MethodReopen, m.fromPool, decoded(m.onReopen))
	m.answerDrills()
	m.port.HandleCall(methodKey, m.fromPool, decoded(m.onKey))
	m.port.HandleCall(pool.MethodSightings, m.fromPool, decoded(m.onSightings))
	m.port.HandleCall(methodHandOver, m.fromPool, decoded(m.onHandOver))
	m.port.HandleCall(methodUser, m.fromPool, decoded(m.onUser))
	m.port.HandleCall(arbiter.MethodEvents, m.fromPool, arbiter.AnswerEvents(m.journal, m.ending.Done()))
}

func decoded[T any](f func(context.Context, T) (any, error)) func(context.Context, *transport.Conn, []byte) (any, error) {
	return func(ctx context.Context, _ *transport.Conn, body []byte) (any, error) {
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return nil, transport.Refuse("malformed", "message cannot be read: %v", err)
		}
		return f(ctx, v)
	}
}

// onJoin compares what the Master wants with what this node is set to.
func (m *Manager) onJoin(_ context.Context, q pool.JoinRequest) (any, error) {
	defer m.tellDifferences(m.differing())
	m.mu.Lock()
	defer m.mu.Unlock()
	s, e := m.settings, m.engine
	switch {
	case s.Mode != settings.Backup:
		return nil, refuseNotOnHold(s)
	case q.As != pool.Backup:
		return nil, transport.Refuse("wrong_role", "this Manager is set to Backup and cannot join as %v", q.As)
	case e == nil || e.settings.Mode != settings.Backup:
		return nil, transport.Refuse("busy", "this Manager is restarting; try again")
	case e.pool != nil && e.pool.Record().Phase == pool.PhaseEffective:
		return nil, transport.Refuse("belongs_to_pool", "this Manager already belongs to pool %s; leave that pool first", short(e.pool.Record().Pool))
	}
	if err := m.compareLocked(q); err != nil {
		return nil, err
	}
	if e.pool != nil { // of an attempt that the Master has given up since
		m.dropMember()
		return nil, transport.Refuse("busy", "this Manager is leaving an unfinished attempt; try again")
	}
	m.held = &heldJoin{req: q, id: pool.MemberID(pool.NewID())}
	me := m.self(s)
	return pool.JoinAnswer{ID: m.held.id, Name: me.Name, MAC: me.MAC, Second: me.Second, Symbol: me.Symbol, Comment: me.Comment}, nil
}

func short(s string) string { return s[:min(12, len(s))] }

func refuseNotOnHold(s settings.Settings) error {
	return transport.Refuse("not_on_hold", "this Manager is %s: set it to Backup first", s.Mode)
}

// onPlan makes this node a member that is filled by the Master.
func (m *Manager) onPlan(_ context.Context, p pool.Plan) (any, error) {
	id, err := m.takeHeld(p)
	if err != nil {
		return nil, err
	}
	// Nobody else is here: what was held is taken. No lock is held while the disk is waited for.
	if exists(m.poolDir()) {
		return nil, transport.Refuse("busy", "this Manager is still leaving an earlier attempt; try again")
	}
	rec := p.Record
	rec.Self = id
	if err := arbiter.ApproveMembers(m.trust, rec); err != nil {
		return nil, err
	}
	if err := m.trust.SavePoolCertificate(p.Certificate, p.Key); err != nil {
		return nil, fmt.Errorf("keep the certificate of the virtual IP: %w", err)
	}
	if err := m.takeTiming(rec.Timing); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(m.poolDir(), 0o700); err != nil {
		return nil, err
	}
	if err := pool.Join(m.poolDir(), rec); err != nil {
		return nil, errors.Join(err, os.RemoveAll(m.poolDir()))
	}
	m.requestRestart("joining pool " + short(rec.Pool))
	return struct{}{}, nil
}

// takeHeld ends the waiting for the plan that belongs to the join agreed to.
func (m *Manager) takeHeld(p pool.Plan) (pool.MemberID, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.engine == nil || m.engine.pool != nil || m.engine.settings.Mode != settings.Backup:
		return "", transport.Refuse("busy", "this Manager is restarting; try again")
	case m.held == nil || m.held.req.Incarnation != p.Record.Incarnation:
		return "", transport.Refuse("no_join", "this Manager was not asked to join that attempt first")
	}
	id := m.held.id
	m.held = nil
	// From here on the Master's time counts: a Backup that was set much earlier must not fall
	// back while its Master is at work.
	m.progress.Remaining = max(m.progress.Remaining, p.Remaining)
	return id, nil
}

// onAbandon returns to On hold when the Master gives an attempt up.
func (m *Manager) onAbandon(_ context.Context, t pool.Attempt) (any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = nil
	e := m.engine
	if e != nil && e.pool != nil && !m.progress.Forming && t.Removed && e.pool.Record().Incarnation == t.Incarnation {
		go func() { // the other data are gone already; what was copied stays
			if err := m.becomeStandalone(e, "abandoned", "the Master took the pool back just after it had been formed"); err != nil {
				m.log.Error("cannot leave an abandoned pool", "error", err)
			}
		}()
		return struct{}{}, nil
	}
	if e != nil && e.pool != nil && m.progress.Forming {
		rec := e.pool.Record()
		if rec.Pool != t.Pool || rec.Incarnation != t.Incarnation || m.settings.Mode != settings.Backup {
			return nil, transport.Refuse("unknown_pool", "this Manager is not in that attempt")
		}
		if !t.Removed && (rec.Phase == pool.PhaseEffective || e.pool.Votes()) {
			return nil, transport.Refuse("effective", "the pool is effective: leave it in order")
		}
		m.dropMember()
	}
	return struct{}{}, nil
}

// dropMember makes the next engine start without what an unfinished attempt left.
func (m *Manager) dropMember() {
	m.dropped = true
	m.requestRestart("an attempt to form the pool was abandoned")
}

// onDismiss makes this node Standalone with its copy of the data, after the Master took it out.
func (m *Manager) onDismiss(_ context.Context, t pool.Attempt) (any, error) {
	m.mu.Lock()
	e := m.engine
	m.mu.Unlock()
	if e == nil || e.pool == nil || e.pool.Record().Pool != t.Pool {
		return nil, transport.Refuse("unknown_pool", "this Manager does not belong to that pool")
	}
	return struct{}{}, m.becomeStandalone(e, "dismissed", "the pool was left: "+t.Why)
}

// startHold waits for the Master until the deadline.
func (e *engine) startHold(prog settings.Progress) {
	e.m.event(journal.Info, "pool", "on_hold", "this Backup is on hold and waits for its Master", nil)
	e.wg.Go(func() {
		e.m.countDown(e.ctx, func() bool { return false })
		if e.ctx.Err() == nil {
			e.m.fallBack("timeout", "no Master has configured this Backup in time")
		}
	})
}

// awaitEffective watches a Backup's pool become effective, or falls back at the deadline: only
// while its own log does not list it as a voter.
func (e *engine) awaitEffective(ctx context.Context) {
	effective := func() bool {
		if e.pool.Record().Phase != pool.PhaseEffective {
			return false
		}
		h := e.pool.State().Health // the Primary's word, or this node's own as Primary
		return h == pool.Protected || h == pool.Degraded
	}
	e.m.countDown(ctx, effective)
	for ctx.Err() == nil && (e.pool.Votes() || e.pool.Record().Phase == pool.PhaseEffective) && !effective() {
		changed := e.pool.Changed()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
	switch {
	case ctx.Err() != nil:
	case effective():
		e.m.formed()
	default:
		e.m.fallBack("timeout", "the pool did not become effective in time: "+e.lacking())
	}
}

// lacking says what an unfinished pool misses, from here.
func (e *engine) lacking() string {
	for _, r := range e.pool.State().Members {
		if r.Status == pool.Unreachable || r.Status == pool.Unknown {
			return fmt.Sprintf("%s at %v does not answer (%s)", r.Name, r.Address, r.Failure)
		}
	}
	return "the Master has not finished"
}

// countDown returns when the configuration time is used up, done says so, or ctx ends. The time
// left is kept on disk, so that a restart neither loses nor gains any.
func (m *Manager) countDown(ctx context.Context, done func() bool) {
	const step = 250 * time.Millisecond
	kept := time.Now()
	for {
		if done() {
			return
		}
		before := time.Now()
		t := time.NewTimer(step)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		m.mu.Lock()
		m.progress.Remaining -= time.Since(before)
		over := m.progress.Remaining <= 0
		prog := m.progress
		m.mu.Unlock()
		if over {
			return
		}
		if time.Since(kept) > min(2*time.Second, max(step, prog.Remaining/10)) {
			kept = time.Now()
			if err := settings.SaveProgress(m.cfg.Dir, prog); err != nil {
				m.log.Warn("cannot keep the time left", "error", err)
			}
		}
	}
}

// formed ends the forming in success.
func (m *Manager) formed() {
	m.mu.Lock()
	m.progress = settings.Progress{}
	m.mu.Unlock()
	if err := settings.SaveProgress(m.cfg.Dir, settings.Progress{}); err != nil {
		// The next start finds the pool effective and comes here again.
		m.log.Warn("cannot note that the pool is formed", "error", err)
	} else if err := os.RemoveAll(m.asideDir()); err != nil {
		m.log.Warn("cannot remove the data kept aside", "error", err)
	}
	m.event(journal.Info, "pool", "formed", "the pool is formed", nil)
}

// fallBack returns to Standalone with the settings and data of before, keeping the reason.
func (m *Manager) fallBack(code, why string) {
	m.mu.Lock()
	prog, tried := m.progress, m.settings
	if !prog.Forming { // the deadline and a person's cancel may come at one moment: the first counts
		m.mu.Unlock()
		return
	}
	next := settings.Progress{FallBack: &settings.FallBack{Code: code, Text: why, TimeMS: time.Now().UnixMilli()}, Tried: &tried}
	s := settings.Default()
	if prog.Before != nil {
		s = *prog.Before
	} else {
		s.Name, s.Listen, s.Local = tried.Name, tried.Listen, tried.Local
	}
	if !survivorForms(prog) {
		s.Mode = settings.Standalone
	}
	m.settings, m.progress, m.held = s, next, nil
	m.mu.Unlock()
	if err := errors.Join(settings.Save(m.cfg.Dir, s), settings.SaveProgress(m.cfg.Dir, next)); err != nil {
		m.log.Error("cannot store the fall-back; it holds until the next start only", "error", err)
	}
	m.event(journal.Warning, "pool", "fall_back", "back to "+string(s.Mode)+": "+why, map[string]any{"code": code})
	m.requestRestart("fall back: " + why)
}

// settleFolders brings the folders in line with the settings before an engine opens them: the data
// of a Backup-to-be stand aside until its pool is effective, and come back if it never is.
// Each step is a rename, and a crash between two is finished at the next start.
func (m *Manager) settleFolders() error {
	m.mu.Lock()
	s, prog, dropped := m.settings, m.progress, m.dropped
	m.dropped = false
	m.mu.Unlock()
	parts := []string{"pool", "database"}
	if err := m.settleHold(parts); err != nil {
		return err
	}
	switch {
	case exists(filepath.Join(m.cfg.Dir, isolateFile)):
		// The pool was effective, so its copy is this node's from here on, even when the pool ended
		// before what stood aside could be removed.
		return os.RemoveAll(m.asideDir())
	case s.Mode == settings.Backup && prog.Forming:
		rec, err := pool.ReadRecord(m.poolDir())
		if err == nil && rec.Phase == pool.PhaseEffective {
			return nil // formed, and only the note of it is missing
		}
		if errors.Is(err, fs.ErrNotExist) {
			dropped = true // killed while it joined
		}
		if dropped && exists(m.asideDir()) { // else what stands there is this node's own

			for _, p := range parts {
				if err := os.RemoveAll(filepath.Join(m.cfg.Dir, p)); err != nil {
					return fmt.Errorf("remove an unfinished attempt: %w", err)
				}
			}
		}
		if err := os.MkdirAll(m.asideDir(), 0o700); err != nil {
			return err
		}
		for _, p := range parts {
			from, to := filepath.Join(m.cfg.Dir, p), filepath.Join(m.asideDir(), p)
			if exists(to) || !exists(from) {
				continue
			}
			if err := os.Rename(from, to); err != nil {
				return fmt.Errorf("put this node's own data aside: %w", err)
			}
		}
	case s.Mode == settings.Backup:
		return os.RemoveAll(m.asideDir())
	case exists(m.asideDir()):
		for _, p := range parts {
			from, to := filepath.Join(m.asideDir(), p), filepath.Join(m.cfg.Dir, p)
			if !exists(from) {
				continue
			}
			if err := os.RemoveAll(to); err != nil {
				return fmt.Errorf("remove an unfinished attempt: %w", err)
			}
			if err := os.Rename(from, to); err != nil {
				return fmt.Errorf("take this node's own data back: %w", err)
			}
		}
		// A copy that was put aside to be made anew belonged to a pool, which goes on without it.
		if rec, err := pool.ReadRecord(m.poolDir()); err == nil && rec.Phase == pool.PhaseEffective && s.Mode == settings.Standalone {
			if err := m.askIsolate(pool.PhaseSingle); err != nil {
				return err
			}
		}
		return os.RemoveAll(m.asideDir())
	}
	return nil
}
