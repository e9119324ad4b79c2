package web

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeLogs is Journals with n events that stand a second apart, the newest at 2026-01-02 03:04:05.
type fakeLogs struct {
	mu       sync.Mutex
	n        int
	asked    []LogQuery
	news     chan LogEvent
	message  string
	members  []LogMember
	breaksAt int // the page that fails; 0: none
}

var logStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()

func (l *fakeLogs) at(i int) LogEvent {
	ms := logStart - int64(i)*1000
	text := l.message
	if text == "" {
		text = fmt.Sprint("event ", i)
	}
	return LogEvent{ID: fmt.Sprintf("id-%06d", l.n-i), Time: LogTime(ms), TimeMS: ms, Node: "m1", Severity: "warning", Category: "status", Code: "code_x",
		Message: text, Cause: "because", From: "online", To: "primary", Term: 7, Details: map[string]any{"evidence": "redial refused"}}
}

func (l *fakeLogs) Logs(_ context.Context, q LogQuery) (LogPage, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, q)
	if len(l.asked) == l.breaksAt {
		return LogPage{}, errors.New("breaks")
	}
	p := LogPage{Members: l.members}
	for i := range l.n {
		e := l.at(i)
		if q.Before != (LogPosition{}) && e.TimeMS >= q.Before.TimeMS {
			continue
		}
		if len(p.Events) == q.Limit {
			p.Next = p.Events[q.Limit-1].At()
			break
		}
		p.Events = append(p.Events, e)
	}
	return p, nil
}

