package web

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ptr[T any](v T) *T { return &v }

// full is a picture with everything known.
func full() Redundancy {
	return Redundancy{
		Role: "master", Status: "primary", Health: "degraded", Term: 7, Node: "cell <1>", Pool: ptr("p1"),
		VIP: VIP{Address: ptr("10.0.0.50/24"), Bound: true, Interface: ptr("eth0")},
		Members: []Member{
			{Name: "cell <1>", Role: "master", Status: "primary", Address: "10.0.0.1:8099", LastHeardMS: ptr(int64(0)), InStep: ptr(true), Behind: ptr(uint64(0)),
				Index: 1, Self: true, Symbol: "M1", Comment: "hall 4", Host: "10.0.0.1", Port: 8099, Second: "10.1.0.1:8099", Active: true, IsPrimary: true,
				FieldUnits: ptr(3), Browsers: ptr(2), Database: "in_step", Verified: ptr(true), VerifiedAt: ptr(uint64(90)), Term: ptr(uint64(7)),
				Position: ptr(uint64(104)), Stored: ptr(uint64(104)), CommitMS: ptr(1.25), Version: "1.2.3", Licence: "unknown",
				Since: ptr(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), BytesOnDisk: ptr(int64(5 << 20)), ReportAgeMS: ptr(int64(0)), EquivalentTo: "Running"},
			{Name: "cell 2", Role: "backup", Status: "online", Address: "10.0.0.2:8099", LastHeardMS: ptr(int64(12)), InStep: ptr(false), Behind: ptr(uint64(4)),
				Index: 2, Host: "10.0.0.2", Port: 8099, Second: "10.1.0.2:8099", Active: true, ConnectedTo: "cell <1>", FieldUnits: ptr(0), Browsers: ptr(0),
				Database: "behind", Term: ptr(uint64(7)), Position: ptr(uint64(100)), Stored: ptr(uint64(100)), ClockMS: ptr(-12.5), RoundTripMS: ptr(0.4),
				CommitMS: ptr(2.0), Version: "1.2.3", Licence: "unknown", ReportAgeMS: ptr(int64(12)), EquivalentTo: "Standby"},
			{Role: "arbiter", Status: "unreachable", Address: "10.0.0.3:8099", LastHeardMS: ptr(int64(61000)),
				Index: 3, Host: "10.0.0.3", Port: 8099, Fault: "connection refused", Database: "none", Licence: "unknown", EquivalentTo: "Disconnected"},
		},
		FieldUnits: ptr(3), Reasons: []Reason{{"backup_behind", "the Backup is 4 changes behind", "wait until it has caught up"}},
		WorstTakeoverMS: ptr(int64(420)), Deadline: &Deadline{RemainingMS: 581000, Text: "then back to Standalone"}, GuardPID: ptr(123),
		Licence: Licence{State: "match", Text: "Match; no licensed modules on either side"},
		LastChangeover: &Changeover{Kind: "takeover", Cause: "process died", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Term: 7,
			From: "cell 2", To: "cell <1>", DetectedMS: ptr(4.0), ElectedMS: ptr(9.5), VIPMS: ptr(12.0), FirstWriteMS: ptr(14.0),
			FirstUnitMS: ptr(31.0), AllUnitsMS: ptr(80.0), Lost: ptr(int64(0)), StoredTwice: ptr(int64(0))},
		At: time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC), PictureAgeMS: ptr(int64(20)),
		Recovery: &Recovery{Mode: "automatic", Text: "the Master takes Primary back", LeftMS: ptr(int64(24000)), WaitsMS: 30000},
		Timing:   &Timing{PeriodMS: 25, TimeoutMS: 50, Retries: 12, ConnectTimeoutMS: 2000, DetectionMS: 350},
		Links: []Link{
			{"master", "backup", 1, "heard", ptr(int64(12))}, {"master", "backup", 2, "silent", ptr(int64(9000))},
			{"backup", "master", 1, "heard", ptr(int64(20))}, {"backup", "master", 2, "heard", ptr(int64(22))},
			{"master", "arbiter", 1, "silent", ptr(int64(61000))}, {"arbiter", "master", 1, "unknown", ptr(int64(61000))},
			{"backup", "arbiter", 1, "never", nil}, {"arbiter", "backup", 1, "unknown", nil},
		},
	}
}

// fakeSource is a Source that a test changes.
type fakeSource struct {
	mu      sync.Mutex
	r       Redundancy
	changed chan struct{}
}

func newSource(r Redundancy) *fakeSource { return &fakeSource{r: r, changed: make(chan struct{})} }

func (f *fakeSource) Redundancy() Redundancy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.r
}

func (f *fakeSource) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fakeSource) set(status string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.r.Status = status
	close(f.changed)
	f.changed = make(chan struct{})
}

