package pool

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// PhaseForced is a pool of one that goes on after its other members were lost: it still is the
// owner of the virtual IP, and the others must join anew.
const PhaseForced Phase = "forced"

// termLeap is added to the term of a member that goes on alone, so that no member of the old pool
// that returns can ever win a term it shares with it.
const termLeap = 1_000_000

// Isolate makes the member in dir, which must not be open, the only one of a new incarnation of
// its pool. Everything in its log counts as committed, whether or not it was: nothing that was
// acknowledged is given up. The record says what the member is from now on.
func Isolate(ctx context.Context, dir string, rec Record, machine Machine, log func(string, ...any)) error {
	w := newWatch(Now, DefaultTiming().DiskTimeout)
	st, err := openStore(dir, w, ctx.Done())
	if err != nil {
		return err
	}
	snaps := &snapshots{dir: dir, machine: machine, ctx: ctx}
	f := &fsm{machine: machine, ctx: ctx, watch: w, log: log, applied: func(Position) {}}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(rec.Self)
	conf.LogOutput = discard{}
	only := raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(rec.Self), Address: raft.ServerAddress(rec.Self),
	}}}
	var end Position
	err = func() error {
		if err := raft.RecoverCluster(conf, f, st, st, snaps, nowhere(rec.Self), only); err != nil {
			return err
		}
		// The library numbers the new configuration 1; the database remembers an older one with a
		// higher number, which must not win when this state is sent to a new member.
		m, err := snaps.marker()
		if err != nil {
			return err
		}
		m.ConfigurationIndex = m.Index
		end = Position{Term: m.Term, Index: m.Index}
		if err := snaps.mark(*m); err != nil {
			return err
		}
		term, err := st.GetUint64([]byte("CurrentTerm"))
		if err != nil && err.Error() != "not found" {
			return err
		}
		return st.SetUint64([]byte("CurrentTerm"), term+termLeap)
	}()
	if err := errors.Join(err, st.Close()); err != nil {
		return fmt.Errorf("go on alone in %s: %w", dir, err)
	}
	for i, g := range rec.Gone {
		if g.Why == GoneForced && g.Fork == (Position{}) {
			rec.Gone[i].Fork = end
		}
	}
	rec.Incarnation, rec.Highest, rec.Revision = NewID(), nil, 0
	rec.Members = []Member{rec.me()}
	return WriteRecord(dir, rec)
}

// Standing is how far the third member's log is ahead of this one's: the number of acknowledged
// entries that could be missing here. known is false when it has not been heard.
func (p *Pool) Standing() (ahead uint64, known bool) {
	mine := p.lastPosition()
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.record.ByRole(Arbiter)
	if !ok || p.peers[m.ID] == nil || p.peers[m.ID].reported == 0 {
		return 0, false
	}
	theirs := p.peers[m.ID].report.Last
	if !mine.Before(theirs) {
		return 0, true
	}
	if theirs.Index > mine.Index {
		return theirs.Index - mine.Index, true
	}
	return 1, true // a newer term at a lower index: at least one
}

// Beyond calls each with every entry of this member's log that lies beyond fork, in order: what a
// pool that went on from there does not have. The entries need not have been committed.
func (p *Pool) Beyond(fork Position, each func(Entry) error) (n int, err error) {
	first, err := p.store.FirstIndex()
	if err != nil {
		return 0, err
	}
	last, err := p.store.LastIndex()
	if err != nil {
		return 0, err
	}
	var l raft.Log
	from := fork.Index + 1
	for ; from > first; from-- { // the same index with a newer term is not the same entry
		if err := p.store.GetLog(from-1, &l); err != nil || l.Term <= fork.Term {
			break
		}
	}
	for i := max(from, first); i != 0 && i <= last; i++ {
		if err := p.store.GetLog(i, &l); err != nil {
			return n, fmt.Errorf("read entry %d: %w", i, err)
		}
		if l.Type != raft.LogCommand {
			continue
		}
		if err := each(Entry{Index: l.Index, Term: l.Term, Data: l.Data}); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
