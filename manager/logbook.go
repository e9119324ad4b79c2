package manager

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
)

// logbook puts together what all members have noted: this node's journal, the others' journals,
// fetched over the pool port, and the history in the database. The same event in several of them is
// one. Of each other member it keeps the newest events in memory, for when it does not answer.
//
// Events are ordered by the clock of the node that noted them. The present offsets of the clocks are
// told beside them and not corrected for: what an offset was at the time of an event is not known.
type logbook struct {
	m *Manager

	mu     sync.Mutex
	others map[string]*witness // by fingerprint
	subs   map[chan journal.Event]struct{}
}

// witness is what another member has told of its own journal. Guarded by logbook.mu.
type witness struct {
	kept     []journal.Event // the newest, oldest first
	after    uint64          // Seq of the last one
	answered time.Time       // when it last answered; zero: never
	failure  string          // why it does not answer; empty: it does
}

const (
	// keptEvents is how many events of another member stay in memory.
	keptEvents = 1000
	// askTime bounds one question to another member, so that a page does not wait for a dead one.
	askTime = 1500 * time.Millisecond
	// historyStep is how many rows of the database one look takes, and historySteps how many looks
	// one page; what is older is left to the next page.
	historyStep, historySteps = 2000, 10
	subscribed                = 512 // events that a slow follower may fall behind
	// stillNews is how old an event of a member may be that has just been reached.
	stillNews = time.Minute
)

func newLogbook(m *Manager) *logbook {
	return &logbook{m: m, others: map[string]*witness{}, subs: map[chan journal.Event]struct{}{}}
}

// logSource is how complete the events of one member are.
type logSource struct {
	member   pool.MemberState
	self     bool
	complete bool   // it answered itself
	untilMS  int64  // of its newest event known here when it did not; 0: none
	failure  string // why it did not
}

