package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeKeys is the part of a fakeDesk that is like the database of both Managers.
type fakeKeys struct {
	mu     sync.Mutex
	kept   map[string]KeptAnswer
	stored map[string][]string // by unit
	fail   error
	slow   chan struct{} // Record waits for it
}

func (d *fakeDesk) keys() *fakeKeys {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.both == nil {
		d.both = &fakeKeys{}
	}
	if d.both.kept == nil {
		d.both.kept, d.both.stored = map[string]KeptAnswer{}, map[string][]string{}
	}
	return d.both
}

func (d *fakeDesk) Kept(_ context.Context, scope, key string) (*KeptAnswer, error) {
	k := d.keys()
	k.mu.Lock()
	defer k.mu.Unlock()
	if a, ok := k.kept[scope+key]; ok {
		return &a, nil
	}
	return nil, nil
}

func (d *fakeDesk) Begin(_ context.Context, scope, key string, sum [32]byte) (bool, error) {
	k := d.keys()
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.kept[scope+key]; ok || k.fail != nil {
		return false, k.fail
	}
	k.kept[scope+key] = KeptAnswer{Sum: sum}
	return true, nil
}

func (d *fakeDesk) Keep(_ context.Context, scope, key string, sum [32]byte, answer string) error {
	k := d.keys()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept[scope+key] = (KeptAnswer{sum, answer}); answer == "" {
		delete(k.kept, scope+key)
	}
	return nil
}

func (d *fakeDesk) AdmitUnit(_ context.Context, unit, secret string) error {
	if unit == "u1" && secret == "its secret" {
		return nil
	}
	return ErrLogin
}

func (d *fakeDesk) Record(_ context.Context, unit string, payload []byte, key string, sum [32]byte) (int, bool, error) {
	k := d.keys()
	if k.slow != nil {
		<-k.slow
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return 0, false, k.fail
	}
	if old, ok := k.kept["unit "+unit+key]; ok && key != "" {
		if old.Sum != sum {
			return 0, false, ErrKeyReused
		}
		return 1, true, nil
	}
	k.kept["unit "+unit+key] = KeptAnswer{sum, "stored"}
	k.stored[unit] = append(k.stored[unit], string(payload))
	return 1, false, nil
}

// done lists what was done that begins so.
func (d *fakeDesk) done(begin string) (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.told {
		if strings.HasPrefix(t, begin) {
			out = append(out, t)
		}
	}
	return out
}

