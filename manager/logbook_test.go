package manager

import (
	"fmt"
	"log/slog"
	"reflect"
	"testing"

	"redundancypool/manager/database"
	"redundancypool/manager/journal"
)

// An event that was replicated is the same when it is read back, so that it is shown once.
func TestEventSurvivesTheDatabase(t *testing.T) {
	e := journal.Event{ID: "abc-01", TimeMS: 5, Node: "m1", Severity: journal.Warning, Category: "status", Code: "c", Message: "m", Cause: "why",
		Term: 7, From: "online", To: "primary", Details: map[string]any{"heard": "never"}}
	row := database.Event{ID: 9, TimeMS: e.TimeMS, Node: e.Node, Severity: string(e.Severity), Category: e.Category, Code: e.Code, Message: e.Message, Cause: e.Cause, Details: eventDetails(e)}
	if got := fromDatabase(row); !reflect.DeepEqual(got, e) {
		t.Errorf("got %+v\nwant %+v", got, e)
	}
	if got := fromDatabase(database.Event{ID: 10, TimeMS: 6}); got.ID != "database-000000000a" {
		t.Errorf("an event of the database's own is called %q", got.ID)
	}
}

// Paging through the history reaches every event, also when a page looks no further for a while.
func TestHistoryIsPagedToItsEnd(t *testing.T) {
	s, err := database.Open(t.Context(), database.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const rows = historyStep*historySteps + 3000
	var entries []database.Entry
	for i := range rows {
		code := "other"
		if i%5000 == 0 {
			code = "sought"
		}
		data, err := database.Encode(database.Command{Body: database.EventAppend{Event: database.Event{TimeMS: int64(1000 + i/7), Code: code, Message: fmt.Sprint(i)}}})
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, database.Entry{Index: uint64(i + 1), Term: 1, Data: data})
	}
	if _, err := s.Apply(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		q    journal.Query
		want int
	}{
		{"all, page by page", journal.Query{Limit: 1000}, rows},
		{"few among many", journal.Query{Filter: journal.Filter{Code: "sought"}, Limit: 10}, 5},
		{"of a short time", journal.Query{Filter: journal.Filter{SinceMS: 1100, UntilMS: 1102}}, 14},
	} {
		seen := map[string]bool{}
		for q, n := tt.q, 0; ; n++ {
			p, err := history(t.Context(), s, q.Bounded())
			if err != nil || n > 100 {
				t.Fatal(tt.name, n, err)
			}
			p = journal.Merge(q, p)
			for _, e := range p.Events {
				if seen[e.ID] {
					t.Fatalf("%s: %s twice", tt.name, e.ID)
				}
				seen[e.ID] = true
			}
			if q.Before = p.Next; p.Next == (journal.Position{}) {
				break
			}
		}
		if len(seen) != tt.want {
			t.Errorf("%s: %d events, want %d", tt.name, len(seen), tt.want)
		}
	}
}
