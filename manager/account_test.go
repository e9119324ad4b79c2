package manager_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"redundancypool/web"
)

// history is a Manager's history, the newest first.
func (s *site) history(name string) []web.ChangeoverRecord {
	s.t.Helper()
	v, err := s.remote(name).History(s.t.Context(), 0)
	if err != nil {
		s.t.Fatalf("history of %s: %v", name, err)
	}
	var all struct{ Changeovers []web.ChangeoverRecord }
	if err := json.Unmarshal(v.(json.RawMessage), &all); err != nil {
		s.t.Fatal(err)
	}
	return all.Changeovers
}

// speaker is a unit that says exactly what a test wants.
type speaker struct {
	s *site
	p profile
	c *paho.Client
}

func (s *site) speaker(on, unit string) *speaker { return &speaker{s: s, p: s.profile(on, unit)} }

// say publishes a record and waits for its acknowledgement; seq 0: without a number.
func (u *speaker) say(seq int, value float64) {
	u.s.t.Helper()
	number := fmt.Sprintf(`"seq":%d,`, seq)
	if seq == 0 {
		number = ""
	}
	body := fmt.Sprintf(`{"timestamp":%d,%s"node":"n","group":"g","values":{"v":%g}}`, time.Now().UnixMilli(), number, value)
	u.s.await(20*time.Second, u.p.Username+" is acknowledged", func() (bool, string) {
		if u.c == nil {
			c, err := u.s.connect(u.s.t.Context(), u.p)
			if err != nil {
				return false, err.Error()
			}
			u.c = c
		}
		_, err := u.c.Publish(u.s.t.Context(), &paho.Publish{QoS: 1, Topic: "fieldunit/" + u.p.Username + "/telemetry", Payload: []byte(body)})
		if err != nil {
			u.c = nil
			return false, err.Error()
		}
		return true, ""
	})
}

// A takeover is kept with its cause and what each member saw; a record that is lost and one that is
// there twice are found, named and counted, and what cannot be checked is said. The killed Primary's
// own account is added when it is back.
func TestTheAccountOfATakeover(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	a, b, plain := s.speaker(masterHost, "a"), s.speaker(masterHost, "b"), s.speaker(masterHost, "plain")
	for n := 1; n <= 5; n++ {
		a.say(n, float64(n))
		b.say(n, float64(n))
		plain.say(0, float64(n))
	}
	old := s.status(masterHost)
	s.kill(masterHost)
	s.awaitStatus(backupHost, "primary")
	a.c, b.c, plain.c = nil, nil, nil
	a.say(6, 6)
	a.say(8, 8) // 7 was lost
	b.say(6, 6)
	b.say(6, 66) // came twice, with another content
	plain.say(0, 6)
	var rec web.ChangeoverRecord
	s.await(30*time.Second, "the takeover is checked", func() (bool, string) {
		all := s.history(backupHost)
		if len(all) > 0 {
			rec = all[0]
		}
		return rec.Check != nil && rec.Term > old.Term, fmt.Sprintf("%+v", rec)
	})
	if rec.Kind != "takeover" || rec.Code != "process_died" || rec.From != old.Node || rec.FromTerm != old.Term {
		t.Errorf("record %+v", rec)
	}
	c := rec.Check
	if c.Lost != 1 || c.StoredTwice != 1 || c.Units != 2 || !slices.Equal(c.NotCheckable, []string{"plain"}) || c.Before < 5 || c.After < 4 {
		t.Errorf("check %+v", c)
	}
	found := strings.Join(c.Findings, "; ")
	if !strings.Contains(found, "a: number 7 to 7 is missing") || !strings.Contains(found, "b: number 6 is stored with two contents") {
		t.Errorf("findings %q", found)
	}
	if st := s.status(backupHost).LastChangeover; st == nil || st.Lost == nil || *st.Lost != 1 || *st.StoredTwice != 1 {
		t.Errorf("the status says %+v", st)
	}
	for i, ms := range []*float64{rec.DetectedMS, rec.ElectedMS, rec.FencedMS, rec.VIPMS, rec.AnnouncedMS, rec.WriteMS, rec.FirstUnitMS} {
		if ms == nil || *ms < 0 || *ms > 30_000 {
			t.Errorf("time %d of %+v", i, rec)
		}
	}
	if *rec.FencedMS < *rec.ElectedMS || *rec.AnnouncedMS < *rec.VIPMS || rec.FirstUnit == "" {
		t.Errorf("times %+v", rec)
	}
	if !slices.Contains(rec.Awaited, old.Node) {
		t.Errorf("the killed one is not awaited: %+v", rec)
	}
	s.start(masterHost)
	s.await(60*time.Second, "the old Primary's account is added", func() (bool, string) {
		if all := s.history(masterHost); len(all) > 0 { // its own copy gets it too
			rec = all[0]
		}
		return rec.Term > old.Term && len(rec.Awaited) == 0, fmt.Sprintf("%+v", rec)
	})
	roles := map[string]int{}
	for _, e := range rec.Evidence {
		roles[fmt.Sprint(e.Role, " ", e.Self, " ", e.Verdict != "", " ", e.GaveUpMS != 0)]++
	}
	if roles["backup false true false"] != 1 || roles["arbiter false true false"] != 1 || roles["master true false false"] != 1 {
		t.Errorf("evidence %+v", rec.Evidence)
	}
	if rec.Check.Lost != 1 {
		t.Errorf("adding evidence changed the check: %+v", rec.Check)
	}
}
