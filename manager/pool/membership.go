package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Step is one line of progress while a pool is formed or left.
type Step struct {
	Code   string  `json:"code"`
	Text   string  `json:"text"`
	Done   bool    `json:"done"`
	Behind uint64  `json:"behind,omitempty"` // entries that the Backup still lacks
	Share  float64 `json:"share,omitempty"`  // 0 to 1, where it can be told
}

// ErrVoting is wrapped by Form's errors from the first added voter on: from there it can only go
// forward, or the pool be left in order.
var ErrVoting = errors.New("the pool already has a second voter")

// errBegun ends the reign of a pool of one whose pool of three has begun.
var errBegun = errors.New("the pool is effective: Primary begins anew with the VIP")

// adopt replaces the record, on disk first, and opens and closes links accordingly.
func (p *Pool) adopt(rec Record) error {
	p.recording.Lock()
	err := WriteRecord(p.cfg.Dir, rec)
	if err == nil {
		p.mu.Lock()
		p.record = rec
		p.mu.Unlock()
	}
	p.recording.Unlock()
	if err != nil {
		return err
	}
	p.syncPeers()
	if p.cfg.OnRecord != nil {
		p.cfg.OnRecord(rec)
	}
	p.wake()
	return nil
}

// Form makes this pool of one a pool of three: rec names all members, who have joined with empty
// stores and wait. Entries and data flow to both before either votes; then both become voters back
// to back, the Arbiter first. Until then ctx may end it and nothing has changed but the record.
func (p *Pool) Form(ctx context.Context, rec Record, progress func(Step)) error {
	if err := p.adopt(rec); err != nil {
		return err
	}
	backup, ok1 := rec.ByRole(Backup)
	arbiter, ok2 := rec.ByRole(Arbiter)
	if !ok1 || !ok2 {
		return errors.New("form pool: the record must name a Backup and an Arbiter")
	}
	for _, m := range []Member{backup, arbiter} {
		progress(Step{Code: m.Role.String() + "_connect", Text: "connecting to " + m.Name + " at " + m.Address.String()})
		if err := p.until(ctx, func() (bool, error) { return p.reachable(m.ID), nil }); err != nil {
			return fmt.Errorf("connect to %s at %v: %w%s", m.Name, m.Address, err, p.linkFailure(m.ID))
		}
		progress(Step{Code: m.Role.String() + "_connect", Text: m.Name + " is connected", Done: true})
	}
	for _, m := range []Member{backup, arbiter} {
		f := p.raft.AddNonvoter(raft.ServerID(m.ID), raft.ServerAddress(m.ID), 0, p.timing.LongLivedTimeout)
		if err := await(ctx, f); err != nil {
			return fmt.Errorf("add %s to the log's readers: %w", m.Name, err)
		}
	}
	progress(Step{Code: "synchronise", Text: "copying the database to " + backup.Name})
	told := Now()
	err := p.until(ctx, func() (bool, error) {
		behind := p.behind(backup.ID, arbiter.ID)
		if Since(told) > 200*time.Millisecond {
			told = Now()
			progress(Step{Code: "synchronise", Text: fmt.Sprintf("copying the database to %s: %d entries to go", backup.Name, behind), Behind: behind})
		}
		return behind == 0 && p.bothFresh(backup.ID, arbiter.ID), nil
	})
	if err != nil {
		return fmt.Errorf("copy the database to %s: %w", backup.Name, err)
	}
	progress(Step{Code: "synchronise", Text: backup.Name + " has everything", Done: true})
	if err := p.addVoters(ctx, arbiter, backup); err != nil {
		return err
	}
	progress(Step{Code: "voters", Text: "both vote", Done: true})
	rec.Phase = PhaseEffective
	if err := p.adopt(rec); err != nil {
		return fmt.Errorf("%w: %w", ErrVoting, err)
	}
	p.event(Event{Code: "pool_effective", Severity: "info"})
	p.endReign(errBegun, true)
	return nil
}

// addVoters makes both vote, back to back, and undoes the first at once when the second fails:
// with two voters either one's death would stop the pool.
func (p *Pool) addVoters(ctx context.Context, first, second Member) error {
	limit := p.timing.LongLivedTimeout
	// From the moment that a second member votes the right depends on the others; better a
	// moment too early.
	p.setPending(first.ID, second.ID)
	defer p.setPending()
	if err := p.until(ctx, func() (bool, error) { return p.bothFresh(first.ID, second.ID) && Now() < p.lease.until(), nil }); err != nil {
		return fmt.Errorf("hear %s and %s: %w", first.Name, second.Name, err)
	}
	if err := await(ctx, p.raft.AddVoter(raft.ServerID(first.ID), raft.ServerAddress(first.ID), 0, limit)); err != nil {
		return fmt.Errorf("make %s a voter: %w%s", first.Name, err, p.undo(first))
	}
	// Once proposed, the second one is best waited for: whatever would take the first one back needs
	// the same majority.
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	if err := await(bound, p.raft.AddVoter(raft.ServerID(second.ID), raft.ServerAddress(second.ID), 0, limit)); err != nil {
		return fmt.Errorf("make %s a voter: %w%s", second.Name, err, p.undo(second, first))
	}
	return nil
}

func (p *Pool) setPending(ids ...MemberID) {
	p.mu.Lock()
	p.pending = ids
	p.mu.Unlock()
	p.lease.voting(p.otherVoters())
}

func (p *Pool) undo(ms ...Member) string {
	ctx, cancel := context.WithTimeout(p.ctx, p.timing.LongLivedTimeout)
	defer cancel()
	for _, m := range ms {
		if err := await(ctx, p.raft.RemoveServer(raft.ServerID(m.ID), 0, p.timing.LongLivedTimeout)); err != nil {
			return fmt.Sprintf("; taking %s back out failed too: %v", m.Name, err)
		}
	}
	return "; taken back"
}

