package web

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHandOverTellsTheTruth(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refusal error
		says    []string
	}{
		{"done", nil, []string{"done", "Primary is b, since term 8", "42 ms", "laid down"}},
		{"refused by the pool", &Problem{Code: "refused", Message: "the Backup is behind", Fix: "wait"}, []string{"refused", "The Backup is behind. Wait.", "Nothing was changed"}},
		{"refused before it began", &Problem{Code: "not_in_pool", Message: "no pool"}, []string{"refused", "Nothing was changed"}},
		{"aborted", &Problem{Code: "aborted", Message: "it did not take over"}, []string{"aborted", "The old Primary serves on"}},
		{"unknown", &Problem{Code: "unknown", Message: "no answer"}, []string{"unknown", "Who is Primary now"}},
		{"an error of the inside is not called refused", errors.New("context canceled"), []string{"unknown", "status of both"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDesk{refusal: tt.refusal, hold: make(chan struct{}), past: []float64{30, 90, 40}}
				s := site(t, poolOf(nil), d)
				defer s.cancel()
				v := loggedIn(t, s)
				_, text := v.ask("GET", "/handover", nil, nil)
				for _, want := range []string{"Hand over to Backup now", "40 ms is typical, 90 ms was the longest of 3 planned changes", "it has every change", "the databases are equal"} {
					if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
						t.Errorf("before, the page lacks %q:\n%s", want, text)
					}
				}
				if code, _ := v.post("/actions/handover"); code != 303 || s.moves.view().Outcome != "" {
					t.Error("it began without a confirmation")
				}
				if code, _ := v.post("/actions/handover", "yes", "1"); code != 303 {
					t.Fatalf("answers %d", code)
				}
				time.Sleep(moveDelay)
				synctest.Wait()
				_, text = v.ask("GET", "/handover", nil, nil)
				if !strings.Contains(text, "data-running") || !strings.Contains(text, "3 ms") || strings.Contains(text, "Backup now</button>") {
					t.Errorf("under way, the page shows\n%s", text)
				}
				v.post("/actions/handover", "yes", "1") // a second one is not begun
				close(d.hold)
				synctest.Wait()
				_, text = v.ask("GET", "/handover", nil, nil)
				for _, want := range tt.says {
					if !strings.Contains(text, want) {
						t.Errorf("after, the page lacks %q:\n%s", want, text)
					}
				}
				if strings.Contains(text, "data-running") {
					t.Error("it is shown as under way still")
				}
				if tt.refusal == nil && len(d.told) != 1 {
					t.Errorf("it did %q", d.told)
				}
				time.Sleep(moveShown)
				if _, text = v.ask("GET", "/handover", nil, nil); strings.Contains(text, "Asked for at") {
					t.Error("it is told of for ever")
				}
			})
		})
	}
}

// TestHandOverAskedOfTheOtherManager: a browser on the virtual IP comes to the new Primary.
func TestHandOverAskedOfTheOtherManager(t *testing.T) {
	r := poolOf(func(r *Redundancy) { r.LastChangeover.Kind = "handover" })
	s := site(t, r, &fakeDesk{})
	s.clock = func() time.Time { return r.LastChangeover.At.Add(time.Second) }
	if text := body(t, askAs(t, s, "/handover")); !strings.Contains(text, "no write was possible for 14 ms") {
		t.Errorf("the page does not tell of it:\n%s", text)
	}
	s.clock = func() time.Time { return r.LastChangeover.At.Add(moveShown) }
	if strings.Contains(body(t, askAs(t, s, "/handover")), "no write was possible") {
		t.Error("it is told of for ever")
	}
}

// askAs reads a page as somebody who is logged in with HTTP Basic.
func askAs(t *testing.T, s *Server, path string) *http.Response {
	t.Helper()
	return ask(s, there, "GET", path, func(r *http.Request) { r.SetBasicAuth("ann", "right"); r.Header.Set("Accept", "text/html") })
}

func TestChecksBeforeAHandOver(t *testing.T) {
	r := poolOf(func(r *Redundancy) {
		r.Health, r.FailoverPossible = "degraded", false
		r.Reasons = []Reason{
			{"backup_maintenance", "cell 2 is in maintenance", "end it"}, {"backup_behind", "cell 2 is behind", "wait"},
			{"arbiter_unreachable", "third is away", "look"}, {"quite_new", "something else", ""}, {"take_back_waits", "good to know", ""},
		}
	})
	want := map[string]string{"primary": "ok", "arbiter_unreachable": "failed", "reachable": "ok", "backup_maintenance": "failed",
		"backup_behind": "failed", "digest": "ok", "quite_new": "failed"}
	got := prechecks(r)
	for _, c := range got {
		if want[c.Code] != c.Result {
			t.Errorf("%s: %s %s", c.Code, c.Result, c.Text)
		}
		delete(want, c.Code)
	}
	if len(want) > 0 {
		t.Errorf("not checked: %v in %v", want, got)
	}
	s := site(t, r, &fakeDesk{})
	if text := body(t, askAs(t, s, "/handover")); !strings.Contains(text, "<button disabled>Hand over to Backup") || !strings.Contains(text, "End it.") {
		t.Errorf("the button is not closed:\n%s", text)
	}
	r.Members[0].Status, r.Members[1].Status = "online", "primary"
	if got := r.HandOverLabel(); got != "Hand back to Master" {
		t.Errorf("label %q", got)
	}
	r.Members[1].Status, r.Reasons = "online", nil
	if got := prechecks(r); len(got) != 1 || got[0].Result != "failed" {
		t.Errorf("without a Primary: %v", got)
	}
}
