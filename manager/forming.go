package manager

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
)

// attempt is the forming under way on a Master, for the waiting page and status.
type attempt struct {
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	steps []pool.Step
	error string // what the last try came to
}

func (a *attempt) step(s pool.Step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, old := range a.steps {
		if old.Code == s.Code {
			a.steps[i] = s
			return
		}
	}
	a.steps = append(a.steps, s)
}

func (a *attempt) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.error = err.Error()
}

func (a *attempt) view() (steps []pool.Step, problem string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]pool.Step(nil), a.steps...), a.error
}

// errCancelled ends a forming by the will of a person.
var errCancelled = errors.New("cancelled by the operator")

// form is the Master's forming: try after try until the pool is effective or the time is used up.
func (e *engine) form(ctx context.Context) {
	m := e.m
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &attempt{cancel: cancel}
	m.mu.Lock()
	m.attempt = a
	m.mu.Unlock()
	timedOut := errors.New("the time for forming the pool is used up")
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		m.countDown(ctx, func() bool { return isClosed(done) })
		if !isClosed(done) && ctx.Err() == nil {
			cancel(timedOut)
		}
	})
	effective, err := e.resume(ctx, a)
	if err == nil && !effective {
		err = e.tryForm(ctx, a)
	}
	close(done)
	cancel(nil)
	wg.Wait()
	switch {
	case err == nil:
		m.formed()
	case errors.Is(context.Cause(ctx), errCancelled):
		e.giveUpForming()
		m.fallBack("cancelled", errCancelled.Error())
	case e.ctx.Err() != nil:
		// The process is ending; the next one goes on with the time that is left.
	default:
		e.giveUpForming()
		_, problem := a.view()
		if problem == "" {
			problem = err.Error()
		}
		m.fallBack("timeout", problem)
	}
}

// resume waits until this Manager's own pool of one works, and settles what an interrupted try left.
func (e *engine) resume(ctx context.Context, a *attempt) (bool, error) {
	for {
		effective, err := e.pool.Resume(ctx)
		if err == nil || ctx.Err() != nil {
			return effective, err
		}
		a.fail(err)
		t := time.NewTimer(200 * time.Millisecond)
		select {
		case <-ctx.Done():
			t.Stop()
			return false, context.Cause(ctx)
		case <-t.C:
		}
	}
}

// giveUpForming makes sure that the next engine is a pool of one again, as a survivor of the one
// before if it was that.
func (e *engine) giveUpForming() {
	phase := e.pool.Record().Phase
	var as pool.Phase
	switch {
	case e.survivor:
		as = pool.PhaseForced
	case phase == pool.PhaseForming: // not undone: this node has lost the lead meanwhile
		as = pool.PhaseSingle
	}
	if as == "" || as == phase {
		return
	}
	if err := e.m.askIsolate(as); err != nil {
		e.m.log.Error("cannot note that the forming is given up", "error", err)
	}
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (e *engine) tryForm(ctx context.Context, a *attempt) error {
	for before := ""; ; {
		err := e.formOnce(ctx, a)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		a.fail(err)
		if err.Error() != before { // it may wait for a person for minutes
			before = err.Error()
			e.m.log.Warn("forming the pool; trying again", "error", err)
		}
		t := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		case <-t.C:
		}
	}
}

