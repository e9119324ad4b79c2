package web

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// visitor is somebody who has logged in, and what their browser keeps.
type visitor struct {
	t       *testing.T
	s       *Server
	cookies map[string]string
	token   string
}

func loggedIn(t *testing.T, s *Server) *visitor {
	t.Helper()
	v := &visitor{t: t, s: s, cookies: map[string]string{}}
	if resp := v.keep(formLogin(s, "ann", "right", nil)); resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("login answers %d", resp.StatusCode)
	}
	v.token = formToken(v.cookies[cookieName])
	return v
}

func (v *visitor) keep(resp *http.Response) *http.Response {
	for _, c := range resp.Cookies() {
		v.cookies[c.Name] = c.Value
		if c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		}
	}
	return resp
}

func (v *visitor) ask(method, path string, form url.Values, change func(*http.Request)) (int, string) {
	v.t.Helper()
	resp := v.keep(ask(v.s, there, method, path, func(r *http.Request) {
		r.Header.Set("Accept", "text/html")
		for name, value := range v.cookies {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		if form != nil {
			text := form.Encode()
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		if change != nil {
			change(r)
		}
	}))
	return resp.StatusCode, body(v.t, resp)
}

// post sends a form with its token.
func (v *visitor) post(path string, pairs ...string) (int, string) {
	v.t.Helper()
	form := url.Values{"_token": {v.token}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return v.ask("POST", path, form, nil)
}

func normal() Redundancy {
	r := full()
	r.Deadline = nil
	return r
}

func site(t *testing.T, r Redundancy, d *fakeDesk) *Server {
	cfg := testConfig(newSource(r))
	cfg.Operations = d
	return built(t, cfg)
}

func TestFirstAdministrator(t *testing.T) {
	form := func(code, again string) func(*http.Request) {
		return func(r *http.Request) {
			text := url.Values{"code": {code}, "name": {"ann"}, "password": {"right"}, "again": {again}}.Encode()
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
	}
	for _, tt := range []struct {
		name, from  string
		code, again string
		want        int
	}{
		{"on this machine: no code is needed", here, "", "right", 303},
		{"from the LAN with the printed code", there, "CODE", "right", 303},
		{"from the LAN without", there, "", "right", 403},
		{"from the LAN with another", there, "GUESS", "right", 403},
		{"the two passwords differ", here, "", "wrong", 422},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &fakeDesk{unborn: true}
			resp := ask(site(t, normal(), d), tt.from, "POST", "/setup", form(tt.code, tt.again))
			if resp.StatusCode != tt.want || (len(d.told) > 0) != (tt.want == 303) || (len(resp.Cookies()) > 0) != (tt.want == 303) {
				t.Errorf("answers %d, told %q, want %d", resp.StatusCode, d.told, tt.want)
			}
		})
	}
	if resp := ask(site(t, normal(), &fakeDesk{}), there, "GET", "/setup", nil); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("with an administrator the page answers %d", resp.StatusCode)
	}
}

func TestFormsNeedTheirToken(t *testing.T) {
	d := &fakeDesk{}
	s := site(t, normal(), d)
	v := loggedIn(t, s)
	for _, r := range s.echo.Routes() {
		if r.Method != "POST" || public["POST "+r.Path] {
			continue
		}
		path := strings.ReplaceAll(r.Path, ":what", "handover")
		v := loggedIn(t, site(t, normal(), d)) // one client may not ask so much at once
		for name, token := range map[string]string{"none": "", "another's": formToken("x")} {
			if code, _ := v.ask("POST", path, url.Values{"_token": {token}, "yes": {"1"}}, nil); code != http.StatusForbidden {
				t.Errorf("%s with %s token answers %d", path, name, code)
			}
		}
	}
	if len(d.told) > 0 {
		t.Errorf("it did %q", d.told)
	}
	if code, _ := v.post("/actions/activate", "yes", "1"); code != 303 || !slices.Equal(d.told, []string{"activate"}) {
		t.Errorf("with its token: %d, %q", code, d.told)
	}
}

func TestOnlyTheWaitingPageIsOpenWhileForming(t *testing.T) {
	d := &fakeDesk{waiting: Waiting{Forming: true, HoldsToken: true, Members: []WaitingMember{{Title: "Master", Address: "10.0.0.1:8099", Role: "master", Status: "unknown", Steps: []Step{{Text: "the Master answers", Problem: "no answer yet"}}}},
		Differences: []Difference{{What: "virtual IP", Master: "10.0.0.51", Here: "10.0.0.50"}},
		Copy:        &Copy{Bytes: 30 << 20, Total: 120 << 20, PerSecond: 3 << 20, LeftMS: 30000}, Problem: "no route", ToCopy: 12}}
	s := site(t, full(), d)
	v := loggedIn(t, s)
	for _, path := range []string{"/", "/settings", "/units", "/database", "/about", "/account", "/database/file/a.db"} {
		code, text := v.ask("GET", path, nil, nil)
		if code != 503 || !strings.Contains(text, "9:41") || !strings.Contains(text, "The Master answers.") || !strings.Contains(text, "No route.") {
			t.Errorf("%s answers %d", path, code)
		}
	}
	code, text := v.ask("GET", "/waiting", nil, nil)
	for _, want := range []string{"12</strong> changes behind", `max="125829120" value="31457280"`, "30 MiB of 120 MiB (25 %)", "3072 KiB a second", "about 0:30 to go",
		"No answer yet.", "10.0.0.51</td><td>10.0.0.50", "0 of 1 steps done", `data-left="581000"`} {
		if code != 200 || !strings.Contains(text, want) {
			t.Errorf("the waiting page answers %d and lacks %q:\n%s", code, want, text)
		}
	}
	program := func(r *http.Request) { r.Header.Set("Accept", "*/*") }
	if code, text := v.ask("GET", "/api/v1/redundancy/worst", nil, program); code != 503 || !strings.Contains(text, `"remaining_ms":581000`) || !strings.Contains(text, "the Master answers") {
		t.Errorf("a call answers %d %s", code, text)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/api/v1/redundancy": 200, "/api/v1/redundancy/waiting": 200} {
		if code, _ := v.ask("GET", path, nil, program); code != want {
			t.Errorf("%s answers %d", path, code)
		}
	}
	if code, text := v.post("/waiting/token"); code != 200 || !strings.Contains(text, "token is done") {
		t.Errorf("token: %d\n%s", code, text)
	}
	if code, _ := v.post("/waiting/cancel"); code != 303 || !slices.Contains(d.told, "cancel") {
		t.Errorf("cancel: %d, %q", code, d.told)
	}
	if code, _ := loggedIn(t, site(t, normal(), d)).ask("GET", "/waiting", nil, nil); code != 303 {
		t.Errorf("afterwards the waiting page answers %d", code)
	}
}

func TestAnOnlineManagerHasFewPages(t *testing.T) {
	r := normal()
	r.Role, r.Status = "backup", "online"
	r.VIP.Bound = false
	d := &fakeDesk{}
	s := site(t, r, d)
	v := loggedIn(t, s)
	for path, want := range map[string]int{"/": 200, "/settings": 200, "/database": 200, "/about": 200, "/account": 200, "/trust": 200, "/units": 409} {
		code, text := v.ask("GET", path, nil, nil)
		if code != want || want == 409 && !strings.Contains(text, "https://10.0.0.50:8443/") {
			t.Errorf("%s answers %d, want %d", path, code, want)
		}
	}
	if code, text := v.ask("POST", "/units/add", url.Values{"_token": {v.token}, "name": {"u"}}, func(r *http.Request) { r.Header.Del("Accept") }); code != 409 || !strings.Contains(text, `"primary":"10.0.0.50"`) || len(d.told) > 0 {
		t.Errorf("adding a unit: %d %s, told %q", code, text, d.told)
	}
	if _, text := v.ask("GET", "/shell", nil, nil); !strings.Contains(text, `data-mode="light"`) || strings.Contains(text, "/units") {
		t.Error("the menu has what cannot be opened")
	}
}

func TestDangerousActsAskFirst(t *testing.T) {
	d := &fakeDesk{asked: []Consequence{{"all of it goes", "gone"}}}
	v := loggedIn(t, site(t, normal(), d))
	for path, pairs := range map[string][]string{
		"/actions/leave": nil, "/actions/deactivate": nil, "/actions/recover": nil,
		"/database/restore": {"name", "a.db"}, "/units/remove": {"name", "u1"},
	} {
		d.told = nil
		for _, extra := range [][]string{nil, {"yes", "1"}, {"yes", "1", "word-gone", "Gone"}} {
			if code, text := v.post(path, append(slices.Clone(pairs), extra...)...); code != 200 || !strings.Contains(text, "all of it goes") || len(d.told) > 0 {
				t.Errorf("%s with %q: %d, told %q", path, extra, code, d.told)
			}
		}
		if code, _ := v.post(path, append(slices.Clone(pairs), "yes", "1", "word-gone", "gone")...); code != 303 || len(d.told) != 1 {
			t.Errorf("%s agreed to: %d, told %q", path, code, d.told)
		}
	}
}

func TestChangingThePassword(t *testing.T) {
	for name, tt := range map[string]struct {
		old, again string
		want       int
	}{"right": {"right", "new password", 303}, "wrong present one": {"wrong", "new password", 401}, "not the same twice": {"right", "other", 422}} {
		d := &fakeDesk{}
		v := loggedIn(t, site(t, normal(), d))
		if code, _ := v.post("/account/password", "old", tt.old, "password", "new password", "again", tt.again); code != tt.want || (len(d.told) > 0) != (tt.want == 303) {
			t.Errorf("%s: %d, told %q", name, code, d.told)
		}
	}
}

func TestWrongBasicPasswordsHaveToWait(t *testing.T) {
	s := site(t, normal(), &fakeDesk{})
	now := time.Now()
	s.clock = func() time.Time { return now }
	try := func(password string) int {
		return ask(s, there, "GET", "/api/v1/redundancy", func(r *http.Request) { r.SetBasicAuth("ann", password) }).StatusCode
	}
	for range mostTries {
		if code := try("wrong"); code != 401 {
			t.Fatalf("a wrong password answers %d", code)
		}
	}
	if code := try("right"); code != 429 {
		t.Errorf("after %d wrong ones the right one answers %d", mostTries, code)
	}
	now = now.Add(triesPause + time.Second)
	if code := try("right"); code != 200 {
		t.Errorf("after the pause the right one answers %d", code)
	}
}

func TestSettingsForm(t *testing.T) {
	here := []Address{{"10.0.0.1/24", "eth0", false}, {"10.9.0.1/16", "eth1", true}}
	fill := []string{"mode", "master", "master:local.address", "10.0.0.1", "master:vip", "10.0.0.50", "backup:vip", "9.9.9.9", "master:pairing", "T1", "master:arbiter_pairing", "T2"}
	with := func(more ...string) []string { return append(slices.Clone(fill), more...) }
	t.Run("verify shows its results beside the fields and changes nothing", func(t *testing.T) {
		d := &fakeDesk{settings: Settings{Addresses: here}}
		_, text := loggedIn(t, site(t, normal(), d)).post("/settings", with("do", "verify")...)
		if !strings.Contains(text, "Fail: Held by a stranger. Choose another.") || !slices.Equal(d.told, []string{"verify master"}) {
			t.Errorf("told %q:\n%s", d.told, text)
		}
	})
	t.Run("a refusal stands beside its field", func(t *testing.T) {
		d := &fakeDesk{refusal: &Problem{Code: "invalid", Message: "no", Fields: []FieldProblem{{"vip", "held", "it is held", "take another"}, {"strange", "x", "odd", "fix it"}}}}
		code, text := loggedIn(t, site(t, normal(), d)).post("/settings", with("do", "save")...)
		if code != 422 || strings.Count(text, "It is held. Take another.") != 1 || !strings.Contains(text, "strange: Odd.") {
			t.Errorf("%d\n%s", code, text)
		}
	})
	t.Run("save asks, then stores with the prefix of the local address", func(t *testing.T) {
		d := &fakeDesk{settings: Settings{Addresses: here}, asked: []Consequence{{"it restarts", ""}}}
		v := loggedIn(t, site(t, normal(), d))
		if _, text := v.post("/settings", with("do", "save")...); !strings.Contains(text, "It restarts") && !strings.Contains(text, "it restarts") || len(d.told) > 0 {
			t.Errorf("told %q:\n%s", d.told, text)
		}
		if code, _ := v.post("/settings", with("do", "store")...); code != 303 || !slices.Equal(d.told, []string{"set master 10.0.0.50/24 T1 T2"}) {
			t.Errorf("%d, told %q", code, d.told)
		}
	})
	t.Run("the values to try again", func(t *testing.T) {
		d := &fakeDesk{settings: Settings{Addresses: here, Tried: map[string]string{"mode": "backup", "peer.address": "10.0.0.77"}}}
		if _, text := loggedIn(t, site(t, normal(), d)).ask("GET", "/settings?again", nil, nil); !strings.Contains(text, "10.0.0.77") {
			t.Error("they are not there")
		}
	})
	t.Run("worst case of what is being typed", func(t *testing.T) {
		v := loggedIn(t, site(t, normal(), &fakeDesk{}))
		if code, text := v.ask("GET", "/api/v1/redundancy/worst?timing.heartbeat_period=20ms", nil, nil); code != 200 || !strings.Contains(text, "420") {
			t.Errorf("%d %s", code, text)
		}
		if code, text := v.ask("GET", "/api/v1/redundancy/worst?timing.heartbeat_period=bad", nil, nil); code != 422 || !strings.Contains(text, "no time") {
			t.Errorf("%d %s", code, text)
		}
	})
}

func TestCommandsOfTheAPI(t *testing.T) {
	send := func(s *Server, path, text, kind string) (int, string) {
		resp := ask(s, there, "POST", "/api/v1/redundancy/"+path, func(r *http.Request) {
			r.SetBasicAuth("ann", "right")
			r.Header.Set("Content-Type", kind)
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		})
		return resp.StatusCode, body(t, resp)
	}
	const kind = "application/json"
	d := &fakeDesk{asked: []Consequence{{"all of it goes", "gone"}}}
	s := site(t, normal(), d)
	for _, tt := range []struct {
		path, text, kind string
		code             int
		want             string
	}{
		{"verify", `{"values":{"mode":"master"}}`, kind, 200, `"ok":false`},
		{"set", `{"values":{"mode":"backup"}}`, kind, 409, `"word":"gone"`},
		{"set", `{"values":{"mode":"backup"},"yes":true}`, kind, 200, "set backup"},
		{"leave", `{}`, kind, 409, "all of it goes"},
		{"leave", `{"yes":true}`, kind, 200, "leave is done"},
		{"handover", `{}`, kind, 200, `"gap_ms":41.5`},
		{"handover", `{"sudden":1}`, kind, 400, "no JSON object"},
		{"handover", `a=b`, "application/x-www-form-urlencoded", 415, "JSON"},
	} {
		if code, text := send(s, tt.path, tt.text, tt.kind); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s: %d %s", tt.path, tt.text, code, text)
		}
	}
	d.refusal = &Problem{Code: "invalid", Fields: []FieldProblem{{"vip", "held", "it is held", "take another"}}}
	if code, text := send(s, "set", `{"yes":true}`, kind); code != 422 || !strings.Contains(text, `"field":"vip"`) {
		t.Errorf("%d %s", code, text)
	}
}