// sent is a call with a JSON body.
func sent(body string, headers ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Type", "application/json")
		if r.Header.Get("Authorization") == "" {
			r.SetBasicAuth("ann", "right")
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
}

// twoManagers have one database and one session key.
func twoManagers(t *testing.T) (a, b *Server, desk, other *fakeDesk) {
	r := full()
	r.Deadline = nil
	both := &fakeKeys{}
	desk, other = &fakeDesk{both: both}, &fakeDesk{both: both}
	cfg := testConfig(newSource(r))
	cfg.Operations = desk
	a = built(t, cfg)
	cfg = testConfig(newSource(r))
	cfg.Operations = other
	return a, built(t, cfg), desk, other
}

// A call that comes again with its key is answered as the first time, on either Manager, and done once.
func TestACallWithAKeyIsDoneOnceOnEitherManager(t *testing.T) {
	a, b, desk, other := twoManagers(t)
	call := func(s *Server, key, text string) (int, string, http.Header) {
		resp := ask(s, there, "POST", "/api/v1/units", sent(text, "Idempotency-Key", key))
		return resp.StatusCode, strings.TrimSpace(body(t, resp)), resp.Header
	}
	code, first, _ := call(a, `"k1"`, `{"name":"u7"}`)
	if code != http.StatusCreated || len(desk.done("add u7")) != 1 {
		t.Fatalf("%d %s, told %q", code, first, desk.told)
	}
	for i, s := range []*Server{a, b} {
		code, again, h := call(s, `k1`, `{"name":"u7"}`)
		if code != http.StatusCreated || again != first || h.Get("Idempotency-Replayed") != "true" {
			t.Errorf("%d: again: %d %s", i, code, again)
		}
		if code, text, _ := call(s, "k1", `{"name":"other"}`); code != http.StatusUnprocessableEntity || !strings.Contains(text, "key_reused") {
			t.Errorf("%d: another content: %d %s", i, code, text)
		}
	}
	if len(desk.done("add ")) != 1 || len(other.done("add ")) != 0 {
		t.Errorf("done %q and %q", desk.told, other.told)
	}
	for _, k := range desk.both.kept {
		if strings.Contains(k.Answer, "u7") {
			t.Errorf("what is kept can be read: %q", k.Answer)
		}
	}
	if code, _, h := call(a, "k2", `{"name":"u7"}`); code != http.StatusCreated || h.Get("Idempotency-Replayed") != "" {
		t.Errorf("another key: %d", code)
	}
	desk.refusal = &Problem{Code: "exists", Message: "exists"}
	if code, _, _ := call(a, "k3", `{"name":"u7"}`); code != http.StatusConflict {
		t.Errorf("refused: %d", code)
	}
	desk.refusal = nil
	if code, _, _ := call(a, "k3", `{"name":"u8"}`); code != http.StatusCreated {
		t.Errorf("what was refused cannot be sent again with its key: %d", code)
	}
	// The first Manager ended after it had begun: the second does not do it once more.
	if _, err := desk.Begin(t.Context(), "user ann", "k4", [32]byte{}); err != nil {
		t.Fatal(err)
	}
	desk.both.kept["user annk4"] = KeptAnswer{Sum: sumOf(t, "/api/v1/units", `{"name":"u9"}`)}
	if code, text, _ := call(b, "k4", `{"name":"u9"}`); code != http.StatusConflict || !strings.Contains(text, "outcome_unknown") {
		t.Errorf("begun elsewhere: %d %s", code, text)
	}
	for _, bad := range []string{`""`, strings.Repeat("x", 300), "a\"b", "ä"} {
		if code, _, _ := call(a, bad, `{"name":"u9"}`); code != http.StatusBadRequest {
			t.Errorf("key %q: %d", bad, code)
		}
	}
}

func sumOf(t *testing.T, path, text string) [32]byte {
	t.Helper()
	r := httptest.NewRequest("POST", "https://10.0.0.1:8443"+path, strings.NewReader(text))
	r.Header.Set("Content-Type", "application/json")
	sum, err := fingerprint(r)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestTelemetryOverHTTP(t *testing.T) {
	a, b, desk, _ := twoManagers(t)
	unit := func(secret string, headers ...string) func(*http.Request) {
		return func(r *http.Request) {
			r.SetBasicAuth("u1", secret)
			sent(`{"seq":1,"values":{"v":1}}`, headers...)(r)
		}
	}
	for _, tt := range []struct {
		name   string
		path   string
		change func(*http.Request)
		want   int
	}{
		{"the unit itself", "", unit("its secret"), 200},
		{"a wrong secret", "", unit("wrong"), 401},
		{"a person who names the unit", "?unit=u1", sent(`{}`), 200},
		{"a person who does not", "", sent(`{}`), 400},
		{"a token that operates", "?unit=u1", sent(`{}`, "Authorization", "Bearer rpt_2_operates"), 200},
		{"a token that reads", "?unit=u1", sent(`{}`, "Authorization", "Bearer rpt_1_reads"), 403},
		{"nobody", "", func(r *http.Request) {}, 401},
		{"the unit without encryption", "", func(r *http.Request) { unit("its secret")(r); r.TLS = nil }, 401},
	} {
		if resp := ask(a, there, "POST", "/api/v1/telemetry"+tt.path, tt.change); resp.StatusCode != tt.want {
			t.Errorf("%s: %d, want %d: %s", tt.name, resp.StatusCode, tt.want, body(t, resp))
		}
	}
	for range 400 { // more than pages and programs may ask
		if code := ask(a, there, "POST", "/api/v1/telemetry", unit("its secret")).StatusCode; code != 200 {
			t.Fatalf("many records in a row: %d", code)
		}
	}
	before := len(desk.both.stored["u1"])
	for i, s := range []*Server{a, b, a} {
		resp := ask(s, there, "POST", "/api/v1/telemetry", unit("its secret", "Idempotency-Key", "k"))
		if text := strings.TrimSpace(body(t, resp)); resp.StatusCode != 200 || text != `{"stored":1}` || (resp.Header.Get("Idempotency-Replayed") == "true") != (i > 0) {
			t.Errorf("try %d: %d %s", i, resp.StatusCode, text)
		}
	}
	if n := len(desk.both.stored["u1"]); n != before+1 {
		t.Errorf("stored %d times", n-before)
	}
	if resp := ask(a, there, "POST", "/api/v1/telemetry", sent(`{"seq":2}`, "Authorization", "Basic dTE6aXRzIHNlY3JldA==", "Idempotency-Key", "k")); resp.StatusCode != 422 {
		t.Errorf("another content under the key: %d", resp.StatusCode)
	}
	desk.both.fail = fmt.Errorf("%w: cut", ErrNotKnown)
	if resp := ask(a, there, "POST", "/api/v1/telemetry", unit("its secret")); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("not known to be stored: %d", resp.StatusCode)
	}
	desk.both.fail = &Problem{Code: "payload", Message: "no JSON", Fields: []FieldProblem{{Field: "body"}}}
	if resp := ask(a, there, "POST", "/api/v1/telemetry", unit("its secret")); resp.StatusCode != 422 {
		t.Errorf("a payload that is none: %d", resp.StatusCode)
	}
}

// While Primary is handed over, what is under way is finished, a call waits, and a form is answered
// with nothing changed.
func TestWritesWaitForAHandOver(t *testing.T) {
	a, _, desk, _ := twoManagers(t)
	slow := make(chan struct{})
	desk.keys().slow = slow
	codes := make(chan int, 2)
	post := func() {
		codes <- ask(a, there, "POST", "/api/v1/telemetry?unit=u1", sent(`{}`)).StatusCode
	}
	go post()
	until(t, "one write is under way", func() bool { a.hold.mu.Lock(); defer a.hold.mu.Unlock(); return a.hold.running == 1 })
	drained := make(chan int, 1)
	go func() { drained <- a.Drain(t.Context(), netip.MustParseAddr("10.0.0.50")) }()
	until(t, "what comes is held", func() bool { a.hold.mu.Lock(); defer a.hold.mu.Unlock(); return a.hold.closed != nil })
	go post()
	select {
	case n := <-drained:
		t.Fatalf("drained with %d under way", n)
	case code := <-codes:
		t.Fatalf("answered %d too early", code)
	case <-time.After(50 * time.Millisecond):
	}
	if code := ask(a, there, "GET", "/api/v1/redundancy", sent("")).StatusCode; code != 200 {
		t.Errorf("reading waits too: %d", code)
	}
	form := ask(a, there, "POST", "/units/add", func(r *http.Request) {
		sent("name=u9", "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html", "Referer", "https://10.0.0.1:8443/units")(r)
	})
	if form.StatusCode != http.StatusSeeOther || form.Header.Get("Location") != "/units" || len(form.Cookies()) != 1 || len(desk.done("add ")) != 0 {
		t.Errorf("a form: %d to %q", form.StatusCode, form.Header.Get("Location"))
	}
	close(slow)
	if n := <-drained; n != 0 {
		t.Errorf("%d were under way when it was drained", n)
	}
	if code := <-codes; code != 200 {
		t.Errorf("what was under way is answered %d", code)
	}
	gone, cut := context.WithCancel(t.Context())
	lost := make(chan struct{})
	go func() {
		defer close(lost)
		ask(a, there, "POST", "/api/v1/telemetry?unit=u1", func(r *http.Request) { sent(`{}`)(r); *r = *r.WithContext(gone) })
	}()
	cut()
	<-lost
	a.Resume()
	if code := <-codes; code != 200 {
		t.Errorf("what waited is answered %d", code)
	}
	if n := len(desk.both.stored["u1"]); n != 2 {
		t.Errorf("%d were stored, want the one under way and the one that waited", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&hold{closed: make(chan struct{})}).enter(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that is gone: %v", err)
	}
}

// A write at the virtual IP of a Manager that has just lost Primary is not refused: it ends with its
// connection, or is done when the Manager is Primary again.
func TestAWriteAtTheVirtualIPIsNotRefusedByAManagerThatLostPrimary(t *testing.T) {
	r := full()
	r.Deadline = nil
	src := newSource(r)
	src.set("online")
	cfg := testConfig(src)
	desk := &fakeDesk{}
	cfg.Operations = desk
	s := built(t, cfg)
	post := func(ctx context.Context, local string) *http.Response {
		return ask(s, there, "POST", "/api/v1/telemetry?unit=u1", func(r *http.Request) {
			sent(`{}`)(r)
			*r = *r.WithContext(context.WithValue(ctx, http.LocalAddrContextKey, net.Addr(&net.TCPAddr{IP: net.ParseIP(local), Port: 8443})))
		})
	}
	if resp := post(t.Context(), "10.0.0.1"); resp.StatusCode != http.StatusConflict {
		t.Errorf("at its own address: %d", resp.StatusCode)
	}
	ctx, cut := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cut()
	if resp := post(ctx, "10.0.0.50"); body(t, resp) != "" {
		t.Error("it was answered although the connection was cut")
	}
	done := make(chan int, 1)
	go func() { done <- post(t.Context(), "10.0.0.50").StatusCode }()
	select {
	case code := <-done:
		t.Fatalf("answered %d too early", code)
	case <-time.After(50 * time.Millisecond):
	}
	drain, end := context.WithTimeout(t.Context(), 20*time.Second)
	defer end()
	if n := s.Drain(drain, netip.MustParseAddr("10.0.0.50")); n != 0 {
		t.Errorf("a hand over waited for %d requests that were not begun", n)
	}
	s.Resume()
	src.set("primary")
	if code := <-done; code != 200 || len(desk.keys().stored["u1"]) != 1 {
		t.Errorf("as Primary again: %d", code)
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for: ", what)
		}
	}
}
