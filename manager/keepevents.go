package manager

import (
	"context"
	"slices"
	"time"

	"redundancypool/manager/database"
	"redundancypool/manager/journal"
)

// How gently the Primary takes the others' events into the history: so many each so often, beginning
// a while after it became Primary, when the units are back.
const (
	keepAfter = 5 * time.Second
	keepEvery = 2 * time.Second
	keepBatch = 20
)

// keepEvents is the Primary's duty to keep in the history, on both Managers, what only another
// member's journal has: the Arbiter's events, those of a Manager that is Online, and what either
// noted while there was no Primary. A member that is lost for good then leaves its witness behind.
// It runs until ctx ends.
func (e *engine) keepEvents(ctx context.Context) {
	t := time.NewTimer(keepAfter)
	defer t.Stop()
	done := map[string]uint64{} // Seq of the last event that is kept, by member
	own := e.m.journal.Recent(keptEvents, journal.Filter{})
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		left := keepBatch
		n, ok := e.keepSome(ctx, own, left)
		own, left = own[n:], left-n
		for fp, events := range e.m.logs.beyond(done) {
			if !ok || left == 0 {
				break
			}
			if n, ok = e.keepSome(ctx, events, left); n > 0 {
				done[fp], left = events[n-1].Seq, left-n
			}
		}
		t.Reset(keepEvery)
	}
}

// keepSome keeps the first events of a list, most of them, and returns how many it is done with;
// false: the rest must wait.
func (e *engine) keepSome(ctx context.Context, events []journal.Event, most int) (int, bool) {
	for i, ev := range events[:min(len(events), most)] {
		known, err := e.keptAlready(ctx, ev)
		if err == nil && !known {
			_, err = e.proposer.propose(ctx, historyEvent(ev))
		}
		if err != nil {
			return i, false
		}
	}
	return min(len(events), most), true
}

// keptAlready reports whether the history has an event.
func (e *engine) keptAlready(ctx context.Context, ev journal.Event) (bool, error) {
	rows, err := e.db.Events(ctx, database.EventFilter{SinceMS: ev.TimeMS, UntilMS: ev.TimeMS + 1})
	return slices.ContainsFunc(rows, func(row database.Event) bool { return fromDatabase(row).ID == ev.ID }), err
}

// beyond returns what is kept in memory of each other member after the Seq given for it. A journal
// that began anew is returned whole.
func (b *logbook) beyond(done map[string]uint64) map[string][]journal.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := map[string][]journal.Event{}
	for fp, w := range b.others {
		if done[fp] > w.after {
			done[fp] = 0
		}
		i := slices.IndexFunc(w.kept, func(ev journal.Event) bool { return ev.Seq > done[fp] })
		if i >= 0 {
			out[fp] = w.kept[i:]
		}
	}
	return out
}
