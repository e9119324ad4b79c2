package pool

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"redundancypool/manager/pool/transport"
)

// The causes with which being Primary ends, besides ErrClosed.
var (
	ErrLeaseOver  = errors.New("the lease ran out: no other member has answered in time")
	ErrDeposed    = errors.New("another member leads in a newer term")
	ErrHandOver   = errors.New("handing over")
	ErrSick       = errors.New("this Manager cannot write")
	errNotPrimary = errors.New("this Manager is not Primary")
)

// reign is one extent of being Primary, from here.
type reign struct {
	term   uint64
	cancel context.CancelCauseFunc
	done   chan struct{}
	secret [32]byte
	hash   string
}

// pumpNotify keeps Raft's own main loop from ever waiting for us.
func (p *Pool) pumpNotify() {
	for {
		select {
		case lead := <-p.notify:
			if !lead {
				term := p.lease.end()
				p.trans.EndTerm()
				if !p.endReign(ErrDeposed, false) && term != 0 && !p.arbiter() {
					// It led without being Primary, say because it heard no answers; the others,
					// who may still hear it, need not wait for Raft's timers. A reign says so
					// itself, once everything is laid down.
					p.releaseAll(term, "", "", "it leads no more")
				}
			}
			p.kicks.wake()
			p.wake()
		case <-p.rested: // Raft has said its last word
			return
		}
	}
}

// reigns makes this node Primary whenever it may be, and waits for each reign to end.
func (p *Pool) reigns(ctx context.Context) {
	unable := 0
	for ctx.Err() == nil {
		wake := p.woken()
		if leads, err := p.raft.State() == raft.Leader, p.electable(); !leads || err != nil {
			p.setStatus(Online)
			if leads {
				p.layDown(p.raft.CurrentTerm(), err)
			} else {
				unable = 0
			}
			if !sleepOr(ctx, wake, 50*time.Millisecond) {
				return
			}
			continue
		}
		term := p.raft.CurrentTerm()
		if err := p.ascend(ctx, term); err != nil {
			if ctx.Err() == nil {
				p.log.Warn("leads but cannot be Primary yet", "term", term, "error", err)
			}
			if unable++; unable >= ascendTries {
				unable = 0
				p.stepDown(ctx, term)
			}
			if p.raft.State() == raft.Leader && len(p.otherVoters()) > 0 {
				// Who is heard but does not hear, leads for ever and is never Primary: the others
				// get time to choose someone else.
				p.layDown(term, err)
				if !sleep(ctx, p.timing.Detect()) {
					return
				}
				continue
			}
			if !sleepOr(ctx, p.woken(), p.timing.HeartbeatPeriod) {
				return
			}
			continue
		}
		unable = 0
		p.rule(ctx, term)
	}
}

// ascendTries is how often a leader tries to become Primary in one term, each for the time of
// ascend, before it gives the term up. A voter that voted in a newer term, in an election that
// came to nothing, never again supports an older one.
const ascendTries = 3

// stepDown gives leadership in Raft up for a newer term, in which anyone may stand.
func (p *Pool) stepDown(ctx context.Context, term uint64) {
	others := p.otherVoters()
	if len(others) == 0 {
		return
	}
	p.log.Warn("giving up a term in which this Manager leads but cannot be Primary", "term", term)
	ctx, cancel := context.WithTimeout(ctx, p.timing.LongLivedTimeout)
	defer cancel()
	if err := p.trans.Depose(ctx, raft.ServerID(others[0]), term); err != nil {
		p.log.Warn("cannot give up the term", "term", term, "error", err)
	}
}

// ascend gathers everything that being Primary in term needs: the lease and a committed barrier.
func (p *Pool) ascend(ctx context.Context, term uint64) error {
	elected := Now()
	p.lease.voting(p.otherVoters())
	p.lease.begin(term)
	p.mu.Lock()
	p.laid = nil
	p.mu.Unlock()
	p.gate.Begin(term, p.raft.LastIndex())
	if other, ok := p.otherManager(); ok && !p.reachable(other.ID) {
		p.gate.Quiet(term) // its silence is why this node leads: it has been waited for already
	}
	p.kicks.wake() // ask for the lease at once
	ctx, cancel := context.WithTimeout(ctx, 2*p.timing.Detect())
	defer cancel()
	if err := await(ctx, p.raft.Barrier(2*p.timing.Detect())); err != nil {
		return fmt.Errorf("commit a barrier: %w", err)
	}
	for {
		wake := p.woken()
		if p.raft.State() != raft.Leader || p.raft.CurrentTerm() != term {
			return ErrDeposed
		}
		if Now() < p.lease.until() {
			break
		}
		if !sleepOr(ctx, wake, 5*time.Millisecond) {
			return fmt.Errorf("obtain the lease: %w", context.Cause(ctx))
		}
	}
	p.beginChangeover(term, elected)
	return nil
}

