package web

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConnectionsPage(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d := &fakeDesk{trust: Connections{
		Fingerprint: "AAAA OWN",
		Approved: []Peer{
			{Fingerprint: "BBBB", Role: "backup", Name: "cell 2", Address: "10.0.0.2:8099", How: "token", Since: at, InPool: true},
			{Fingerprint: "CCCC", Role: "arbiter", Name: "third", How: "fingerprint", Since: at},
		},
		Contacts: []Contact{
			{Fingerprint: "DDDD", Role: "backup", Name: "<new>", Address: "10.0.0.9:8099", First: at, Last: at},
			{Fingerprint: "EEEE", Role: "backup", Name: "cell 2", Address: "10.0.0.2", First: at, Last: at, Instead: "BBBB", InPool: true},
			{Fingerprint: "FFFF", Role: "", Name: "blank", Address: "10.0.0.7", First: at, Last: at, RejectedUntil: &at},
		},
	}}
	v := loggedIn(t, site(t, normal(), d))
	_, text := v.ask("GET", "/trust", nil, nil)
	for _, want := range []string{"AAAA OWN", "the running pool needs it", "by pairing token", "fingerprint compared", "Not trusted (Faulted)", "&lt;new&gt;", "2026-01-02 03:04:05", "Certificate changed", "Approved until now", "replace the member on the Primary", "Rejected", `data-refresh="/trust"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(text, `action="/trust/approve"`); n != 2 {
		t.Errorf("%d buttons to approve, want 2: none beside a key that the pool needs", n)
	}
	if n := strings.Count(text, `action="/trust/reject"`); n != 2 {
		t.Errorf("%d buttons to reject, want 2: none for who is rejected", n)
	}
	if n := strings.Count(text, `action="/trust/withdraw"`); n != 1 {
		t.Errorf("%d buttons to withdraw, want 1: none for what the pool needs", n)
	}
	if code, _ := v.post("/trust/approve", "fingerprint", "DDDD", "role", ""); code != http.StatusSeeOther {
		t.Errorf("approve answers %d", code)
	}
	if code, _ := v.post("/trust/reject", "fingerprint", "DDDD"); code != http.StatusSeeOther {
		t.Errorf("reject answers %d", code)
	}
	if code, _ := v.post("/trust/contact", "address", " 10.0.0.2 ", "role", "backup"); code != http.StatusSeeOther {
		t.Errorf("contact answers %d", code)
	}
	if want := []string{"approve DDDD ", "reject DDDD", "contact 10.0.0.2 backup"}; !slices.Equal(d.told, want) {
		t.Errorf("told %q, want %q", d.told, want)
	}

	d.told, d.asked = nil, []Consequence{{"somebody else may answer there", ""}}
	for _, path := range []string{"/trust/approve", "/trust/withdraw"} {
		if code, text := v.post(path, "fingerprint", "BBBB"); code != 200 || !strings.Contains(text, "omebody else may answer there") || len(d.told) > 0 {
			t.Errorf("%s without an answer: %d, told %q", path, code, d.told)
		}
		if code, _ := v.post(path, "fingerprint", "BBBB", "yes", "1"); code != 303 || len(d.told) != 1 {
			t.Errorf("%s agreed to: %d, told %q", path, code, d.told)
		}
		d.told = nil
	}
	d.refusal = &Problem{Code: "unreachable", Message: "connection refused"}
	if code, text := v.post("/trust/contact", "address", "10.0.0.77", "role", "arbiter"); code != 409 || !strings.Contains(text, "Connection refused.") || !strings.Contains(text, `value="10.0.0.77"`) {
		t.Errorf("a contact that fails: %d", code)
	}
}

// While a pool is being formed the buttons stand on the waiting page, and lead back to it.
func TestApprovingOnTheWaitingPage(t *testing.T) {
	d := &fakeDesk{waiting: Waiting{Forming: true, ToCopy: -1}, trust: Connections{Fingerprint: "OWN", Contacts: []Contact{{Fingerprint: "DDDD", Role: "master", Name: "cell 1"}}}}
	s := site(t, full(), d)
	v := loggedIn(t, s)
	_, text := v.ask("GET", "/waiting", nil, nil)
	for _, want := range []string{"OWN", "DDDD", `action="/trust/approve"`, `action="/trust/reject"`, `name="from" value="/waiting"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the waiting page lacks %q", want)
		}
	}
	for _, what := range []string{"approve", "reject"} {
		resp := v.keep(ask(s, there, "POST", "/trust/"+what, form(v, "fingerprint", "DDDD", "from", "/waiting")))
		if resp.StatusCode != 303 || resp.Header.Get("Location") != "/waiting" {
			t.Errorf("%s answers %d, to %q", what, resp.StatusCode, resp.Header.Get("Location"))
		}
		resp = v.keep(ask(s, there, "POST", "/trust/"+what, form(v, "fingerprint", "DDDD", "from", "https://elsewhere/")))
		if resp.Header.Get("Location") != "/trust" {
			t.Errorf("%s leads to %q", what, resp.Header.Get("Location"))
		}
	}
}

func TestCallsAboutTrust(t *testing.T) {
	d := &fakeDesk{trust: Connections{Fingerprint: "OWN", Approved: []Peer{{}}, Contacts: []Contact{{}}}}
	s := site(t, normal(), d)
	call := func(method, path, text string) (int, string) {
		resp := ask(s, there, method, "/api/v1/redundancy/"+path, jsonBody(text))
		return resp.StatusCode, body(t, resp)
	}
	code, text := call("GET", "connections", "")
	if code != 200 || !strings.Contains(text, `"fingerprint":"OWN"`) {
		t.Errorf("connections: %d %s", code, text)
	}
	checkDocument(t, s, "Connections", text)
	for _, tt := range []struct {
		path, text string
		code       int
		want       string
	}{
		{"approve", `{"fingerprint":"AB","role":"backup"}`, 200, "approve AB backup is done"},
		{"reject", `{"fingerprint":"AB"}`, 200, "reject AB is done"},
		{"contact", `{"address":"10.0.0.2","role":"backup"}`, 200, "contact 10.0.0.2 backup is done"},
		{"withdraw", `{"fingerprint":"AB"}`, 200, "withdraw AB is done"},
		{"withdraw", `{"key":"AB"}`, 400, "no JSON object"},
	} {
		if code, text := call("POST", tt.path, tt.text); code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s %s: %d %s", tt.path, tt.text, code, text)
		}
	}
	d.asked = []Consequence{{"it is another key", ""}}
	if code, text := call("POST", "approve", `{"fingerprint":"AB"}`); code != 409 || !strings.Contains(text, "it is another key") {
		t.Errorf("approve without yes: %d %s", code, text)
	}
	if code, _ := call("POST", "approve", `{"fingerprint":"AB","yes":true}`); code != 200 {
		t.Errorf("approve with yes: %d", code)
	}
}
