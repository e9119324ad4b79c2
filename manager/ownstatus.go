package manager

import (
	"context"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/web"
)

// statusTick is how often this node's own status is looked at; a change counts when it is seen twice.
const statusTick = 200 * time.Millisecond

// watchStatus tells of the changes of this node's status that the pool does not tell itself: from
// role to role, and what it sees of a pool that has no Primary. It runs until ctx ends.
func (m *Manager) watchStatus(ctx context.Context) {
	tick := time.NewTicker(statusTick)
	defer tick.Stop()
	unknown := pool.Unknown.String()
	status, health := settled{now: unknown}, settled{now: unknown}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, _, e := m.snapshot()
		if e == nil {
			continue // between two engines there is none
		}
		r := source{m}.Redundancy()
		if from, to, ok := status.see(r.Status); ok && !toldByPool(from, to) {
			m.recordStatus(e, journal.Info, "own_status", "this Manager is "+web.Word(to), from, to, m.takeWhy())
		}
		if from, to, ok := health.see(r.Health); ok {
			m.healthSeen(e, from, to, r.Status == pool.Primary.String())
		}
	}
}

// takeWhy returns why this Manager is in its mode, once: it is the cause of the next change alone.
func (m *Manager) takeWhy() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	why := m.why
	m.why = ""
	return why
}

// settled is a word that changes only once the new one was seen twice in a row.
type settled struct{ now, next string }

// see returns the change that a look at word completes.
func (s *settled) see(word string) (from, to string, changed bool) {
	if word == s.now {
		s.next = ""
		return "", "", false
	}
	if word != s.next {
		s.next = word
		return "", "", false
	}
	from, s.now, s.next = s.now, word, ""
	return from, word, true
}

// toldByPool: the change to and from Primary is an event of the pool's, with its cause; so it is in a
// pool of one.
func toldByPool(from, to string) bool {
	serves := func(word string) bool { return word == pool.Primary.String() || word == pool.Alone.String() }
	return serves(to) || serves(from) && to == pool.Online.String()
}

// healthSeen tells that no Primary is heard, and that one is again. In between, the Primary
// tells of its pool's health.
func (m *Manager) healthSeen(e *engine, from, to string, primary bool) {
	failed := pool.Failure.String()
	switch {
	case to == failed && from != pool.Unknown.String() && !primary:
		m.recordStatus(e, journal.Error, codeNoPrimary, "no Manager is Primary: the pool is read-only", from, to, "this Manager hears no Primary")
	case from == failed && e.pool != nil && len(e.pool.Record().Members) > 1:
		m.recordStatus(e, journal.Info, codePrimaryHeard, "the pool has a Primary again", from, to, "")
	}
}

// codePrimaryHeard is the code of the event that tells of the end of a Failure.
const codePrimaryHeard = "primary_heard"

// codeNoPrimary is the code of the event that tells of a pool in Failure.
const codeNoPrimary = "no_primary"

func (m *Manager) recordStatus(e *engine, sev journal.Severity, code, message, from, to, cause string) {
	ev := journal.Event{TimeMS: time.Now().UnixMilli(), Node: m.name(), Severity: sev, Category: "status", Code: code, Message: message, From: from, To: to, Cause: cause}
	if e.pool != nil {
		st := e.pool.State()
		ev.Term = st.Term
		if len(st.Members) > 1 {
			ev.Details = map[string]any{"evidence": arbiter.Evidence(st)}
		}
	}
	m.record(ev)
}
