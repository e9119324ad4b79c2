package pool

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"
)

// Resume settles, on the Master, a forming that the end of its process interrupted, by what
// this member's own log says: with three voters the pool is effective and Resume returns true,
// else everyone else is taken out again and it is a pool of one. It waits until this node leads,
// another one does, or ctx ends.
func (p *Pool) Resume(ctx context.Context) (effective bool, err error) {
	err = p.until(ctx, func() (bool, error) {
		return p.Record().Phase == PhaseEffective || p.ownStatus() == Primary, nil
	})
	if err != nil {
		return false, fmt.Errorf("wait for this Manager's own log: %w", err)
	}
	rec := p.Record()
	if rec.Phase == PhaseEffective {
		return true, nil
	}
	others, voters, err := p.servers()
	if err != nil {
		return false, err
	}
	if rec.Phase == PhaseForming && voters == 3 {
		rec.Phase = PhaseEffective
		if err := p.adopt(rec); err != nil {
			return false, err
		}
		p.event(Event{Code: "pool_effective", Severity: "info"})
		p.endReign(errBegun, true)
		return true, nil
	}
	for _, id := range others {
		if err := await(ctx, p.raft.RemoveServer(id, 0, p.timing.LongLivedTimeout)); err != nil {
			return false, fmt.Errorf("take out what an interrupted forming left: %w", err)
		}
	}
	if rec.Phase == PhaseForming {
		return false, p.reduce(ctx, rec)
	}
	return false, nil
}

// Votes reports whether this member's own log lists it as a voter beside others: from there an
// unfinished forming only goes forward.
func (p *Pool) Votes() bool {
	f := p.raft.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	mine, voters := false, 0
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			mine = mine || MemberID(s.ID) == p.self
		}
	}
	return mine && voters > 1
}

// servers lists everyone but this node that the log names, and counts the voters.
func (p *Pool) servers() (others []raft.ServerID, voters int, err error) {
	f := p.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, 0, err
	}
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
		}
		if MemberID(s.ID) != p.self {
			others = append(others, s.ID)
		}
	}
	return others, voters, nil
}

func (p *Pool) ownStatus() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.statusLocked()
}
