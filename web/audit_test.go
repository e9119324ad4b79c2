package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func (d *fakeDesk) Audit(a Act) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.acts = append(d.acts, a)
}

// post sends a form as ann from the LAN, with the token that belongs to her session.
func post(t *testing.T, s *Server, path string, form url.Values) *http.Response {
	t.Helper()
	session, err := s.newSession(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	form.Set("_token", formToken(session))
	return ask(s, there, "POST", path, func(r *http.Request) {
		r.AddCookie(&http.Cookie{Name: cookieName, Value: session})
		setForm(r, form)
	})
}

func setForm(r *http.Request, form url.Values) {
	setBody(r, "application/x-www-form-urlencoded", form.Encode())
	r.Header.Set("Accept", "text/html")
}

func setBody(r *http.Request, kind, text string) {
	r.Header.Set("Content-Type", kind)
	r.Body, r.ContentLength = http.NoBody, int64(len(text))
	r.Body = readCloser{strings.NewReader(text)}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// TestActsAreNoted: who, from where, what, and what became of it, once each; what only asks or
// looks is not noted.
func TestActsAreNoted(t *testing.T) {
	question := []Consequence{{Text: "all ends", Word: "leave"}}
	for _, tt := range []struct {
		name string
		desk *fakeDesk
		do   func(*testing.T, *Server)
		want string // who, from, via, code, result, what, why
	}{
		{"a login", &fakeDesk{}, func(t *testing.T, s *Server) {
			ask(s, there, "POST", "/login", func(r *http.Request) { setForm(r, url.Values{"name": {"ann"}, "password": {"right"}}) })
		}, "ann|10.0.0.9|page|login|done|log in|"},
		{"a wrong password", &fakeDesk{}, func(t *testing.T, s *Server) {
			ask(s, there, "POST", "/login", func(r *http.Request) { setForm(r, url.Values{"name": {"ann"}, "password": {"s3cret"}}) })
		}, "ann|10.0.0.9|page|login_failed|refused|log in|"},
		{"a password typed as the name", &fakeDesk{}, func(t *testing.T, s *Server) {
			ask(s, there, "POST", "/login", func(r *http.Request) { setForm(r, url.Values{"name": {"s3cret"}, "password": {"x"}}) })
		}, "an unknown user|10.0.0.9|page|login_failed|refused|log in|"},
		{"a wrong password with HTTP Basic", &fakeDesk{}, func(t *testing.T, s *Server) {
			ask(s, there, "GET", "/api/v1/redundancy", func(r *http.Request) { r.SetBasicAuth("ann", "s3cret") })
		}, "ann|10.0.0.9|api|login_failed|refused|log in|login needed: open /login in a browser, or send an API token, or name and password with HTTP Basic"},
		{"looking", &fakeDesk{}, func(t *testing.T, s *Server) {
			ask(s, there, "GET", "/api/v1/redundancy", func(r *http.Request) { r.SetBasicAuth("ann", "right") })
		}, ""},
		{"without a login", &fakeDesk{}, func(t *testing.T, s *Server) { ask(s, there, "POST", "/actions/leave", nil) }, ""},
		{"a log out", &fakeDesk{}, func(t *testing.T, s *Server) { post(t, s, "/logout", url.Values{}) }, "ann|10.0.0.9|page|logout|done|log out|"},
		{"the question before leaving", &fakeDesk{asked: question}, func(t *testing.T, s *Server) { post(t, s, "/actions/leave", url.Values{}) }, ""},
		{"leaving, agreed to", &fakeDesk{asked: question}, func(t *testing.T, s *Server) {
			post(t, s, "/actions/leave", url.Values{"yes": {"1"}, "word-leave": {"leave"}})
		}, "ann|10.0.0.9|page|leave|done|leave the pool|"},
		{"leaving, refused", &fakeDesk{refusal: &Problem{Code: "x", Message: "not now"}}, func(t *testing.T, s *Server) {
			post(t, s, "/actions/leave", url.Values{})
		}, "ann|10.0.0.9|page|leave|refused|leave the pool|not now"},
		{"the API asks first", &fakeDesk{asked: question}, func(t *testing.T, s *Server) {
			ask(s, there, "POST", "/api/v1/redundancy/leave", func(r *http.Request) { r.SetBasicAuth("ann", "right"); setBody(r, "application/json", "{}") })
		}, ""},
		{"the API is agreed with", &fakeDesk{asked: question}, func(t *testing.T, s *Server) {
			ask(s, there, "POST", "/api/v1/redundancy/leave", func(r *http.Request) {
				r.SetBasicAuth("ann", "right")
				setBody(r, "application/json", `{"yes":true}`)
			})
		}, "ann|10.0.0.9|api|leave|done|leave the pool|"},
		{"removing a unit", &fakeDesk{}, func(t *testing.T, s *Server) { post(t, s, "/units/remove", url.Values{"name": {"u1"}}) },
			"ann|10.0.0.9|page|unit_remove|done|remove a field unit|"},
		{"verifying", &fakeDesk{}, func(t *testing.T, s *Server) {
			post(t, s, "/settings", url.Values{"mode": {"standalone"}, "do": {"verify"}})
		}, ""},
		{"a download", &fakeDesk{}, func(t *testing.T, s *Server) {
			ask(s, there, "GET", "/database/file/a.db", func(r *http.Request) { r.SetBasicAuth("ann", "right") })
		}, "ann|10.0.0.9|page|database_download|refused|download the database|there is no such save"},
	} {
		cfg := testConfig(newSource(Redundancy{Role: "standalone", Status: "standalone", Health: "standalone"}))
		d := tt.desk
		cfg.Operations = d
		tt.do(t, built(t, cfg))
		var got []string
		for _, a := range d.acts {
			got = append(got, strings.Join([]string{a.Who, a.From, a.Via, a.Code, a.Result, a.What, a.Why}, "|"))
			for k, v := range a.Target {
				if strings.Contains(v, "s3cret") {
					t.Errorf("%s: the secret is told as %s", tt.name, k)
				}
			}
		}
		if strings.Join(got, "\n") != tt.want {
			t.Errorf("%s: noted\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}

func TestChangedSettingsAreNamedWithoutTheirValues(t *testing.T) {
	got := changed(map[string]string{"a": "1", "b": "2", "c": "3"}, map[string]string{"a": "1", "b": "9", "d": "4"})
	if !slices.Equal(got, []string{"b", "c", "d"}) {
		t.Errorf("changed: %q", got)
	}
}