// fakeUsers knows ann with the password "right".
type fakeUsers struct {
	mu  sync.Mutex
	gen uint64
	err error
}

func (f *fakeUsers) Verify(_ context.Context, name, password string) error {
	if f.err != nil {
		return f.err
	}
	if name == "ann" && password == "right" {
		return nil
	}
	return ErrLogin
}

func (f *fakeUsers) Generation(_ context.Context, name string) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if name != "ann" {
		return 0, ErrLogin
	}
	return f.gen, nil
}

func testConfig(src *fakeSource) Config {
	key := []byte(strings.Repeat("k", 32))
	return Config{Source: src, Users: &fakeUsers{}, SessionKey: func() []byte { return key }, Operations: &fakeDesk{}, Version: "1.2.3", Log: slog.New(slog.DiscardHandler)}
}

func built(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := newServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const (
	here  = "127.0.0.1:5000"
	there = "10.0.0.9:5000"
)

// ask sends one request as if it came from an address; from this machine with a login.
func ask(s *Server, from, method, path string, change func(*http.Request)) *http.Response {
	return send(s, from, method, path, func(r *http.Request) {
		if change != nil {
			change(r)
		}
		if from == here && r.Header.Get("Authorization") == "" && len(r.Cookies()) == 0 {
			r.SetBasicAuth("ann", "right")
		}
	})
}

// send sends one request with nothing but what change adds.
func send(s *Server, from, method, path string, change func(*http.Request)) *http.Response {
	r := httptest.NewRequest(method, "https://10.0.0.1:8443"+path, nil)
	if from == here {
		r = httptest.NewRequest(method, "http://127.0.0.1:8080"+path, nil)
	}
	r.RemoteAddr = from
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	s.echo.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRedundancyObjectIsTheContract(t *testing.T) {
	for name, r := range map[string]Redundancy{"full": full(), "empty": {}} {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		file := "testdata/redundancy-" + name + ".json"
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != string(text)+"\n" {
			t.Errorf("%s: the object has changed:\n%s", name, text)
		}
		var back Redundancy
		if err := json.Unmarshal(text, &back); err != nil {
			t.Errorf("%s: cannot be read back: %v", name, err)
		}
	}
}

func TestWhoMayRead(t *testing.T) {
	with := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	basic := func(name, password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, password) }
	}
	for _, tt := range []struct {
		name   string
		from   string
		change func(*http.Request)
		want   int
	}{
		{"from this machine with a login, without encryption", here, nil, 200},
		{"from this machine by name", here, func(r *http.Request) { r.Host = "localhost:8080" }, 200},
		{"from this machine over IPv6", here, func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4000", "[::1]:8080" }, 200},
		{"a page of an attacker whose name resolves to loopback", here, func(r *http.Request) { r.Host = "evil.example:8080" }, 401},
		{"a proxy on this machine speaking for another", here, with("X-Forwarded-For", "10.0.0.9"), 401},
		{"from elsewhere", there, nil, 401},
		{"from elsewhere claiming to be loopback", there, with("X-Forwarded-For", "127.0.0.1"), 401},
		{"from elsewhere with the Host of loopback", there, func(r *http.Request) { r.Host = "127.0.0.1" }, 401},
		{"HTTP Basic", there, basic("ann", "right"), 200},
		{"HTTP Basic with a wrong password", there, basic("ann", "wrong"), 401},
		{"HTTP Basic with an endless password", there, basic("ann", strings.Repeat("x", 5000)), 401},
		{"HTTP Basic without encryption", there, func(r *http.Request) { r.SetBasicAuth("ann", "right"); r.TLS = nil }, 401},
		{"a cookie nobody signed", there, func(r *http.Request) { r.AddCookie(sessionCookie("YW5u.0.99999999999.AAAA", 9)) }, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := built(t, testConfig(newSource(full())))
			resp := ask(s, tt.from, "GET", "/api/v1/redundancy", tt.change)
			if resp.StatusCode != tt.want {
				t.Fatalf("answers %d, want %d", resp.StatusCode, tt.want)
			}
			text := body(t, resp)
			if tt.want == 200 && !strings.Contains(text, `"status":"primary"`) || tt.want == 401 && strings.Contains(text, "primary") {
				t.Errorf("body %s", text)
			}
		})
	}
}

func TestReadinessIsForThePrimaryAlone(t *testing.T) {
	for _, status := range allStatus {
		src := newSource(full())
		src.set(status)
		resp := ask(built(t, testConfig(src)), there, "GET", "/readyz", nil)
		want := 503
		if status == "primary" {
			want = 200
		}
		if text := body(t, resp); resp.StatusCode != want || strings.TrimSpace(text) != `{"status":"`+status+`"}` {
			t.Errorf("%s: %d %s, want %d", status, resp.StatusCode, text, want)
		}
	}
}

