package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"redundancypool/manager/pool/transport"
)

// Gone remembers a member that was taken out while the pool went on, or that was not there when
// the pool was left: it learns so when it comes back.
type Gone struct {
	ID          MemberID `json:"id"`
	Fingerprint string   `json:"fingerprint"`
	Name        string   `json:"name"`
	Role        Role     `json:"role"`
	Why         string   `json:"why"` // one of those below: the code that it is refused with
	AtMS        int64    `json:"at_ms"`
	// Fork is where the survivor's log ended when it went on alone: what the member has beyond it
	// is not in the pool.
	Fork Position `json:"fork,omitzero"`
}

// Why a member is gone.
const (
	GoneReplaced = "replaced" // another has its place: it is refused until it is reset
	GoneLeft     = "left"     // the pool was left: it forgets the pool
	GoneForced   = "forced"   // a survivor went on alone: it is refused until it is reset
	GoneApart    = "departed" // the one who says so has left by itself: nothing for the other to do
)

// mostGone bounds the list; who has been away for so many changes is told that it is no member.
const mostGone = 16

// Bury returns list with m as gone, the oldest dropped when there are too many.
func Bury(list []Gone, m Member, why string) []Gone {
	out := append(slices.Clone(list), Gone{ID: m.ID, Fingerprint: m.Fingerprint, Name: m.Name, Role: m.Role, Why: why, AtMS: time.Now().UnixMilli()})
	return out[max(0, len(out)-mostGone):]
}

// refusal is what g is told when it comes back.
func (g Gone) refusal(pool string) error {
	at := time.UnixMilli(g.AtMS).UTC().Format("2006-01-02 15:04:05")
	if g.Why == GoneLeft {
		return transport.Refuse(GoneLeft, "pool %s was left at %s UTC while this member was away", short(pool), at)
	}
	if g.Why == GoneApart {
		return transport.Refuse(GoneApart, "this member has left pool %s by itself at %s UTC: replace it there", short(pool), at)
	}
	how := `run "manager redundancy leave" on it (it keeps its copy of the data as Standalone) before it joins a pool again`
	if g.Role == Arbiter {
		how = `stop it and run "arbiter reset" on its machine before it joins a pool again`
	}
	if g.Why == GoneForced {
		data, _ := json.Marshal(g.Fork)
		return &transport.Refusal{Code: GoneForced, Data: string(data), Text: fmt.Sprintf(
			"another Manager went on alone with pool %s at %s UTC, after entry %d of term %d: this member is of the pool before it. What it has beyond that is exported on its page Database; %s",
			short(pool), at, g.Fork.Index, g.Fork.Term, how)}
	}
	return transport.Refuse(GoneReplaced, "%s was replaced in pool %s at %s UTC: %s", g.Name, short(pool), at, how)
}

// expulsion tells a refusal that ends this member's part in the pool from one that may pass.
func expulsion(err error) (*transport.Refusal, bool) {
	var no *transport.Refusal
	if !errors.As(err, &no) {
		return nil, false
	}
	return no, no.Code == GoneReplaced || no.Code == GoneLeft || no.Code == GoneForced || no.Code == "incarnation"
}

// expel notes that another member refuses this one for good, and tells the composer once.
func (p *Pool) expel(no *transport.Refusal) {
	p.mu.Lock()
	// While a pool is being formed the others may not know of it yet.
	known := p.record.Phase != PhaseEffective || p.expelled != nil && *p.expelled == *no
	if p.record.Phase == PhaseEffective {
		p.expelled = no
	}
	p.mu.Unlock()
	if known {
		return
	}
	p.event(Event{Code: "expelled", Severity: "error", Cause: no.Text, Details: map[string]any{"code": no.Code}})
	if p.cfg.Expelled != nil {
		go p.cfg.Expelled(*no) // it may close this Pool, which waits for its goroutines
	}
	p.wake()
}

// Update takes over a newer agreement of the pool's members: who they are and where, their times,
// the virtual IP. The agreement must be committed. Links follow at once; Stale tells when this
// member must be opened anew to work by it. An older or the same revision changes nothing.
func (p *Pool) Update(rec Record) error {
	p.recording.Lock()
	p.mu.Lock()
	old := p.record
	p.mu.Unlock()
	if rec.Revision <= old.Revision || rec.Pool != old.Pool || rec.Incarnation != old.Incarnation {
		p.recording.Unlock()
		return nil
	}
	rec.Self, rec.Phase, rec.Highest = old.Self, old.Phase, old.Highest
	if _, ok := rec.Member(rec.Self); !ok {
		p.recording.Unlock()
		return fmt.Errorf("revision %d of the pool's agreement does not name this member any more", rec.Revision)
	}
	err := WriteRecord(p.cfg.Dir, rec)
	if err == nil {
		p.mu.Lock()
		rec.Highest = p.record.Highest // it may have moved on meanwhile
		p.record = rec
		p.mu.Unlock()
	}
	p.recording.Unlock()
	if err != nil {
		return err
	}
	if p.gate != nil && manager(rec) != manager(old) {
		p.gate.NewPeer()
	}
	p.syncPeers()
	p.kicks.wake()
	p.wake()
	return nil
}

// manager returns the id of the other Manager; empty when there is none.
func manager(r Record) MemberID {
	for _, m := range r.Members {
		if m.ID != r.Self && m.Role != Arbiter {
			return m.ID
		}
	}
	return ""
}

// SetStale tells all members that this one must be opened anew to work by what was agreed.
func (p *Pool) SetStale(stale bool) {
	p.mu.Lock()
	changed := p.runsOld != stale
	p.runsOld = stale
	p.mu.Unlock()
	if changed {
		p.kicks.wake()
		p.wake()
	}
}

