package manager_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"redundancypool/manager/control"
	"redundancypool/web"
)

// drill runs one, asked for on a Manager.
func (s *site) drill(name string, step func(string)) web.DrillReport {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	v, err := s.remote(name).Drill(ctx, func(c control.Step) error { step(c.Text); return nil })
	if err != nil {
		s.t.Fatalf("drill on %s: %v", name, err)
	}
	var r web.DrillReport
	if err := json.Unmarshal(v.(json.RawMessage), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

// A drill moves Primary there and back, measures both, and is refused while the pool is not
// Protected. When a member is lost in between it ends where it is, and says why.
func TestADrill(t *testing.T) {
	s := newSite(t, time.Minute)
	s.env = append(s.env, "SITE_DRILL_SETTLE=9s")
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	if d, err := s.remote(masterHost).SetDrill(t.Context(), "sun 03:00 Europe/Berlin", 20_000); err != nil || !strings.Contains(d.Message, "Sunday") {
		t.Errorf("schedule: %q, %v", d.Message, err)
	}
	_, err := s.remote(masterHost).SetDrill(t.Context(), "sun 25:00 UTC", 0)
	s.refused(err, "schedule", "25:00")
	_, err = s.remote(masterHost).SetDrill(t.Context(), "", 5)
	s.refused(err, "limit_ms", "60000")
	a := s.speaker(masterHost, "a")
	for n := 1; n <= 3; n++ {
		a.say(n, 1)
	}
	moved := false
	r := s.drill(backupHost, func(text string) { // asked for on the Manager that is Online
		if strings.Contains(text, "is Primary in term") && !moved {
			moved, a.c = true, nil
			a.say(4, 1)
		}
	})
	if r.Result != "passed" || r.Out == nil || r.Back == nil || len(r.Reasons) > 0 || r.LimitMS != 20_000 || !moved {
		t.Fatalf("report %+v", r)
	}
	if r.Out.To != r.Back.From || r.Back.To != r.Out.From || r.Back.Term <= r.Out.Term || r.Out.GapMS <= 0 || r.Out.Check.Lost+r.Back.Check.Lost+r.Out.Check.StoredTwice+r.Back.Check.StoredTwice != 0 {
		t.Errorf("legs %+v and %+v", *r.Out, *r.Back)
	}
	if st := s.status(masterHost); st.Status != "primary" {
		t.Errorf("the Master is %s afterwards", st.Status)
	}
	all := s.history(backupHost)
	if len(all) != 2 || all[0].Code != "drill" || all[1].Code != "drill" || all[0].Kind != "handover" {
		t.Errorf("history %+v", all)
	}
	// A member is lost after the way out.
	lost := false
	r = s.drill(masterHost, func(text string) {
		if strings.Contains(text, "waiting for the check") && !lost {
			lost = true
			s.kill(arbiterHost)
		}
	})
	if r.Result != "aborted" || r.Back != nil || len(r.Reasons) != 1 || r.Reasons[0].Code != "not_protected" || !strings.Contains(r.Reasons[0].Text, "stays where it is") {
		t.Errorf("aborted: %+v", r)
	}
	if st := s.status(backupHost); st.Status != "primary" {
		t.Errorf("after the abort the Backup is %s", st.Status)
	}
	_, err = s.remote(backupHost).Drill(t.Context(), func(control.Step) error { return nil })
	s.refused(err, "Protected", "arbiter")
	_, err = s.remote(masterHost).Drill(t.Context(), func(control.Step) error { return nil })
	s.refused(err, "Protected", "arbiter")
	var events []string
	err = s.remote(masterHost).Query(t.Context(), "SELECT code FROM event WHERE code IN ('drill_begin', 'drill_end') ORDER BY time_ms, id", func([]string) error { return nil },
		func(row []any) error { events = append(events, fmt.Sprint(row[0])); return nil })
	if got := strings.Join(events, " "); err != nil || !strings.Contains(got, "drill_begin drill_end drill_begin") {
		t.Errorf("events %q, %v", got, err)
	}
}
