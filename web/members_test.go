package web

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func (d *fakeDesk) Seats() []Seat { return d.seats }
func (d *fakeDesk) Change() Change {
	return Change{Title: "Replacing the backup", Steps: []Step{{Text: "b is out", Done: true}, {Text: "filling n"}}}
}
func (d *fakeDesk) Replace(_ context.Context, q Replacement) (string, error) {
	if q.Address == "10.0.0.1" {
		return "", &Problem{Message: "it cannot be replaced", Fields: []FieldProblem{{Field: "address", Code: "duplicate", Message: "10.0.0.1 is m", Fix: "give another"}}}
	}
	return d.ask(fmt.Sprintf("replace %s %s %d %s", q.Member, q.Address, q.Port, q.Pairing), q.Yes)
}
func (d *fakeDesk) Resync(_ context.Context, y bool) (string, error) { return d.ask("resync", y) }
func (d *fakeDesk) Partner(_ context.Context, who string, active, y bool) (string, error) {
	return d.ask(fmt.Sprintf("partner %s %t", who, active), y)
}

func TestMembersAreReplacedOnThePage(t *testing.T) {
	desk := &fakeDesk{
		seats: []Seat{{Role: "master", Name: "m", Status: "primary", Address: "10.0.0.1:8099", Self: true}, {Role: "backup", Name: "b", Status: "unreachable", Address: "10.0.0.2:8099", Failure: "connection refused"}, {Role: "arbiter"}},
		asked: []Consequence{{Text: "b is taken out.", Word: "replace"}},
	}
	s := loggedIn(t, site(t, normal(), desk))
	_, page := s.ask("GET", "/members", nil, nil)
	for _, want := range []string{"Replacing the backup", "B is out", "Connection refused", "Missing", "A new machine in the place of the Arbiter", "Deactivate the Backup", "Re-synchronise"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	code, page := s.post("/members/replace", "member", "backup", "address", "10.0.0.1")
	if code != http.StatusUnprocessableEntity || !strings.Contains(page, "10.0.0.1 is m") || !strings.Contains(page, `value="10.0.0.1"`) {
		t.Errorf("a wrong address: %d", code)
	}
	if code, page = s.post("/members/replace", "member", "backup", "port", "x"); code != http.StatusUnprocessableEntity || !strings.Contains(page, "X is not a port") {
		t.Errorf("a wrong port: %d", code)
	}
	q := []string{"member", "backup", "address", "10.0.0.9", "port", "8100", "pairing", "T"}
	if code, page = s.post("/members/replace", q...); code != http.StatusOK || !strings.Contains(page, "b is taken out.") {
		t.Errorf("it does not ask: %d", code)
	}
	q = append(q, "yes", "1")
	if _, page = s.post("/members/replace", q...); len(desk.told) != 0 || !strings.Contains(page, "not typed as asked") {
		t.Errorf("it begins without the word: %q", desk.told)
	}
	q = append(q, "word-replace", "replace")
	s.post("/members/replace", q...)
	s.post("/members/partner", "member", "arbiter", "active", "false", "yes", "1", "word-replace", "replace")
	s.post("/members/resync", "yes", "1", "word-replace", "replace")
	if got := strings.Join(desk.told, "; "); got != "replace backup 10.0.0.9 8100 T; partner arbiter false; resync" {
		t.Errorf("told %q", got)
	}
}
