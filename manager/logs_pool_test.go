package manager_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"redundancypool/manager/control"
	"redundancypool/web"
)

// logs returns the events that a Manager shows, and the notes about members that do not answer.
func (s *site) logs(name string, filter map[string]string) (events []web.LogEvent, notes string) {
	s.t.Helper()
	err := s.remote(name).Logs(s.t.Context(), control.LogQuery{Limit: 1000, Filter: filter}, func(l control.LogStep) error {
		notes += l.Note
		return s.gather(&events, l)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return events, notes
}

func (s *site) gather(events *[]web.LogEvent, l control.LogStep) error {
	if l.Event == nil {
		return nil
	}
	var e web.LogEvent
	err := json.Unmarshal(l.Event, &e)
	*events = append(*events, e)
	return err
}

// TestLogsOfAllMembersAreMerged: whoever is asked tells of all three, each event once, and names
// who does not answer; who follows learns what happens on the others.
func TestLogsOfAllMembersAreMerged(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	names := map[string]string{}
	for _, m := range s.status(masterHost).Members {
		names[m.Role] = m.Name
	}
	for _, on := range []string{masterHost, backupHost} {
		events, notes := s.logs(on, nil)
		seen, from := map[string]bool{}, map[string]int{}
		for i, e := range events {
			if seen[e.ID] {
				t.Errorf("%s shows %s twice", on, e.ID)
			}
			seen[e.ID] = true
			from[e.Node]++
			if i > 0 && e.TimeMS < events[i-1].TimeMS {
				t.Errorf("%s: event %d is older than the one before", on, i)
			}
		}
		if notes != "" || from[names["master"]] == 0 || from[names["backup"]] == 0 || from[names["arbiter"]] == 0 {
			t.Errorf("%s: events of %v, want of each of %v; %s", on, from, names, notes)
		}
	}

	// Who follows on one Manager learns of the events of the other and of the Arbiter.
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	news := map[string]*[]web.LogEvent{masterHost: {}, backupHost: {}}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for on, into := range news {
		wg.Go(func() {
			_ = s.remote(on).Logs(ctx, control.LogQuery{Limit: 1, Follow: true, Filter: map[string]string{"category": "status,user"}}, func(l control.LogStep) error {
				mu.Lock()
				defer mu.Unlock()
				return s.gather(into, l)
			})
		})
	}
	if _, err := s.remote(backupHost).HandOver(t.Context(), "backup", noSteps); err != nil {
		t.Fatal(err)
	}
	s.awaitOwner(backupHost)
	told := func(on, node, code, to string) (found web.LogEvent, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range *news[on] {
			if e.Node == node && e.Code == code && (to == "" || e.To == to) {
				return e, true
			}
		}
		return found, false
	}
	s.await(20*time.Second, "the followers are told of the hand over", func() (bool, string) {
		e, ok := told(masterHost, names["backup"], "became_primary", "primary")
		_, also := told(masterHost, names["backup"], "handover", "")
		_, other := told(backupHost, names["master"], "primary_ended", "online")
		_, witness := told(backupHost, names["arbiter"], "member_status", "")
		return ok && also && other && witness && e.From == "online" && e.Term > 0 && e.Cause != "" && e.Details["evidence"] != nil, ""
	})

	// The Primary keeps the witness' events in the history, on both Managers.
	s.await(30*time.Second, "the history has the Arbiter's events", func() (bool, string) {
		n := ""
		err := s.remote(masterHost).Query(t.Context(), "SELECT count(*), count(DISTINCT json_extract(details, '$.event_id')) FROM event WHERE node = '"+names["arbiter"]+"'",
			func([]string) error { return nil }, func(row []any) error { n = fmt.Sprint(row); return nil })
		return err == nil && n != "[0 0]" && strings.Fields(strings.Trim(n, "[]"))[0] == strings.Fields(strings.Trim(n, "[]"))[1], n
	})

	// A member that is dead is named; what it had told stays.
	s.awaitHealth(backupHost, "protected")
	s.kill(masterHost)
	s.kill(arbiterHost)
	s.await(20*time.Second, "the Backup names the dead, and keeps what they told", func() (bool, string) {
		events, notes := s.logs(backupHost, nil)
		from := map[string]int{}
		noPrimary := false
		for _, e := range events {
			from[e.Node]++
			noPrimary = noPrimary || e.Code == "no_primary" && e.From != "" && e.To == "failure"
		}
		ok := strings.Contains(notes, "events of "+names["master"]+" until") && strings.Contains(notes, "events of "+names["arbiter"]+" until")
		return ok && noPrimary && from[names["master"]] > 0 && from[names["arbiter"]] > 0, notes
	})
	// The Arbiter's own journal outlives its process.
	s.start(arbiterHost)
	var own []string
	s.await(10*time.Second, "the Arbiter tells its own events", func() (bool, string) {
		own = nil
		err := control.NewClient(s.dir(arbiterHost)).Call(t.Context(), "logs", map[string]any{"query": map[string]any{"limit": 1000}}, func(raw json.RawMessage) error {
			var e web.LogEvent
			err := json.Unmarshal(raw, &e)
			own = append(own, e.Code)
			return err
		}, nil)
		return err == nil && strings.Count(strings.Join(own, " "), "started") == 2, strings.Join(own, " ")
	})
	if text := strings.Join(own, " "); !strings.Contains(text, "paired") || !strings.Contains(text, "joined") || !strings.Contains(text, "member_status") {
		t.Errorf("the Arbiter's events: %s", text)
	}
	if testing.Verbose() {
		events, _ := s.logs(backupHost, nil)
		for _, e := range events {
			t.Log(e.Time, e.Node, e.Severity, e.Category, e.Code, "|", e.Message, "|", e.From, e.To, e.Term, "|", e.Cause)
		}
	}
}
