package manager

import (
	"context"
	"sync"
	"time"

	"redundancypool/manager/database"
	"redundancypool/manager/journal"
)

// subscription is somebody who follows the events of all members.
type subscription struct {
	b     *logbook
	ch    chan journal.Event
	after uint64 // of this node's journal
	row   int64  // of the database
}

// subscribe begins with what comes from now on.
func (b *logbook) subscribe(ctx context.Context) *subscription {
	s := &subscription{b: b, ch: make(chan journal.Event, subscribed), after: b.m.journal.Next() - 1, row: -1}
	if _, _, e := b.m.snapshot(); e != nil && e.db != nil {
		s.row = lastRow(ctx, e.db)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs[s.ch] = struct{}{}
	return s
}

func lastRow(ctx context.Context, db *database.Store) int64 {
	rows, err := db.Events(ctx, database.EventFilter{Limit: 1})
	switch {
	case err != nil:
		return -1
	case len(rows) == 0:
		return 0
	}
	return rows[0].ID
}

func (s *subscription) close() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	delete(s.b.subs, s.ch)
}

// run calls each for every event that f chooses, until ctx ends or each returns an error, which it
// returns.
func (s *subscription) run(ctx context.Context, f journal.Filter, each func(journal.Event) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	put := func(e journal.Event) bool {
		select {
		case s.ch <- e:
			return true
		case <-ctx.Done():
			return false
		}
	}
	wg.Go(func() {
		for e := range s.b.m.journal.Follow(ctx, s.after, f) {
			if !put(e) {
				return
			}
		}
	})
	wg.Go(func() { s.watchRows(ctx, put) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-s.ch:
			if f.Match(e) {
				if err := each(e); err != nil {
					return err
				}
			}
		}
	}
}

// watchRows looks for what the database has noted itself; everything else comes from a journal.
func (s *subscription) watchRows(ctx context.Context, put func(journal.Event) bool) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, _, e := s.b.m.snapshot()
		if e == nil || e.db == nil {
			continue
		}
		if s.row < 0 {
			s.row = lastRow(ctx, e.db)
			continue
		}
		rows, err := e.db.Events(ctx, database.EventFilter{AfterID: s.row, Oldest: true, Limit: 200})
		if err != nil {
			continue // the database is being replaced or the disk hangs: the next look tells
		}
		for _, row := range rows {
			s.row = row.ID
			if row.Category == database.OwnEvents && !put(fromDatabase(row)) {
				return
			}
		}
	}
}