// Unform takes readers that do not vote yet out again and makes this a pool of one as before.
func (p *Pool) Unform(ctx context.Context) error {
	rec := p.Record()
	if rec.Phase == PhaseEffective {
		return fmt.Errorf("cannot cancel: %w; leave the pool instead", ErrVoting)
	}
	return p.reduce(ctx, rec)
}

// Dissolve leaves a running pool: this node, which must lead, stays with its data as a pool of
// one. The unreachable member goes first, so that a quorum is never lost on the way.
func (p *Pool) Dissolve(ctx context.Context) error {
	if p.raft.State() != raft.Leader {
		return errors.New("leave pool: this Manager does not lead; do it on the Primary")
	}
	return p.reduce(ctx, p.Record())
}

func (p *Pool) reduce(ctx context.Context, rec Record) error {
	p.gate.NoPeer(true)
	var others []Member
	for _, m := range rec.Members {
		if m.ID != p.self {
			others = append(others, m)
		}
	}
	// Who has just died still looks reachable for a moment: wait until that is certain.
	began := Now()
	answers := func(m Member) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		pr := p.peers[m.ID]
		return pr != nil && max(pr.answered[0], pr.answered[1]) > began.Add(p.timing.HeartbeatTimeout) && !pr.gone()
	}
	sure := func(m Member) bool { return answers(m) || !p.reachable(m.ID) }
	if err := p.until(ctx, func() (bool, error) {
		return !slices.ContainsFunc(others, func(m Member) bool { return !sure(m) }), nil
	}); err != nil {
		return fmt.Errorf("leave pool: find out who is reachable: %w", err)
	}
	slices.SortStableFunc(others, func(a, b Member) int {
		ra, rb := answers(a), answers(b)
		switch {
		case ra == rb && a.Role == Backup: // the Arbiter stays to the last: it is the surest voter
			return -1
		case ra == rb:
			return 1
		case !ra:
			return -1
		}
		return 1
	})
	for _, m := range others {
		if err := await(ctx, p.raft.RemoveServer(raft.ServerID(m.ID), 0, p.timing.LongLivedTimeout)); err != nil {
			return fmt.Errorf("take %s out of the pool: %w", m.Name, err)
		}
	}
	if rec.Phase == PhaseEffective {
		for _, m := range others {
			rec.Gone = Bury(rec.Gone, m, GoneLeft)
		}
	}
	me := rec.me()
	me.Role = Standalone
	rec.Revision = 0
	rec.Members, rec.Phase, rec.VIP = []Member{me}, PhaseSingle, ""
	rec.Incarnation, rec.Highest = NewID(), nil
	if err := p.adopt(rec); err != nil {
		return err
	}
	p.endReign(errors.New("the pool was left"), true)
	return nil
}

// settle marks the record effective once this member's own log lists three voters, itself among
// them: from there a restart must not fall back.
func (p *Pool) settle() {
	rec := p.Record()
	if rec.Phase != PhaseForming {
		return
	}
	f := p.raft.GetConfiguration()
	if f.Error() != nil {
		return
	}
	voters := 0
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	if p.raft.CommitIndex() < f.Index() {
		return // it could still be taken back
	}
	if voters < 3 || p.raft.State() == raft.Leader { // the leader's own Form does it
		return
	}
	rec.Phase = PhaseEffective
	rec.Highest = maps.Clone(rec.Highest)
	if rec.Highest == nil {
		rec.Highest = map[MemberID]Position{}
	}
	rec.Highest[p.self] = p.lastPosition() // from here on an empty store is a lost one
	if err := p.adopt(rec); err != nil {
		p.log.Error("cannot note that the pool is effective", "error", err)
		return
	}
	p.event(Event{Code: "pool_effective", Severity: "info"})
}

// until waits for ok, an error or the end of ctx.
func (p *Pool) until(ctx context.Context, ok func() (bool, error)) error {
	for {
		wake := p.woken()
		done, err := ok()
		if done || err != nil {
			return err
		}
		if !sleepOr(ctx, wake, 50*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

func (p *Pool) reachable(id MemberID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[id]
	return pr != nil && pr.reported != 0 && Since(pr.lastHeard()) <= p.timing.Detect() && !pr.gone()
}

func (p *Pool) linkFailure(id MemberID) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if pr := p.peers[id]; pr != nil && pr.failure != "" {
		return ": " + pr.failure
	}
	return ""
}

// behind is how many entries the slower of two readers lacks, the Backup by what it acknowledged
// and the Arbiter by what it reports.
func (p *Pool) behind(backup, arbiter MemberID) uint64 {
	last := p.raft.LastIndex()
	have := p.gate.View(p.raft.CurrentTerm()).Match
	p.mu.Lock()
	known := false // the Arbiter has something of the present term: it follows this leader
	if pr := p.peers[arbiter]; pr != nil {
		have = min(have, pr.report.Last.Index)
		known = pr.report.Last.Term >= p.term
	}
	p.mu.Unlock()
	if !known {
		return max(1, last-min(have, last))
	}
	if have >= last {
		return 0
	}
	// A busy pool always has entries in flight; a few are not a lag.
	if last-have <= 8 && p.gate.View(p.raft.CurrentTerm()).InStep {
		return 0
	}
	return last - have
}

func (p *Pool) bothFresh(ids ...MemberID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		pr := p.peers[id]
		if pr == nil || Since(max(pr.answered[0], pr.answered[1])) > 2*p.timing.HeartbeatPeriod+p.timing.HeartbeatTimeout {
			return false
		}
	}
	return true
}
