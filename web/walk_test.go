package web

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// TestEveryRouteWithoutLogin walks all routes, in each mode of the pages, from the LAN and from this
// machine, as a browser and as a program: only those of the list answer, nothing is done and nothing is
// told.
func TestEveryRouteWithoutLogin(t *testing.T) {
	// Who answers everybody: POST /login and POST /setup refuse what is empty.
	everybody := []string{"GET /healthz", "GET /login", "GET /readyz", "GET /setup", "GET /static/:file", "POST /login", "POST /setup"}
	origins := map[string][]string{there: everybody, here: append(slices.Clone(everybody), "GET /metrics")}
	light := normal()
	light.Role, light.Status, light.VIP.Bound = "backup", "online", false
	told := []string{"cell 2", "cell <1>", "10.0.0.50", "10.0.0.2"}
	for mode, r := range map[string]Redundancy{modeFull: normal(), modeLight: light, modeWaiting: full()} {
		for origin, allowed := range origins {
			for _, accept := range []string{"text/html", "*/*"} {
				d := &fakeDesk{waiting: Waiting{Members: []WaitingMember{{Title: "Master", Address: "10.0.0.2:8099"}}, ToCopy: -1}}
				s := site(t, r, d)
				var open []string
				for _, route := range s.echo.Routes() {
					path := strings.NewReplacer(":file", "style.css", ":name", "a.db", ":what", "leave", ":id", "1", ":channel", "1").Replace(route.Path)
					resp := send(s, origin, route.Method, path, func(r *http.Request) {
						r.Header.Set("Accept", accept)
						if route.Method != http.MethodGet {
							text := `{"yes":true}`
							r.Header.Set("Content-Type", "application/json")
							r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
						}
					})
					name := route.Method + " " + route.Path
					if !slices.Contains(allowed, name) && (resp.StatusCode == 401 || resp.StatusCode == 303 && resp.Header.Get("Location") == "/login") {
						text := body(t, resp)
						for _, fact := range told {
							if strings.Contains(text, fact) {
								t.Errorf("%s, %s: %s refuses, and tells %q", mode, origin, name, fact)
							}
						}
						continue
					}
					open = append(open, name)
				}
				slices.Sort(open)
				want := slices.Clone(allowed)
				slices.Sort(want)
				if !slices.Equal(open, want) {
					t.Errorf("%s, from %s, %s: answered without login: %q, want %q", mode, origin, accept, open, want)
				}
				if d.told = slices.DeleteFunc(d.told, func(what string) bool { return what == "found " }); len(d.told) > 0 { // an empty name is refused by the real one
					t.Errorf("%s, from %s: it did %q", mode, origin, d.told)
				}
			}
		}
	}
}

func TestStrangePathsAndMethodsWithoutLogin(t *testing.T) {
	s := built(t, testConfig(newSource(normal())))
	for _, origin := range []string{here, there} {
		for _, path := range []string{"/nowhere", "/api/v1/", "/api/v1/redundancy/", "/static/../web.go", "//", "/login/x", "/trust/", "/settings/certificate/node.key"} {
			if code := send(s, origin, "GET", path, nil).StatusCode; code != 401 && code != 400 && code != 404 {
				t.Errorf("%s answers %d to %s", path, code, origin)
			}
		}
		for _, method := range []string{"HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"} {
			for _, path := range []string{"/api/v1/redundancy", "/trust", "/"} {
				if code := send(s, origin, method, path, nil).StatusCode; code < 400 && code != 303 {
					t.Errorf("%s %s answers %d to %s", method, path, code, origin)
				}
			}
		}
	}
}

// Every answer has the headers that keep a page from being framed, sniffed or scripted by others, errors and
// refusals too.
func TestEveryAnswerHasSecureHeaders(t *testing.T) {
	s := built(t, testConfig(newSource(normal())))
	for _, path := range []string{"/login", "/", "/nowhere", "/static/style.css", "/healthz", "/api/v1/redundancy"} {
		for _, origin := range []string{here, there} {
			h := send(s, origin, "GET", path, nil).Header
			for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin", "Content-Security-Policy": "default-src 'self'"} {
				if !strings.HasPrefix(h.Get(name), want) {
					t.Errorf("%s: %s is %q", path, name, h.Get(name))
				}
			}
			if strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
				t.Errorf("%s: %q", path, h.Get("Content-Security-Policy"))
			}
		}
	}
}

func TestLogOutEverywhere(t *testing.T) {
	d := &fakeDesk{}
	s := site(t, normal(), d)
	v := loggedIn(t, s)
	resp := v.keep(ask(s, there, "POST", "/account/sessions", form(v)))
	if resp.StatusCode != 303 || resp.Header.Get("Location") != "/login" || !slices.Equal(d.told, []string{"log out ann"}) {
		t.Errorf("%d to %q, told %q", resp.StatusCode, resp.Header.Get("Location"), d.told)
	}
	if _, there := v.cookies[cookieName]; there {
		t.Error("the browser keeps its session")
	}
	v = loggedIn(t, s)
	d.refusal = &Problem{Code: "no_primary", Message: "no Manager is Primary now"}
	resp = v.keep(ask(s, there, "POST", "/account/sessions", form(v)))
	if _, text := v.ask("GET", resp.Header.Get("Location"), nil, nil); !strings.Contains(text, "No Manager is Primary now") || !strings.Contains(text, "Log out everywhere") {
		t.Errorf("a failure is not shown:\n%s", text)
	}
}

// The login page tells whom one is about to log in to, and nothing more of the pool.
func TestLoginPageNamesTheNode(t *testing.T) {
	r := normal()
	r.Node, r.Role, r.Status = "cell <1>", "backup", "online"
	text := body(t, send(built(t, testConfig(newSource(r))), there, "GET", "/login", nil))
	for _, want := range []string{"cell &lt;1&gt;", "Backup", "Online"} {
		if !strings.Contains(text, want) {
			t.Errorf("the login page lacks %q", want)
		}
	}
	for _, fact := range []string{"10.0.0", "cell 2", "erm"} {
		if strings.Contains(text, fact) {
			t.Errorf("the login page tells %q", fact)
		}
	}
}
