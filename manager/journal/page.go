package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Page returns what q chooses, from memory and, further back, from the files. It reads at most the
// journal's own size. An error means that the files could not be read: what memory holds is
// returned all the same.
func (j *Journal) Page(q Query) (Page, error) {
	q = q.Bounded()
	j.mu.Lock()
	ring := append([]Event(nil), j.ring...)
	next := j.next
	j.mu.Unlock()
	found := newest{q: q}
	for i := len(ring) - 1; i >= 0; i-- {
		found.offer(ring[i])
	}
	first := next
	if len(ring) > 0 {
		first = ring[0].Seq
	}
	var err error
	if first > 1 {
		err = j.old.page(&found, first)
	}
	return found.page(), err
}

// ReadFiles returns what q chooses of the journal in dir, from its files alone: for a node whose
// process does not run. It changes nothing there.
func ReadFiles(dir string, q Query) (Page, error) {
	found := newest{q: q.Bounded()}
	a := archive{dir: dir}
	err := a.page(&found, math.MaxUint64)
	return found.page(), err
}

// newest gathers the newest events of a query, one more than its Limit to know whether there are
// older ones. Events may come in any order: a clock that was set back disorders a journal.
type newest struct {
	q      Query
	events []Event
	floor  Position // what is not later than this is not on the page; zero: not known yet
}

func (n *newest) offer(e Event) {
	if !n.q.Match(e) || !At(e).after(n.floor) {
		return
	}
	n.events = append(n.events, e)
	if len(n.events) > 4*(n.q.Limit+1) {
		n.trim()
	}
}

func (n *newest) trim() {
	slices.SortFunc(n.events, func(a, b Event) int { return At(b).Compare(At(a)) })
	if len(n.events) > n.q.Limit {
		n.events = n.events[:n.q.Limit+1]
		n.floor = At(n.events[n.q.Limit])
	}
}

func (n *newest) page() Page {
	n.trim()
	if len(n.events) <= n.q.Limit {
		return Page{Events: n.events}
	}
	return Page{Events: n.events[:n.q.Limit], Next: At(n.events[n.q.Limit-1])}
}

// archive reads the journal's files beside the one goroutine that writes them.
type archive struct {
	dir string

	mu    sync.Mutex
	spans map[string]span // of the files that are complete
}

// span is the time that a complete file covers, in Unix ms.
type span struct{ from, to int64 }

// page offers the events in the files with a Seq below that of the first in memory.
func (a *archive) page(found *newest, below uint64) error {
	names, err := listFiles(a.dir)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	spans := map[string]span{}
	for i := len(names) - 1; i >= 0; i-- {
		name := names[i]
		if firstSeq(name) >= below {
			continue // memory has all of it
		}
		s, complete := a.spans[name]
		if complete {
			spans[name] = s
			if !found.wants(s) {
				continue
			}
		}
		events, err := readFile(filepath.Join(a.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the oldest was just removed
		}
		if err != nil {
			return err
		}
		if i < len(names)-1 && len(events) > 0 {
			spans[name] = spanOf(events)
		}
		for k := len(events) - 1; k >= 0; k-- {
			if events[k].Seq < below {
				found.offer(events[k])
			}
		}
		found.trim()
	}
	a.spans = spans
	return nil
}

// wants reports whether a file that covers s could still add to the page.
func (n *newest) wants(s span) bool {
	switch {
	case s.to < n.q.SinceMS, n.q.UntilMS != 0 && s.from >= n.q.UntilMS, n.q.Before.TimeMS != 0 && s.from > n.q.Before.TimeMS:
		return false
	}
	return s.to >= n.floor.TimeMS
}

// firstSeq returns the Seq in a file's name.
func firstSeq(name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(name, prefix), suffix), 10, 64)
	return n
}

func spanOf(events []Event) span {
	s := span{events[0].TimeMS, events[0].TimeMS}
	for _, e := range events {
		s.from, s.to = min(s.from, e.TimeMS), max(s.to, e.TimeMS)
	}
	return s
}

func readFile(path string) ([]Event, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("journal: read: %w", err)
	}
	defer f.Close()
	return decode(f), nil
}