func (l *fakeLogs) FollowLogs(ctx context.Context, _ LogFilter, each func(LogEvent) error) error {
	for {
		select {
		case e := <-l.news:
			if err := each(e); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (l *fakeLogs) OwnLogs(n int) (out []LogEvent) {
	for i := range min(n, l.n) {
		out = append(out, l.at(i))
	}
	return out
}

func (d *fakeDesk) Logs(ctx context.Context, q LogQuery) (LogPage, error) { return d.logs.Logs(ctx, q) }
func (d *fakeDesk) FollowLogs(ctx context.Context, f LogFilter, each func(LogEvent) error) error {
	return d.logs.FollowLogs(ctx, f, each)
}
func (d *fakeDesk) OwnLogs(n int) []LogEvent { return d.logs.OwnLogs(n) }

// logServer serves n events to ann.
func logServer(t *testing.T, n int) (*Server, *fakeDesk, func(path string) *http.Response) {
	t.Helper()
	cfg := testConfig(newSource(Redundancy{Role: "standalone", Status: "standalone", Health: "standalone", Node: "n1"}))
	d := &fakeDesk{logs: fakeLogs{n: n, news: make(chan LogEvent)}}
	cfg.Operations = d
	s := built(t, cfg)
	return s, d, func(path string) *http.Response {
		return ask(s, there, "GET", path, func(r *http.Request) {
			r.SetBasicAuth("ann", "right")
			r.Header.Set("Accept", "text/html")
		})
	}
}

func TestLogsPageKeepsItsFilterInEveryLink(t *testing.T) {
	_, d, get := logServer(t, 450)
	d.logs.members = []LogMember{{Name: "m1", Role: "master", Complete: true}, {Name: "a1", Role: "arbiter", Until: LogTime(logStart), Problem: "connection refused"}}
	text := body(t, get("/logs?severity=warning&q=a%26b&category=status"))
	for _, want := range []string{"2026-01-02 03:04:05.000 UTC", "Online → Primary", "term 7", "Cause: Because.", "code_x", "redial refused",
		"Events of a1 until 2026-01-02T03:04:05.000Z", `href="/api/v1/logs/export?category=status&amp;format=csv&amp;q=a%26b&amp;severity=warning"`,
		`href="/logs?before=1767`, `href="/logs?category=user"`, `data-stream="/logs/stream?category=status&amp;q=a%26b&amp;severity=warning"`, `value="a&amp;b"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if q := d.logs.asked[0]; q.Severity != "warning" || q.Text != "a&b" || !slices.Equal(q.Categories, []string{"status"}) || q.Limit != 200 {
		t.Errorf("asked for %+v", q)
	}
	if r := get("/logs?since=yesterday"); r.StatusCode != http.StatusBadRequest || !strings.Contains(body(t, r), "use a time like") {
		t.Error("a wrong time is not refused with a hint")
	}
}

func TestLogTextCannotBecomeMarkup(t *testing.T) {
	_, d, get := logServer(t, 1)
	d.logs.message = `<script>alert(1)</script>`
	if text := body(t, get("/logs")); strings.Contains(text, "<script>alert") {
		t.Error("an event's text is markup on the page")
	}
}

func TestLogsCallPagesToTheEnd(t *testing.T) {
	_, _, get := logServer(t, 25)
	var seen []string
	path := "/api/v1/logs?limit=10"
	for range 5 {
		var p struct {
			Events  []LogEvent
			Members []LogMember
			Next    *string
		}
		if err := json.Unmarshal([]byte(body(t, get(path))), &p); err != nil {
			t.Fatal(err)
		}
		for _, e := range p.Events {
			seen = append(seen, e.ID)
		}
		if p.Next == nil {
			break
		}
		path = "/api/v1/logs?limit=10&before=" + *p.Next
	}
	if len(seen) != 25 || len(slices.Compact(slices.Sorted(slices.Values(seen)))) != 25 {
		t.Errorf("the pages have %d events: %v", len(seen), seen)
	}
	for _, bad := range []string{"limit=0", "limit=1001", "before=x", "severity=fatal", "since=2026-02-01&until=2026-01-01"} {
		if r := get("/api/v1/logs?" + bad); r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, r.StatusCode)
		}
	}
}

// The API document has what the call sends.
func TestEventIsDocumented(t *testing.T) {
	var doc struct {
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(openapiText, &doc); err != nil {
		t.Fatal(err)
	}
	e := (&fakeLogs{}).at(1)
	e.Details = nil
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var object any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	checkObject(t, "event", doc.Components.Schemas["Event"], object)
}

func TestExportHasEveryEvent(t *testing.T) {
	_, d, get := logServer(t, 2345)
	d.logs.message = "=HYPERLINK(\"http://evil\")"
	r := get("/api/v1/logs/export?format=csv")
	if got := r.Header.Get("Content-Disposition"); !strings.Contains(got, "attachment") || !strings.Contains(got, ".csv") {
		t.Errorf("disposition %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(body(t, r))).ReadAll()
	if err != nil || len(rows) != 2346 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if rows[1][5] != `'=HYPERLINK("http://evil")` || rows[1][0] != "2026-01-02T03:04:05.000Z" || rows[1][9] != "7" {
		t.Errorf("first row %q", rows[1])
	}
	var all struct {
		Events []LogEvent
		Next   *string
	}
	if err := json.Unmarshal([]byte(body(t, get("/api/v1/logs/export?format=json&node=m1"))), &all); err != nil || len(all.Events) != 2345 || all.Next != nil {
		t.Errorf("%d events as JSON, %v", len(all.Events), err)
	}
	if q := d.logs.asked[len(d.logs.asked)-1]; q.Node != "m1" {
		t.Errorf("the export asks for %+v", q)
	}
	if r := get("/api/v1/logs/export?format=xml"); r.StatusCode != http.StatusBadRequest {
		t.Errorf("xml: %d", r.StatusCode)
	}
	d.logs.n, d.logs.asked = mostExported+1500, nil
	rows, err = csv.NewReader(strings.NewReader(body(t, get("/api/v1/logs/export?format=csv")))).ReadAll()
	if last := rows[len(rows)-1]; err != nil || len(rows) != mostExported+2 || !strings.Contains(last[5], "before=") {
		t.Errorf("%d rows, %v, the last is %q", len(rows), err, last)
	}
}

// An export that fails half-way must not look like a whole one.
func TestExportThatFailsBreaksOff(t *testing.T) {
	s, d, _ := logServer(t, 3000)
	d.logs.breaksAt = 2
	srv := httptest.NewServer(s.echo)
	defer srv.Close()
	s.cfg.Users.(*fakeUsers).gen = 0
	value, err := s.newSession(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest("GET", srv.URL+"/api/v1/logs/export?format=json", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.AddCookie(&http.Cookie{Name: plainCookie, Value: value})
	answer, err := srv.Client().Do(r)
	if err != nil {
		return // it broke off before the first byte
	}
	defer answer.Body.Close()
	var v any
	if err := json.NewDecoder(answer.Body).Decode(&v); err == nil {
		t.Error("half an export reads like a whole one")
	}
}

func TestFollowersSeeWhatComes(t *testing.T) {
	s, d, _ := logServer(t, 3)
	srv := httptest.NewServer(s.echo)
	defer srv.Close()
	value, err := s.newSession(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/logs/stream", "/api/v1/logs/stream"} {
		ctx, cancel := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+path+"?severity=warning", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: plainCookie, Value: value})
		answer, err := srv.Client().Do(r)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		e := d.logs.at(0)
		e.ID, e.Message = "fresh", "just now"
		d.logs.news <- e
		lines := bufio.NewScanner(answer.Body)
		found := false
		for !found && lines.Scan() {
			found = strings.Contains(strings.ToLower(lines.Text()), "just now") && strings.HasPrefix(lines.Text(), "data: {")
		}
		if !found {
			t.Errorf("%s ends without the event: %v", path, lines.Err())
		}
		cancel()
		answer.Body.Close()
	}
}

func TestLogFilterIsReadStrictly(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90m": now.Add(-90 * time.Minute), "2026-01-01": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		"2026-01-01T10:00": time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC), "2026-01-01T10:00:00.5+02:00": time.Date(2026, 1, 1, 8, 0, 0, 5e8, time.UTC),
	} {
		f, err := ParseLogFilter(func(k string) string { return map[string]string{"since": text}[k] }, now)
		if err != nil || !f.Since.Equal(want) {
			t.Errorf("%s: %v, %v", text, f.Since, err)
		}
	}
}

func TestWaitingPageTellsWhatHappened(t *testing.T) {
	r := full()
	cfg := testConfig(newSource(r))
	cfg.Operations = &fakeDesk{logs: fakeLogs{n: 20}}
	s := built(t, cfg)
	text := body(t, ask(s, there, "GET", "/waiting", func(r *http.Request) { r.SetBasicAuth("ann", "right"); r.Header.Set("Accept", "text/html") }))
	if n := strings.Count(text, "code_x"); n != waitingEvents {
		t.Errorf("%d events on the waiting page", n)
	}
}
