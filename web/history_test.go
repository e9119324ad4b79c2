package web

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// past is what the history has in these tests.
func past() []ChangeoverRecord {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return []ChangeoverRecord{
		{Key: "9-1", Kind: "takeover", Code: "process_died", Cause: "its process died, confirmed by cell 3", At: at, Term: 9, FromTerm: 8, From: "cell <1>", To: "cell 2",
			DetectedMS: ptr(4.0), ElectedMS: ptr(9.0), FencedMS: ptr(11.0), VIPMS: ptr(12.0), AnnouncedMS: ptr(12.5), WriteMS: ptr(14.0), FirstUnitMS: ptr(31.0), AllUnitsMS: ptr(80.0),
			FirstUnit: "u1", LastUnit: "u2", UnitsBefore: ptr(int64(3)), UnitsBack: ptr(int64(2)),
			Check: &ContinuityCheck{At: at, Lost: 1, StoredTwice: 2, Units: 2, Records: 140, Before: 60, After: 80, NotCheckable: []string{"plain"}, NotCheckableUnits: 1, Findings: []string{"u1: number 4 to 4 is missing"}},
			Evidence: []Sighting{
				{Member: "cell 2", Role: "backup", Primary: "cell <1>", Term: 8, LastHeardMS: at.UnixMilli(), BrokenMS: at.UnixMilli() + 3, Broken: "reset", RefusedMS: at.UnixMilli() + 4, Verdict: "refused"},
				{Member: "cell <1>", Role: "master", Primary: "cell <1>", Term: 8, Self: true, LastWriteMS: at.UnixMilli() - 5},
			}, Awaited: []string{"cell 3"}},
		{Key: "8-1", Kind: "handover", Code: "operator", At: at.Add(-time.Hour), Term: 8, From: "cell 2", To: "cell <1>", Evidence: []Sighting{}, Awaited: []string{}},
	}
}

func (d *fakeDesk) Changeovers(_ context.Context, limit int) ([]ChangeoverRecord, error) {
	if d.refusal != nil {
		return nil, d.refusal
	}
	return past()[:min(limit, 2)], nil
}

func TestTheHistoryIsOnAPageAndInTheAPI(t *testing.T) {
	r := full()
	r.Deadline = nil
	s := built(t, testConfig(newSource(r)))
	login := func(r *http.Request) { r.SetBasicAuth("ann", "right"); r.Header.Set("Accept", "text/html") }
	text := body(t, ask(s, there, "GET", "/changeovers", login))
	for _, want := range []string{"Takeover from cell &lt;1&gt; to cell 2", "1 lost, 2 stored twice", "checked over 140 records of 2 numbered field units", "u1: number 4 to 4 is missing",
		"Not checkable", "plain", "03:04:05.003 the last connection to it was reset", "its process ended without laying Primary down", "Still to be heard: cell 3", "80 ms (u2)", "2 back of 3 before", "not checked"} {
		if !strings.Contains(strings.ToLower(text), strings.ToLower(want)) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	if text := body(t, ask(s, there, "GET", "/changeovers?key=8-1", login)); !strings.Contains(text, "Hand over from cell 2") || !strings.Contains(text, "Not checked: what the field units") {
		t.Errorf("the other record:\n%s", text)
	}
	if text := body(t, ask(s, there, "GET", "/changeovers?key=none", login)); !strings.Contains(text, "no changeover with this key") {
		t.Error("a key that is unknown is not told")
	}
	var got struct{ Changeovers []ChangeoverRecord }
	resp := ask(s, there, "GET", "/api/v1/redundancy/changeovers?limit=1", login)
	if err := json.Unmarshal([]byte(body(t, resp)), &got); err != nil || len(got.Changeovers) != 1 || got.Changeovers[0].Check.Lost != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"0", "x", "1001"} {
		if resp := ask(s, there, "GET", "/api/v1/redundancy/changeovers?limit="+bad, login); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("limit %s answers %d", bad, resp.StatusCode)
		}
	}
	if resp := ask(s, there, "GET", "/api/v1/redundancy/changeovers", nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without a login: %d", resp.StatusCode)
	}
	checkSchema(t, "ChangeoverRecord", past()[0])
}

// checkSchema compares an object with its schema in the API document.
func checkSchema(t *testing.T, name string, v any) {
	t.Helper()
	var doc struct {
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(openapiText, &doc); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var object any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatal(err)
	}
	checkObject(t, name, doc.Components.Schemas[name], object)
}

func TestASightingIsToldInTheOrderOfTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixMilli()
	for _, tt := range []struct {
		name string
		s    Sighting
		want string
	}{
		{"nothing was seen", Sighting{}, "had not heard it"},
		{"a kill", Sighting{LastHeardMS: at, RefusedMS: at + 3, BrokenMS: at + 1, FarewellMS: at + 2, Broken: "closed"},
			"03:04:05.000 heard it for the last time|03:04:05.001 the last connection to it was closed|03:04:05.002 its guard said farewell: the process is dead and the virtual IP gone|03:04:05.003 its port refused connections"},
		{"it laid Primary down", Sighting{ReleasedMS: at, Released: "handing over"}, "03:04:05.000 it said that it laid Primary down: handing over"},
		{"its own account", Sighting{Self: true, LastWriteMS: at, GaveUpMS: at + 9, GaveUp: "the lease ran out"}, "03:04:05.000 its last write was committed|03:04:05.009 it gave Primary up: the lease ran out"},
	} {
		if got := strings.Join(tt.s.Says(), "|"); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
