package arbiter

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"redundancypool/manager/journal"
)

// asked asks a journal as another member does over the pool port.
func asked(t *testing.T, j *journal.Journal, stop <-chan struct{}, q EventsRequest) journal.Page {
	t.Helper()
	body, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	v, err := AnswerEvents(j, stop)(t.Context(), nil, body)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := v.(journal.Page)
	if text, err := json.Marshal(v); !ok || err != nil || len(text) > 1<<20 {
		t.Fatalf("an answer of %d bytes, %v", len(text), err)
	}
	return p
}

// Long events come in answers that fit a frame, each event once.
func TestAnswersFitTheirFrame(t *testing.T) {
	j := journal.Open(journal.Config{Dir: t.TempDir(), Node: "a"})
	defer j.Close()
	const n = 200
	for i := range n {
		j.Append(journal.Event{Code: fmt.Sprint(i), Message: strings.Repeat("x", 20<<10)})
	}
	back, answers := 0, 0
	for q := (EventsRequest{Query: journal.Query{Limit: 1000}}); ; answers++ {
		p := asked(t, j, nil, q)
		back += len(p.Events)
		if q.Query.Before = p.Next; p.Next == (journal.Position{}) {
			break
		}
	}
	on := 0
	for q := (EventsRequest{Follow: true}); on < n; answers++ {
		p := asked(t, j, nil, q)
		for _, e := range p.Events {
			if e.Code != fmt.Sprint(on) {
				t.Fatalf("event %s where %d is next", e.Code, on)
			}
			on, q.After = on+1, e.Seq
		}
	}
	if back != n || answers < 8 {
		t.Errorf("%d events back in %d answers", back, answers)
	}
}

// Who knows everything waits until there is something, or until the process ends.
func TestAnswerWaitsForNews(t *testing.T) {
	j := journal.Open(journal.Config{Dir: t.TempDir(), Node: "a"})
	defer j.Close()
	last := j.Append(journal.Event{Code: "known"})
	got := make(chan journal.Page, 1)
	go func() { got <- asked(t, j, nil, EventsRequest{Follow: true, After: last.Seq}) }()
	select {
	case p := <-got:
		t.Fatalf("answered at once: %+v", p)
	case <-time.After(50 * time.Millisecond):
	}
	j.Append(journal.Event{Code: "news"})
	if p := <-got; len(p.Events) != 1 || p.Events[0].Code != "news" {
		t.Errorf("got %+v", p)
	}
	stop := make(chan struct{})
	close(stop)
	if p := asked(t, j, stop, EventsRequest{Follow: true, After: last.Seq + 1}); len(p.Events) != 0 {
		t.Errorf("at the end: %+v", p)
	}
	if p := asked(t, j, nil, EventsRequest{Follow: true, After: 99}); len(p.Events) != 2 {
		t.Errorf("a journal that began anew tells %+v", p)
	}
}