// rule runs Serve until the right ends, whatever ends it.
func (p *Pool) rule(ctx context.Context, term uint64) {
	rctx, cancel := context.WithCancelCause(ctx)
	r := &reign{term: term, cancel: cancel, done: make(chan struct{})}
	_, _ = rand.Read(r.secret[:])
	sum := sha256.Sum256(r.secret[:])
	r.hash = hex.EncodeToString(sum[:])
	p.mu.Lock()
	p.reign, p.heardLead = r, true
	var heirs []string
	for _, m := range p.record.Members {
		if m.ID != p.self {
			heirs = append(heirs, m.Address.String())
		}
	}
	var c Changeover
	if p.changeover != nil {
		c = *p.changeover
	}
	vacant := p.vacant == term
	p.mu.Unlock()
	p.kicks.wake() // the hash of the farewell goes out before the VIP is taken
	p.beginsReign(term)
	p.setStatus(Primary)
	p.event(Event{Code: "became_primary", Severity: "info", Term: term, From: Online, To: Primary, Cause: c.Cause, Details: map[string]any{"kind": c.Kind, "was_primary": c.From}})

	guarded := make(chan struct{})
	p.wg.Go(func() { defer close(guarded); p.guardReign(rctx, r) })
	if p.cfg.Canary != nil {
		p.wg.Go(func() { p.canary(rctx, r) })
	}
	p.cfg.Serve(rctx, Reign{
		Term: term, Until: p.rightUntil, Heirs: heirs,
		Farewell: transport.FarewellMessage(r.secret[:]), Changeover: c, Vacant: vacant,
	})
	cancel(fmt.Errorf("%w: serving ended by itself", ErrSick))
	<-guarded // or it would take the next reign's status away
	p.setStatus(Online)
	cause := context.Cause(rctx)
	p.endsReign(term, cause)
	p.mu.Lock()
	if p.reign == r {
		p.reign = nil
	}
	p.extra = nil
	p.mu.Unlock()
	if errors.Is(cause, ErrSick) {
		p.mu.Lock()
		p.sickness, p.sickAt = cause.Error(), Now()
		p.mu.Unlock()
	}
	if p.raft.State() != raft.Leader && ctx.Err() == nil {
		// A leader that stepped down, say because its log could not be written, never leads in
		// this term again: the others need not wait for its silence.
		p.releaseAll(term, "", "", cause.Error())
	}
	close(r.done)
	p.event(Event{Code: "primary_ended", Severity: "warning", Term: term, From: Primary, To: Online, Cause: cause.Error()})
}

// layDown frees the voters of a leader that must not be Primary. The log may hang, so leadership
// cannot be transferred by it.
func (p *Pool) layDown(term uint64, why error) {
	p.mu.Lock()
	handing := p.handing // then the votes are freed once the other Manager has everything
	done := p.laid != nil && p.laid.Term == term
	p.mu.Unlock()
	if _, asking := p.lease.asking(term); handing || done && !asking {
		return
	}
	p.releaseAll(term, "", "", why.Error())
	p.trans.EndTerm()
}

// rightUntil is the end of the lease, or 0 once the reign has been ended for another reason.
func (p *Pool) rightUntil() Instant {
	p.mu.Lock()
	// Handed over in order, it lasts until everything is laid down: what is in flight is still
	// answered. The votes are not released before.
	ended := p.status != Primary && !(p.handing && p.reign != nil)
	p.mu.Unlock()
	if ended {
		return 0
	}
	return p.lease.until()
}

// guardReign ends the reign at the very end of the lease.
func (p *Pool) guardReign(ctx context.Context, r *reign) {
	for ctx.Err() == nil {
		wake := p.woken()
		if p.raft.CurrentTerm() != r.term || p.raft.State() != raft.Leader {
			r.cancel(ErrDeposed)
			break
		}
		p.lease.voting(p.otherVoters())
		left := p.lease.until().Sub(Now())
		if left <= 0 {
			r.cancel(ErrLeaseOver)
			break
		}
		if err := p.watch.sick(); err != nil {
			r.cancel(fmt.Errorf("%w: %w", ErrSick, err))
			break
		}
		if err := p.electable(); err != nil {
			r.cancel(fmt.Errorf("%w: %w", ErrHandOver, err))
			break
		}
		if !sleepOr(ctx, wake, min(left, p.timing.HeartbeatPeriod)) {
			break
		}
	}
	if ctx.Err() != nil { // nothing may be believed from here on, however long Serve takes to lay down
		p.setStatus(Online)
	}
}

