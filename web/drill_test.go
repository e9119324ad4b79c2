package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func (d *fakeDesk) Drills(context.Context, int) (DrillView, error) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended, next := at.Add(25*time.Second), at.Add(48*time.Hour)
	return DrillView{Schedule: "sun,wed 04:30 Europe/Berlin", LimitMS: 500, Next: &next, Drills: []DrillReport{{
		Key: "k", By: "ann", At: at, Ended: &ended, Result: "failed", LimitMS: 500,
		Out:     &DrillLeg{From: "m1", To: "m2", Term: 8, GapMS: 41.5, Check: &ContinuityCheck{Units: 2, Records: 90, NotCheckable: []string{}, Findings: []string{}}},
		Back:    &DrillLeg{From: "m2", To: "m1", Term: 9, GapMS: 600},
		Reasons: []Reason{{Code: "too_long", Text: "no write was possible for 600.0 ms"}}, Steps: []DrillStep{{at, "handing over from m1"}},
	}}}, nil
}

func (d *fakeDesk) RunDrill(_ context.Context, by string) (string, error) {
	_, err := d.tell("drill by " + by)
	return "key", err
}

func (d *fakeDesk) SetDrill(_ context.Context, schedule string, limitMS int64) (string, error) {
	return d.tell(fmt.Sprintf("drills %s %d", schedule, limitMS))
}

func TestDrillsOnThePageAndInTheAPI(t *testing.T) {
	a, _, desk, _ := twoManagers(t)
	page := sent("", "Accept", "text/html")
	text := body(t, ask(a, there, "GET", "/drill", page))
	for _, want := range []string{"Sunday 2026-01-04 03:04 UTC", "500 ms at most", `value="sun,wed"`, `value="04:30"`, `value="Europe/Berlin"`, "Failed", "took 25s", "41.5 ms", "90 records of 2 units", "not checked",
		"No write was possible for 600.0 ms.", "Handing over from m1."} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	form := func(text string) func(*http.Request) {
		return sent(text, "Content-Type", "application/x-www-form-urlencoded", "Accept", "text/html")
	}
	if text := body(t, ask(a, there, "POST", "/drill/run", form(""))); !strings.Contains(text, "two short interruptions") || len(desk.done("drill")) != 0 {
		t.Error("a drill is not asked about first")
	}
	if code := ask(a, there, "POST", "/drill/run", form("yes=1")).StatusCode; code != http.StatusSeeOther || len(desk.done("drill by ann")) != 1 {
		t.Errorf("a drill: %d, told %q", code, desk.told)
	}
	ask(a, there, "POST", "/drill/schedule", form("on=1&days=mon&time=02:15&zone=UTC&limit_ms=300"))
	ask(a, there, "POST", "/drill/schedule", form("days=mon&time=02:15&zone=UTC&limit_ms=300"))
	if got := desk.done("drills"); len(got) != 2 || got[0] != "drills mon 02:15 UTC 300" || got[1] != "drills off 300" {
		t.Errorf("told %q", got)
	}
	if resp := ask(a, there, "POST", "/api/v1/redundancy/drills", sent("{}")); resp.StatusCode != http.StatusAccepted || !strings.Contains(body(t, resp), `"key":"key"`) {
		t.Errorf("by the API: %d", resp.StatusCode)
	}
	if resp := ask(a, there, "PUT", "/api/v1/redundancy/drills/schedule", sent(`{"schedule":"off","limit_ms":250}`)); resp.StatusCode != 200 || len(desk.done("drills off 250")) != 1 {
		t.Errorf("schedule by the API: %d, told %q", resp.StatusCode, desk.told)
	}
	desk.refusal = &Problem{Code: "not_protected", Message: "a drill needs a Protected pool"}
	if resp := ask(a, there, "POST", "/api/v1/redundancy/drills", sent("{}")); resp.StatusCode != http.StatusConflict {
		t.Errorf("refused: %d", resp.StatusCode)
	}
	v, err := desk.Drills(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	checkSchema(t, "Drills", v)
	var doc struct{ Paths map[string]json.RawMessage }
	if err := json.Unmarshal(openapiText, &doc); err != nil || doc.Paths["/api/v1/redundancy/drills"] == nil {
		t.Error("drills are not documented")
	}
}