// formOnce is one try with an incarnation of its own; whatever fails is undone.
func (e *engine) formOnce(ctx context.Context, a *attempt) (err error) {
	m, s := e.m, e.settings
	backup, third, err := e.trusted(ctx, a)
	if err != nil {
		return err
	}
	cert, key, err := ensurePoolCertificate(m.trust, s.VIP.Addr())
	if err != nil {
		return err
	}
	rec := e.pool.Record()
	me := m.self(s)
	me.ID, me.Role = rec.Self, pool.Master
	rec.Incarnation, rec.Phase, rec.Timing, rec.VIP, rec.Active = pool.NewID(), pool.PhaseForming, poolTiming(s), s.VIP.String(), s.Active
	rec.Highest = nil
	members := []pool.Member{me}
	var told []pool.Member // who must hear it if this try ends
	undo := func() {
		c, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		removed := true
		if e.pool.Record().Phase == pool.PhaseForming {
			if err := e.pool.Unform(c); err != nil {
				removed = false
				m.log.Warn("undoing a forming", "error", err)
			}
		}
		for _, o := range told {
			_ = m.call(c, o.Address, o.Fingerprint, pool.MethodAbandon, pool.Attempt{Pool: rec.Pool, Incarnation: rec.Incarnation, Why: "the Master gave this attempt up", Removed: removed}, nil)
		}
	}
	defer func() {
		if err != nil && e.pool.Record().Phase != pool.PhaseEffective {
			undo()
		}
	}()
	for _, o := range []struct {
		role pool.Role
		at   settings.Member
		peer trust.PeerRecord
	}{{pool.Backup, s.Peer, backup}, {pool.Arbiter, s.Arbiter, third}} {
		j, err := e.join(ctx, rec, o.role, o.at, o.peer)
		if no := (*transport.Refusal)(nil); errors.As(err, &no) && no.Code == "not_trusted" {
			// Its approval was withdrawn there: show this Master's key there once more.
			if missing := m.awaitTrust(ctx, s, partner{role: o.role, at: o.at.AddrPort()}); missing != nil {
				a.step(pool.Step{Code: o.role.String() + "_trust", Text: missing.Error()})
				return missing
			}
		}
		if err != nil {
			a.step(pool.Step{Code: o.role.String() + "_join", Text: err.Error()})
			return err
		}
		a.step(pool.Step{Code: o.role.String() + "_trust", Text: j.Name + " and this Master trust each other", Done: true})
		a.step(pool.Step{Code: o.role.String() + "_join", Text: j.Name + " agrees to join", Done: true})
		text, _ := o.peer.Fingerprint.MarshalText()
		second := j.Second
		if !second.IsValid() {
			second = o.at.SecondAddrPort()
		}
		p := pool.Member{ID: j.ID, Name: j.Name, Role: o.role, Address: o.at.AddrPort(), Second: second, Fingerprint: string(text), MAC: j.MAC, Symbol: j.Symbol, Comment: j.Comment}
		members, told = append(members, p), append(told, p)
	}
	rec.Members = members
	for _, o := range told {
		plan := pool.Plan{Record: rec, Remaining: m.remaining()}
		if o.Role == pool.Backup {
			plan.Certificate, plan.Key = cert, key
		}
		if err := m.call(ctx, o.Address, o.Fingerprint, pool.MethodPlan, plan, nil); err != nil {
			return fmt.Errorf("configure %s at %v: %w", o.Name, o.Address, err)
		}
	}
	if err := e.pool.Form(ctx, rec, a.step); err != nil {
		return err
	}
	m.event(journal.Info, "pool", "pool_formed", "the pool is formed with "+told[0].Name+" and "+told[1].Name, nil)
	return nil
}

// trusted returns the keys of Backup and Arbiter once both trust this Master and are trusted by it.
// What waits for a person is told for both, not for the first alone.
func (e *engine) trusted(ctx context.Context, a *attempt) (backup, third trust.PeerRecord, err error) {
	var missing []error
	peers := map[pool.Role]trust.PeerRecord{}
	for _, p := range partners(e.settings) {
		known, err := e.m.approvedAt(p.role, p.at)
		// A key that a token proved, or a pool was formed with, is trusted on the other side too.
		if err == nil && known.How != trust.ByFingerprint {
			peers[p.role] = known
			continue
		}
		if err := e.m.awaitTrust(ctx, e.settings, p); err != nil {
			a.step(pool.Step{Code: p.role.String() + "_trust", Text: err.Error()})
			missing = append(missing, err)
			continue
		}
		if peers[p.role], err = e.m.approvedAt(p.role, p.at); err != nil {
			missing = append(missing, err)
		}
	}
	if len(missing) > 0 {
		return backup, third, allOf(missing)
	}
	return peers[pool.Backup], peers[pool.Arbiter], nil
}

// allOf puts errors into one line.
func allOf(errs []error) error {
	text := make([]string, len(errs))
	for i, err := range errs {
		text[i] = err.Error()
	}
	return errors.New(strings.Join(text, "; "))
}

func (e *engine) join(ctx context.Context, rec pool.Record, as pool.Role, at settings.Member, peer trust.PeerRecord) (pool.JoinAnswer, error) {
	text, _ := peer.Fingerprint.MarshalText()
	var j pool.JoinAnswer
	q := e.m.joinRequest(e.settings, as, at)
	q.Pool, q.Incarnation, q.Remaining = rec.Pool, rec.Incarnation, e.m.remaining()
	err := e.m.call(ctx, q.Address, string(text), pool.MethodJoin, q, &j)
	if err != nil {
		return j, fmt.Errorf("%v at %v: %w", as, q.Address, err)
	}
	return j, nil
}

func (m *Manager) call(ctx context.Context, at netip.AddrPort, fp, method string, q, a any) error {
	s, _, _ := m.snapshot()
	ctx, cancel := context.WithTimeout(ctx, s.Timing.ConnectTimeout+3*time.Second)
	defer cancel()
	return pool.CallMember(ctx, m.dialer, at, fp, method, q, a)
}

func (m *Manager) remaining() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.progress.Remaining, time.Second)
}

// approved returns the newest trusted peer in a role.
func (m *Manager) approved(role pool.Role) (trust.PeerRecord, error) {
	var best trust.PeerRecord
	for _, r := range m.trust.List() {
		if r.Role == role.String() && r.ApprovedMS >= best.ApprovedMS {
			best = r
		}
	}
	if best.Fingerprint.IsZero() {
		return best, transport.Refuse("not_trusted", "no %v is trusted yet: give its pairing token, or approve its fingerprint", role)
	}
	return best, nil
}