// canary writes through the whole path, so that an idle Primary finds out too that it cannot.
func (p *Pool) canary(ctx context.Context, r *reign) {
	period := max(p.timing.DiskTimeout/2, 100*time.Millisecond)
	limit := max(3*p.timing.DiskTimeout, 2*p.timing.HoldTimeout+p.timing.DiskTimeout)
	for {
		if !sleep(ctx, period) {
			return
		}
		cctx, cancel := context.WithTimeout(ctx, limit)
		err := p.cfg.Canary(cctx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			p.log.Error("canary write failed", "error", err)
			r.cancel(fmt.Errorf("%w: canary: %w", ErrSick, err))
			return
		}
	}
}

// endReign ends being Primary with a cause; with wait it returns when Serve has returned.
// It reports whether there was a reign.
func (p *Pool) endReign(cause error, wait bool) bool {
	p.mu.Lock()
	r := p.reign
	p.mu.Unlock()
	if r == nil {
		return false
	}
	r.cancel(cause)
	if wait {
		<-r.done
	}
	return true
}

// releaseAll frees the others' votes from this node's lease. What is said here once is repeated in
// every heartbeat until this node leads no more or asks for the lease again.
func (p *Pool) releaseAll(term uint64, to MemberID, kind, why string) {
	r := release{Term: term, Epoch: p.lease.release(), To: to, Kind: kind, Why: why}
	p.mu.Lock()
	r.Code = causeOf(p.handCode, kind, why)
	p.laid = &r
	p.mu.Unlock()
	for _, m := range p.Record().Members {
		if m.ID != p.self {
			p.tell(m.ID, linkMessage{Release: &r})
		}
	}
}

func (p *Pool) otherVoters() []MemberID {
	f := p.raft.GetConfiguration()
	if f.Error() != nil {
		return nil
	}
	p.mu.Lock()
	out := slices.Clone(p.pending)
	p.mu.Unlock()
	for _, s := range f.Configuration().Servers {
		if id := MemberID(s.ID); s.Suffrage == raft.Voter && id != p.self && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func (p *Pool) setStatus(s Status) {
	p.mu.Lock()
	old := p.status
	p.status, p.term = s, p.raft.CurrentTerm()
	p.mu.Unlock()
	if old != s {
		p.kicks.wake()
		p.wake()
	}
}

// beginChangeover opens the account of this change of Primary.
func (p *Pool) beginChangeover(term uint64, elected Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changeover != nil && p.changeover.Term == term && p.changeover.To == p.name(p.self) {
		return
	}
	c := &Changeover{
		Kind: "start", Cause: "elected", Code: CauseStart, FencedMS: -1, At: time.Now(), Term: term, To: p.name(p.self), Began: elected,
		VIPMS: -1, FirstWrite: -1, FirstUnit: -1, AllUnits: -1,
	}
	if k := p.cause; k.kind != "" && k.term < term && Since(k.detected) < 10*time.Second {
		c.Kind, c.Cause, c.From, c.Began = k.kind, k.why, p.name(k.from), k.began
		c.DetectedMS = ms(k.detected.Sub(k.began))
		c.Code, c.Evidence, c.FromTerm = k.code, k.saw, k.term
		if k.vacant {
			p.vacant = term
		}
	} else if prev := p.view.Primary; prev != "" && prev != p.self {
		c.Kind, c.Cause, c.Code, c.From, c.FromTerm = "takeover", "elected by timeout", CauseElection, p.name(prev), p.view.Term
		for _, s := range p.witness.Sightings { // what it has seen, if it has seen anything
			if s.Term == c.FromTerm {
				c.Evidence = append(c.Evidence, s)
			}
		}
	}
	c.FencedMS = ms(Since(c.Began))
	c.ElectedMS = ms(elected.Sub(c.Began))
	p.cause = takeoverCause{}
	p.changeover = c
}

// Note lets the composer fill in its part of the present changeover, under the lock.
func (p *Pool) Note(term uint64, f func(*Changeover)) {
	p.mu.Lock()
	if c := p.changeover; c != nil && c.Term == term {
		f(c)
	}
	p.mu.Unlock()
	p.wake()
}
