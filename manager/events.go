package manager

import (
	"context"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/vip"
)

// replicate queues an event for the history of both Managers; without a Primary here, or when too
// many come at once, the journal alone keeps it.
func (e *engine) replicate(ev journal.Event) {
	if e.duty.Load() == nil && ev.To != pool.Primary.String() && ev.To != pool.Alone.String() {
		return
	}
	select {
	case e.events <- ev:
	default:
	}
}

func (e *engine) replicateEvents(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-e.events:
			c, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := e.proposer.propose(c, historyEvent(ev))
			cancel()
			if err != nil && ctx.Err() == nil {
				e.m.log.Debug("event stays in the journal only", "code", ev.Code, "error", err)
			}
		}
	}
}

// historyEvent is an event as the history has it; fromDatabase is the inverse.
func historyEvent(ev journal.Event) database.EventAppend {
	return database.EventAppend{Event: database.Event{
		TimeMS: ev.TimeMS, Node: ev.Node, Severity: string(ev.Severity), Category: ev.Category,
		Code: ev.Code, Message: ev.Message, Cause: ev.Cause, Details: eventDetails(ev),
	}}
}

// eventDetails are the details of an event as JSON, with the change of status that it tells of.
func eventDetails(ev journal.Event) string {
	d := make(map[string]any, len(ev.Details)+4)
	for k, v := range ev.Details {
		d[k] = v
	}
	if ev.From != "" || ev.To != "" {
		d["from"], d["to"] = ev.From, ev.To
	}
	if ev.Term != 0 {
		d["term"] = ev.Term
	}
	if ev.ID != "" {
		d["event_id"] = ev.ID // so that it is known for the one in the journal
	}
	if len(d) == 0 {
		return ""
	}
	return asJSON(d)
}

// poolEvent takes what the pool reports.
func (e *engine) poolEvent(p pool.Event) {
	sev := journal.Severity(p.Severity)
	ev := journal.Event{
		TimeMS: time.Now().UnixMilli(), Node: e.m.name(), Severity: sev, Category: "pool", Code: p.Code, Term: p.Term,
		Message: poolMessage(p, e.memberName(p.Member)), Cause: p.Cause, Details: p.Details,
	}
	switch {
	case p.From != p.To:
		e.ofStatus(&ev, p)
	case p.Code == "health":
		ev.Category = "status"
		ev.From, _ = p.Details["from"].(string)
		ev.To, _ = p.Details["to"].(string)
	}
	switch {
	case p.Code == "member_connected": // the change of its status tells it
	case p.Code == "health" && ev.To == pool.HealthStandalone.String(): // there is no pool whose health could change
	default:
		e.m.record(ev)
	}
	if d := e.duty.Load(); d != nil && p.Code == "member_connected" && d.lease != nil {
		d.lease.Announce() // a healed network may have learnt another place for the VIP
	}
}

// ofStatus makes ev tell of a change of this node's status: in a pool of one, which is always
// Primary inside, the word is Standalone.
func (e *engine) ofStatus(ev *journal.Event, p pool.Event) {
	ev.Category, ev.From, ev.To = "status", p.From.String(), p.To.String()
	select {
	case <-e.ready:
	default:
		return
	}
	st := e.pool.State()
	ev.Details = map[string]any{"evidence": arbiter.Evidence(st)}
	for k, v := range p.Details {
		ev.Details[k] = v
	}
	if len(st.Record.Members) == 1 && st.Record.Phase != pool.PhaseForced {
		ev.Details = p.Details
		switch p.Code {
		case "became_primary":
			ev.To, ev.Message = pool.Alone.String(), "this Manager is Standalone and writes its database"
		case "primary_ended":
			ev.From, ev.Message = pool.Alone.String(), "this Manager writes its database no longer"
		}
	}
}

func (e *engine) memberName(id pool.MemberID) string {
	select {
	case <-e.ready:
	default:
		return string(id)
	}
	if id == "" {
		return ""
	}
	if m, ok := e.pool.Record().Member(id); ok {
		return m.Name
	}
	return string(id)
}

func poolMessage(p pool.Event, member string) string {
	switch p.Code {
	case "became_primary":
		return "this Manager is Primary"
	case "primary_ended":
		return "this Manager is no longer Primary"
	case "member_connected":
		return member + " connected"
	case "health":
		return "pool health changed"
	case "pool_effective":
		return "the pool is effective"
	case "not_electable":
		return "this Manager cannot take over from " + member
	case "member_cloned":
		return "a second machine with the identity of " + member + " was refused"
	case "digest_differs":
		return "the databases of the Managers differ"
	}
	return p.Code
}

// vipEvent takes what happens to the virtual IP.
func (e *engine) vipEvent(v vip.Event) {
	sev := journal.Warning
	switch v.Kind {
	case vip.EventConflict, vip.EventLinkDown, vip.EventLost:
		sev = journal.Error
	case vip.EventRestored, vip.EventLeftover, vip.EventDefended:
		sev = journal.Info
	}
	details := map[string]any{}
	if v.MAC != nil {
		details["mac"] = v.MAC.String()
	}
	e.m.event(sev, "vip", string(v.Kind), v.Text, details)
}
