package web

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// withToken sends a request of a program in the LAN.
func withToken(s *Server, token, method, path, body string) *http.Response {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.RemoteAddr, r.TLS = there, &tls.ConnectionState{}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	s.echo.ServeHTTP(w, r)
	return w.Result()
}

func TestATokenOpensWhatItsScopeSays(t *testing.T) {
	for _, tt := range []struct {
		name, token, method, path, body string
		want                            int
	}{
		{"reads the status", "rpt_1_reads", "GET", "/api/v1/redundancy", "", 200},
		{"reads the metrics", "rpt_1_reads", "GET", "/metrics", "", 200},
		{"reads the units", "rpt_1_reads", "GET", "/api/v1/units", "", 200},
		{"a reader changes nothing", "rpt_1_reads", "POST", "/api/v1/redundancy/activate", "{}", 403},
		{"an operator does", "rpt_2_operates", "POST", "/api/v1/redundancy/activate", "{}", 200},
		{"an operator adds a unit", "rpt_2_operates", "POST", "/api/v1/units", `{"name":"u2"}`, 201},
		{"an operator removes one", "rpt_2_operates", "DELETE", "/api/v1/units/u2", "", 200},
		{"no token makes another", "rpt_2_operates", "POST", "/api/v1/tokens", `{"name":"x","scope":"operate"}`, 403},
		{"nor lists them", "rpt_2_operates", "GET", "/api/v1/tokens", "", 403},
		{"nor ends one", "rpt_2_operates", "DELETE", "/api/v1/tokens/1", "", 403},
		{"no token opens a page", "rpt_2_operates", "GET", "/settings", "", 403},
		{"nor a form", "rpt_2_operates", "POST", "/units/add", "", 403},
		{"a wrong one", "rpt_1_guess", "GET", "/api/v1/redundancy", "", 401},
		{"none", "", "GET", "/api/v1/redundancy", "", 401},
		{"an unknown key is named", "rpt_2_operates", "POST", "/api/v1/units", `{"nmae":"u2"}`, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := built(t, testConfig(newSource(full2())))
			if got := withToken(s, tt.token, tt.method, tt.path, tt.body).StatusCode; got != tt.want {
				t.Errorf("%s %s answers %d, want %d", tt.method, tt.path, got, tt.want)
			}
		})
	}
}

// full2 is full on a Manager that has all pages.
func full2() Redundancy { r := full(); r.Deadline = nil; return r }

func TestATokenIsNotTakenWithoutEncryption(t *testing.T) {
	s := built(t, testConfig(newSource(full2())))
	r := httptest.NewRequest("GET", "/api/v1/redundancy", nil)
	r.RemoteAddr = there
	r.Header.Set("Authorization", "Bearer rpt_1_reads")
	w := httptest.NewRecorder()
	s.echo.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("answers %d", w.Code)
	}
}

func TestGuessingTokensIsSlowedDown(t *testing.T) {
	s := built(t, testConfig(newSource(full2())))
	for range mostTries {
		withToken(s, "rpt_1_guess", "GET", "/api/v1/redundancy", "")
	}
	if got := withToken(s, "rpt_1_reads", "GET", "/api/v1/redundancy", ""); got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
		t.Errorf("answers %d %v", got.StatusCode, got.Header)
	}
}