// formLogin posts the login form and returns the answer.
func formLogin(s *Server, name, password string, change func(*http.Request)) *http.Response {
	return ask(s, there, "POST", "/login", func(r *http.Request) {
		form := url.Values{"name": {name}, "password": {password}}.Encode()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(form)), int64(len(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if change != nil {
			change(r)
		}
	})
}

func TestLoginWorksOnBothManagersAndEnds(t *testing.T) {
	users := &fakeUsers{}
	cfg := testConfig(newSource(full()))
	cfg.Users = users
	first, second := built(t, cfg), built(t, testConfig(newSource(full())))
	resp := formLogin(first, "ann", "right", nil)
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		t.Fatalf("login answers %d with %d cookies", resp.StatusCode, len(resp.Cookies()))
	}
	c := resp.Cookies()[0]
	if !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" {
		t.Errorf("cookie %+v", c)
	}
	if strings.Contains(c.Value, "right") {
		t.Error("the cookie has the password in it")
	}
	read := func(s *Server) int {
		return ask(s, there, "GET", "/api/v1/redundancy", func(r *http.Request) { r.AddCookie(c) }).StatusCode
	}
	if got := read(first); got != 200 {
		t.Errorf("the same Manager answers %d", got)
	}
	if got := read(second); got != 200 {
		t.Errorf("the other Manager answers %d", got)
	}
	if text := body(t, ask(first, there, "GET", "/shell", func(r *http.Request) { r.AddCookie(c) })); !strings.Contains(text, "Log out") {
		t.Error("the page has no way to log out")
	}
	users.mu.Lock()
	users.gen++
	users.mu.Unlock()
	if got := read(first); got != 401 {
		t.Errorf("after the end of all sessions: %d", got)
	}
	second.clock = func() time.Time { return time.Now().Add(sessionLife + time.Second) }
	if got := read(second); got != 401 {
		t.Errorf("after its life: %d", got)
	}
	second.clock = func() time.Time { return time.Now().AddDate(-1, 0, 0) }
	if got := read(second); got != 401 {
		t.Errorf("with the clock set back a year: %d", got)
	}
	out := ask(first, there, "POST", "/logout", func(r *http.Request) { r.AddCookie(c) })
	if out.StatusCode != 401 { // its session has ended above
		t.Errorf("log out without a session answers %d", out.StatusCode)
	}
}

func TestLoginRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, user, password string
		change               func(*http.Request)
		want                 int
	}{
		{"a wrong password", "ann", "wrong", nil, 401},
		{"an unknown user", "bob", "right", nil, 401},
		{"nothing", "", "", nil, 401},
		{"without encryption", "ann", "right", func(r *http.Request) { r.TLS = nil }, 403},
		{"a form of another site", "ann", "right", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		{"a body without end", "ann", strings.Repeat("x", 70<<10), nil, 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp := formLogin(built(t, testConfig(newSource(full()))), tt.user, tt.password, tt.change)
			if resp.StatusCode != tt.want || len(resp.Cookies()) > 0 {
				t.Errorf("answers %d with %d cookies, want %d", resp.StatusCode, len(resp.Cookies()), tt.want)
			}
		})
	}
	t.Run("anybody, while there is no key to sign with", func(t *testing.T) {
		cfg := testConfig(newSource(full()))
		cfg.SessionKey = func() []byte { return nil }
		if resp := formLogin(built(t, cfg), "ann", "right", nil); resp.StatusCode != 500 || len(resp.Cookies()) > 0 {
			t.Errorf("answers %d", resp.StatusCode)
		}
	})
	t.Run("too many tries from one address", func(t *testing.T) {
		s := built(t, testConfig(newSource(full())))
		for range 5 {
			formLogin(s, "ann", "wrong", nil)
		}
		if resp := formLogin(s, "ann", "right", nil); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
			t.Errorf("answers %d", resp.StatusCode)
		}
	})
	t.Run("an error of the inside is not told", func(t *testing.T) {
		cfg := testConfig(newSource(full()))
		cfg.Users = &fakeUsers{err: errors.New("open /var/lib/secret: broken")}
		resp := formLogin(built(t, cfg), "ann", "right", nil)
		if text := body(t, resp); resp.StatusCode != 500 || strings.Contains(text, "secret") {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	})
}

