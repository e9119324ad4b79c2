package journal

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// pages asks for page after page and returns all events, newest first.
func pages(t *testing.T, q Query, ask func(Query) Page) (all []Event) {
	t.Helper()
	for range 10000 {
		p := ask(q)
		if len(p.Events) > q.Bounded().Limit {
			t.Fatalf("%d events on a page of %d", len(p.Events), q.Limit)
		}
		all = append(all, p.Events...)
		if p.Next == (Position{}) {
			return all
		}
		if q.Before != (Position{}) && !q.Before.after(p.Next) {
			t.Fatalf("the next page begins at %v, not before %v", p.Next, q.Before)
		}
		q.Before = p.Next
	}
	t.Fatal("the pages never end")
	return nil
}

// With a clock that jumps, a journal is in no order of time; every event is still on one page.
func TestPagesHaveEveryEventOnceWhateverTheClockDid(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	j := Open(Config{Dir: t.TempDir(), Node: "n", MaxBytes: 1 << 20, Keep: 50})
	defer j.Close()
	now := int64(1_000_000)
	var want []Event
	for i := range 2000 {
		now += rng.Int64N(3)
		if rng.IntN(400) == 0 {
			now -= 500
		}
		want = append(want, j.Append(Event{TimeMS: now, Message: fmt.Sprint(i), Severity: []Severity{Info, Warning, Error}[i%3]}))
		if i%40 == 0 { // what leaves memory must be on disk by then
			mustSync(t, j)
		}
	}
	mustSync(t, j)
	slices.SortFunc(want, func(a, b Event) int { return At(b).Compare(At(a)) })
	ask := func(q Query) Page {
		p, err := j.Page(q)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, limit := range []int{1, 60, 1000} {
		q := Query{Limit: limit}
		if limit == 1 {
			q.SinceMS = want[40].TimeMS // one by one takes long
		}
		var expect []Event
		for _, e := range want {
			if q.Match(e) {
				expect = append(expect, e)
			}
		}
		if got := messages(pages(t, q, ask)); got != messages(expect) {
			t.Errorf("seed %d: pages of %d do not have the events in order", seed, limit)
		}
	}
	graver := pages(t, Query{Filter: Filter{AtLeast: Warning, UntilMS: want[100].TimeMS}, Limit: 33}, ask)
	for _, e := range graver {
		if e.Severity == Info || e.TimeMS >= want[100].TimeMS {
			t.Fatalf("not chosen: %+v", e)
		}
	}
	if len(graver) < 1100 {
		t.Errorf("%d events of warning and above", len(graver))
	}
}

func TestAnEventFromBeforeIDsHasOne(t *testing.T) {
	dir := t.TempDir()
	line, err := json.Marshal(map[string]any{"seq": 3, "time_ms": 5, "node": "n", "severity": "info", "message": "old"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, prefix+"00000000000000000003"+suffix), append(line, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
	j := Open(Config{Dir: dir})
	defer j.Close()
	p, err := j.Page(Query{})
	if err != nil || len(p.Events) != 1 || p.Events[0].ID != "n-0000000003" {
		t.Errorf("got %+v, %v", p, err)
	}
	if q, err := ReadFiles(dir, Query{}); err != nil || messages(q.Events) != "old" {
		t.Errorf("from the files alone: %+v, %v", q, err)
	}
	if e := j.Append(Event{}); e.ID == "" || e.Seq != 4 {
		t.Errorf("appended %+v", e)
	}
}

func TestFilterMatches(t *testing.T) {
	e := Event{TimeMS: 10, Node: "m1", Severity: Warning, Category: "pool", Code: "health", Message: "Pool health changed", Cause: "Backup lost"}
	for name, tt := range map[string]struct {
		f    Filter
		want bool
	}{
		"everything":            {Filter{}, true},
		"a lighter severity":    {Filter{AtLeast: Info}, true},
		"its own severity":      {Filter{AtLeast: Warning}, true},
		"a graver severity":     {Filter{AtLeast: Error}, false},
		"one of its categories": {Filter{Categories: []string{"vip", "pool"}}, true},
		"other categories":      {Filter{Categories: []string{"vip"}}, false},
		"text in other case":    {Filter{Text: "backup LOST"}, true},
		"text that is not in":   {Filter{Text: "arbiter"}, false},
		"from its moment on":    {Filter{SinceMS: 10}, true},
		"until its moment":      {Filter{UntilMS: 10}, false},
		"another node":          {Filter{Node: "m2"}, false},
		"its code":              {Filter{Code: "health"}, true},
	} {
		if got := tt.f.Match(e); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Sources that overlap, stop early and hold copies give one sequence without gap and repeat.
func TestMergeIsExact(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 2))
	var sources [3][]Event
	var want []Event
	for i := range 500 {
		e := Event{TimeMS: int64(1 + rng.IntN(200)), ID: fmt.Sprintf("%04d", i), Message: fmt.Sprint(i)}
		want = append(want, e)
		kept := false
		for s := range sources {
			if rng.IntN(2) == 0 || s == 2 && !kept {
				sources[s], kept = append(sources[s], e), true
			}
		}
	}
	newestFirst := func(a, b Event) int { return At(b).Compare(At(a)) }
	slices.SortFunc(want, newestFirst)
	for s := range sources {
		slices.SortFunc(sources[s], newestFirst)
	}
	got := pages(t, Query{Limit: 40}, func(q Query) Page {
		var parts []Page
		for s, all := range sources {
			n, looked := newest{q: q.Bounded()}, 0
			p := Page{}
			for _, e := range all {
				if !q.Match(e) {
					continue
				}
				if s == 1 && looked == 11 { // it looks no further at once
					p = n.page()
					if p.Next == (Position{}) {
						p.Next = At(p.Events[len(p.Events)-1])
					}
					break
				}
				looked++
				n.offer(e)
			}
			if p.Next == (Position{}) {
				p = n.page()
			}
			parts = append(parts, p)
		}
		return Merge(q, parts...)
	})
	if messages(got) != messages(want) {
		t.Errorf("seed %d: merged %d events, want %d:\n%s\n%s", seed, len(got), len(want), messages(got), messages(want))
	}
	if strings.Count(" "+messages(got)+" ", " 17 ") != 1 {
		t.Error("event 17 is not there once")
	}
}