// page returns the events that q chooses, of all members, and how complete they are.
func (b *logbook) page(ctx context.Context, q journal.Query) (journal.Page, []logSource) {
	q = q.Bounded()
	_, _, e := b.m.snapshot()
	own, err := b.m.journal.Page(q)
	if err != nil {
		b.m.log.Warn("read the journal", "error", err)
	}
	pages := []journal.Page{own}
	if e == nil {
		return journal.Merge(q, pages...), nil
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	add := func(p journal.Page) {
		mu.Lock()
		defer mu.Unlock()
		pages = append(pages, p)
	}
	if e.db != nil {
		wg.Go(func() {
			p, err := history(ctx, e.db, q)
			if err != nil {
				b.m.log.Warn("read the history of events", "error", err)
			}
			add(p)
		})
	}
	var sources []logSource
	if e.pool != nil {
		st := e.pool.State()
		sources = make([]logSource, len(st.Members))
		for i, o := range st.Members {
			s := &sources[i]
			if s.member = o; o.ID == st.Record.Self {
				s.self, s.complete = true, true
				continue
			}
			wg.Go(func() { add(b.askPage(ctx, o, q, s)) })
		}
	}
	wg.Wait()
	return journal.Merge(q, pages...), sources
}

// askPage asks a member for its page, and takes what is kept of it where it does not answer.
func (b *logbook) askPage(ctx context.Context, o pool.MemberState, q journal.Query, s *logSource) journal.Page {
	if o.Status != pool.Unreachable {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		p, err := arbiter.AskEvents(ctx, b.m.dialer, o.Member, arbiter.EventsRequest{Query: q})
		if err == nil {
			s.complete = true
			return p
		}
		s.failure = err.Error()
	} else if s.failure = o.Failure; s.failure == "" {
		s.failure = "it is unreachable"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.others[o.Fingerprint]
	if w == nil || len(w.kept) == 0 {
		return journal.Page{}
	}
	s.untilMS = w.kept[len(w.kept)-1].TimeMS
	p := journal.Page{}
	for i := len(w.kept) - 1; i >= 0; i-- {
		if q.Match(w.kept[i]) {
			p.Events = append(p.Events, w.kept[i])
		}
	}
	return p
}

// history reads the page from the database, looking back over a bounded number of rows.
func history(ctx context.Context, db *database.Store, q journal.Query) (p journal.Page, err error) {
	at, id := int64(math.MaxInt64), int64(0)
	if q.Before.TimeMS != 0 {
		at = q.Before.TimeMS + 1
	}
	if q.UntilMS != 0 {
		at = min(at, q.UntilMS)
	}
	for range historySteps {
		rows, err := db.EventsBack(ctx, at, id, historyStep)
		if err != nil {
			return p, err
		}
		for _, row := range rows {
			ev := fromDatabase(row)
			at, id = row.TimeMS, row.ID
			if at < q.SinceMS {
				return p, nil
			}
			if q.Match(ev) {
				p.Events = append(p.Events, ev)
			}
		}
		if len(rows) < historyStep {
			return p, nil
		}
		if len(p.Events) > q.Limit {
			break
		}
	}
	// Not all events of the last millisecond may have been read: it comes whole with the next page.
	if p.Next.TimeMS = at + 1; q.Before.TimeMS != 0 && p.Next.TimeMS >= q.Before.TimeMS {
		p.Next.TimeMS = at // so many in one that some are left out
	}
	return p, nil
}

// fromDatabase is the inverse of eventDetails. What the database made itself, such as the note of
// two records with one number, has no journal: its number names it.
func fromDatabase(row database.Event) journal.Event {
	e := journal.Event{
		ID: fmt.Sprintf("database-%010x", row.ID), TimeMS: row.TimeMS, Node: row.Node, Severity: journal.Severity(row.Severity),
		Category: row.Category, Code: row.Code, Message: row.Message, Cause: row.Cause,
	}
	if row.Details == "" || json.Unmarshal([]byte(row.Details), &e.Details) != nil {
		return e
	}
	take := func(key string, into *string) {
		if text, ok := e.Details[key].(string); ok {
			*into = text
			delete(e.Details, key)
		}
	}
	take("event_id", &e.ID)
	take("from", &e.From)
	take("to", &e.To)
	if term, ok := e.Details["term"].(float64); ok {
		e.Term = uint64(term)
		delete(e.Details, "term")
	}
	if len(e.Details) == 0 {
		e.Details = nil
	}
	return e
}

// collect keeps the newest events of every other member, and hands them to those who follow, until
// ctx ends.
func (b *logbook) collect(ctx context.Context, p *pool.Pool) {
	var wg sync.WaitGroup
	defer wg.Wait()
	running := map[string]context.CancelFunc{}
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		rec := p.Record()
		members := map[string]bool{}
		for _, o := range rec.Members {
			if o.ID == rec.Self || rec.Phase != pool.PhaseEffective {
				continue
			}
			members[o.Fingerprint] = true
			if running[o.Fingerprint] == nil {
				octx, stop := context.WithCancel(ctx)
				running[o.Fingerprint] = stop
				wg.Go(func() { b.listen(octx, o) })
			}
		}
		for fp, stop := range running {
			if !members[fp] {
				stop()
				delete(running, fp)
			}
		}
		b.forget(members)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forget drops what was kept of nodes that are members no more.
func (b *logbook) forget(members map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.others, func(fp string, _ *witness) bool { return !members[fp] })
}

// listen asks one member for its news again and again.
func (b *logbook) listen(ctx context.Context, o pool.Member) {
	wait := 200 * time.Millisecond
	for ctx.Err() == nil {
		b.mu.Lock()
		w := b.others[o.Fingerprint]
		if w == nil {
			w = &witness{}
			b.others[o.Fingerprint] = w
		}
		after := w.after
		b.mu.Unlock()
		actx, cancel := context.WithTimeout(ctx, arbiter.FollowWait+5*time.Second)
		p, err := arbiter.AskEvents(actx, b.m.dialer, o, arbiter.EventsRequest{Follow: true, After: after})
		cancel()
		if ctx.Err() != nil {
			return
		}
		b.heard(w, p.Events, err)
		if err != nil {
			wait = min(2*wait, 3*time.Second)
		} else {
			wait = 200 * time.Millisecond // what comes in between is in the next answer
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// heard takes an answer of a member in.
func (b *logbook) heard(w *witness, events []journal.Event, err error) {
	b.mu.Lock()
	if err != nil {
		w.failure = err.Error()
		b.mu.Unlock()
		return
	}
	news := int64(0)
	if w.answered.IsZero() { // the first answer has its history too
		news = time.Now().Add(-stillNews).UnixMilli()
	}
	w.failure, w.answered = "", time.Now()
	if len(events) > 0 {
		w.after = events[len(events)-1].Seq
		w.kept = append(w.kept, events...)
		w.kept = slices.Clone(w.kept[max(0, len(w.kept)-keptEvents):])
	}
	b.mu.Unlock()
	for _, e := range events {
		if e.TimeMS >= news {
			b.publish(e)
		}
	}
}

// publish hands an event of another member to those who follow; who is too slow misses it.
func (b *logbook) publish(e journal.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ch := range b.subs {
		select {
		case ch <- e:
		default:
		}
	}
}