func TestStatusPageShowsThePicture(t *testing.T) {
	normal := full()
	normal.Deadline = nil
	s := built(t, testConfig(newSource(normal)))
	resp := ask(s, here, "GET", "/", nil)
	text := body(t, resp)
	for _, want := range []string{"Primary", "(Running)", "Degraded", "10.0.0.50/24", "held by cell &lt;1&gt; (this node) on eth0", "cell &lt;1&gt;", "4 behind", "stores none",
		"1m1s ago", "Takeover from cell 2", "9.5 ms", "The Backup is 4 changes behind.", "(Disconnected)", "Version 1.2.3"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(text, "<1>") || strings.Contains(text, "0x") {
		t.Error("the page has unescaped text or a pointer in it")
	}
	for _, h := range []string{"Content-Security-Policy", "X-Content-Type-Options", "X-Frame-Options", "Cache-Control"} {
		if resp.Header.Get(h) == "" {
			t.Errorf("no header %s", h)
		}
	}
	if text := body(t, ask(built(t, testConfig(newSource(Redundancy{}))), here, "GET", "/", nil)); !strings.Contains(text, "Field units connected") {
		t.Errorf("the page of a node that knows nothing is cut off:\n%s", text)
	}
	for path, kind := range map[string]string{"/static/style.css": "text/css", "/static/live.js": "text/javascript"} {
		if resp := ask(s, there, "GET", path, nil); resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %d, %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
	}
}

func TestMetrics(t *testing.T) {
	s := built(t, testConfig(newSource(full())))
	text := body(t, ask(s, here, "GET", "/metrics", nil))
	for _, want := range []string{`redundancypool_status{status="primary"} 1`, `redundancypool_status{status="online"} 0`, "redundancypool_vip_bound 1",
		`redundancypool_member_behind{member="cell 2",role="backup"} 4`, "redundancypool_worst_case_takeover_seconds 0.42",
		`redundancypool_last_changeover_seconds{kind="takeover",phase="elected"} 0.0095`} {
		if !strings.Contains(text, want) {
			t.Errorf("no line %q", want)
		}
	}
}

var parameter = regexp.MustCompile(`:([a-z_]+)`)

// TestDocumentCoversRoutesAndObjects keeps the API document true.
func TestDocumentCoversRoutesAndObjects(t *testing.T) {
	s := built(t, testConfig(newSource(full())))
	var doc struct {
		Paths      map[string]map[string]any
		Components struct {
			Schemas map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(body(t, ask(s, here, "GET", "/api/v1/openapi.json", nil))), &doc); err != nil {
		t.Fatal(err)
	}
	var inDoc, inCode []string
	for path, ops := range doc.Paths {
		for method := range ops {
			inDoc = append(inDoc, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range s.echo.Routes() {
		entry := r.Method + " " + parameter.ReplaceAllString(r.Path, "{$1}")
		// Pages for people are no part of the API, but for the few that programs meet.
		if strings.HasPrefix(r.Path, "/api/") || slices.Contains(inDoc, entry) {
			inCode = append(inCode, entry)
		}
	}
	slices.Sort(inDoc)
	slices.Sort(inCode)
	if !slices.Equal(inDoc, inCode) {
		t.Errorf("the document has %q\nthe code has %q", inDoc, inCode)
	}
	text, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	var object any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	checkObject(t, "redundancy", doc.Components.Schemas["Redundancy"], object)
}

// checkObject compares the keys of an object with those of its schema, at every depth.
func checkObject(t *testing.T, at string, schema json.RawMessage, v any) {
	t.Helper()
	var sc struct {
		Properties map[string]json.RawMessage
		Required   []string
		Items      json.RawMessage
	}
	if err := json.Unmarshal(schema, &sc); err != nil {
		t.Fatal(at, err)
	}
	switch v := v.(type) {
	case map[string]any:
		if len(v) != len(sc.Properties) || len(v) != len(sc.Required) {
			t.Errorf("%s has %d keys, the document %d, required %d", at, len(v), len(sc.Properties), len(sc.Required))
		}
		for key, value := range v {
			if sc.Properties[key] == nil {
				t.Errorf("%s.%s is not in the document", at, key)
				continue
			}
			checkObject(t, at+"."+key, sc.Properties[key], value)
		}
	case []any:
		for _, value := range v {
			checkObject(t, at+"[]", sc.Items, value)
		}
	}
}

func FuzzSession(f *testing.F) {
	s, err := newServer(testConfig(newSource(Redundancy{})))
	if err != nil {
		f.Fatal(err)
	}
	value, err := s.newSession(context.Background(), "ann")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("", 0)
	f.Add("a.b.c.d", 1)
	f.Add("...", 2)
	f.Fuzz(func(t *testing.T, text string, at int) {
		at = min(max(at, 0), len(value))
		for _, forged := range []string{text, value[:at] + text + value[at:], text + value[at:]} {
			if forged == value {
				continue
			}
			if _, err := s.openSession(context.Background(), forged); !errors.Is(err, ErrLogin) {
				t.Errorf("%q was believed (%v)", forged, err)
			}
		}
	})
}