// staleRunLocked reports whether this member was opened with times that are no longer agreed.
func (p *Pool) staleRunLocked() bool { return p.runsOld || p.record.Timing != p.cfg.Record.Timing }

// spread hands the record to an Arbiter that has an older one: it has no database to learn from.
func (p *Pool) spread(to MemberID, has uint64) {
	rec := p.Record()
	if has >= rec.Revision || rec.Phase != PhaseEffective || !p.isArbiter(to) || p.raft.State() != raft.Leader || !p.seldom("spread", 100*time.Millisecond) {
		return
	}
	rec.Highest = nil
	p.tell(to, linkMessage{Record: &rec})
}

// onRecord is an Arbiter's part: it believes a Manager of its pool.
func (p *Pool) onRecord(from MemberID, rec Record) {
	if !p.arbiter() || p.isArbiter(from) || !p.enter() {
		return
	}
	go func() { // the disk must not hold up the answers on this link
		defer p.leave()
		if err := p.Update(rec); err != nil {
			p.log.Warn("cannot take over the pool's agreement", "revision", rec.Revision, "error", err)
		}
	}()
}

// ErrWaits is wrapped by Reconcile's errors for what may pass by itself, such as a new member that
// has not called yet.
var ErrWaits = errors.New("waiting")

// Reconcile brings the log's list of members to what the record names, by steps that never cost
// the quorum: who is not named goes out first; who is named and missing reads along, is filled, and
// votes once it has everything. It returns nil when both agree. Called again after any
// interruption, on whichever Manager leads, it goes on where the log says that it stands.
func (p *Pool) Reconcile(ctx context.Context, progress func(Step)) error {
	rec := p.Record()
	if rec.Phase != PhaseEffective || p.raft.State() != raft.Leader {
		return nil
	}
	f := p.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return err
	}
	votes := map[MemberID]bool{}
	for _, s := range f.Configuration().Servers {
		id := MemberID(s.ID)
		if _, named := rec.Member(id); named {
			votes[id] = s.Suffrage == raft.Voter
			continue
		}
		if s.Suffrage == raft.Voter {
			if err := p.othersAnswer(rec); err != nil {
				return err
			}
		}
		if err := await(ctx, p.raft.RemoveServer(s.ID, 0, p.timing.LongLivedTimeout)); err != nil {
			return fmt.Errorf("take %s out of the log's members: %w", short(string(id)), err)
		}
		progress(Step{Code: "removed", Text: "the member before is out: it does not vote any more", Done: true})
	}
	for _, m := range rec.Members {
		if m.ID == p.self || votes[m.ID] {
			continue
		}
		if _, reads := votes[m.ID]; !reads {
			if !p.reachable(m.ID) {
				return fmt.Errorf("%w: %s at %v does not answer%s", ErrWaits, m.Name, m.Address, p.linkFailure(m.ID))
			}
			if err := await(ctx, p.raft.AddNonvoter(raft.ServerID(m.ID), raft.ServerAddress(m.ID), 0, p.timing.LongLivedTimeout)); err != nil {
				return fmt.Errorf("add %s to the log's readers: %w", m.Name, err)
			}
			progress(Step{Code: m.Role.String() + "_connect", Text: m.Name + " is connected and reads along", Done: true})
		}
		behind := p.lags(m)
		if behind > 0 || !p.bothFresh(m.ID) {
			progress(Step{Code: "synchronise", Text: fmt.Sprintf("filling %s: %d entries to go", m.Name, behind), Behind: behind})
			return fmt.Errorf("%w: %s is %d entries behind", ErrWaits, m.Name, behind)
		}
		progress(Step{Code: "synchronise", Text: m.Name + " has everything", Done: true})
		if err := p.promote(ctx, m); err != nil {
			return err
		}
		progress(Step{Code: "voters", Text: m.Name + " votes", Done: true})
		p.event(Event{Code: "member_joined", Severity: "info", Member: m.ID})
	}
	return nil
}

// promote makes a member that has everything a voter. From the moment of the proposal the right
// counts on it.
func (p *Pool) promote(ctx context.Context, m Member) error {
	p.setPending(m.ID)
	defer p.setPending()
	if err := await(ctx, p.raft.AddVoter(raft.ServerID(m.ID), raft.ServerAddress(m.ID), 0, p.timing.LongLivedTimeout)); err != nil {
		return fmt.Errorf("make %s a voter: %w", m.Name, err)
	}
	return nil
}

// othersAnswer makes sure that those who stay are there: what takes a voter out needs their votes.
func (p *Pool) othersAnswer(rec Record) error {
	for _, m := range rec.Members {
		if m.ID != p.self && p.isVoter(m.ID) && !p.bothFresh(m.ID) {
			return fmt.Errorf("%w: %s does not answer, and without it nothing can be changed", ErrWaits, m.Name)
		}
	}
	return nil
}

func (p *Pool) isVoter(id MemberID) bool { return slices.Contains(p.otherVoters(), id) }

// lags is how many entries a member lacks: a Manager by what it acknowledged, an Arbiter by what it
// reports. A busy pool always has a few in flight; they are not a lag.
func (p *Pool) lags(m Member) uint64 {
	last, term := p.raft.LastIndex(), p.raft.CurrentTerm()
	if m.Role != Arbiter {
		g := p.gate.View(term)
		switch {
		case g.InStep && last-min(g.Match, last) <= 8:
			return 0
		case g.Match >= last && !g.InStep:
			return 1
		}
		return last - min(g.Match, last)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[m.ID]
	if pr == nil || pr.report.Last.Term < p.term {
		return max(1, last)
	}
	if left := last - min(pr.report.Last.Index, last); left > 64 {
		return left
	}
	return 0
}
