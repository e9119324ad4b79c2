package arbiter

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
)

// The Arbiter's journal is small: some thousands of events on disk, few hundred in memory.
const (
	journalBytes = 1 << 20
	journalKeep  = 512
)

func openJournal(cfg Config, node string) *journal.Journal {
	return journal.Open(journal.Config{Dir: filepath.Join(cfg.Dir, "journal"), Node: node, MaxBytes: journalBytes, Keep: journalKeep, Log: cfg.Log})
}

func (a *Arbiter) event(sev journal.Severity, category, code, message string) {
	a.journal.Append(journal.Event{Severity: sev, Category: category, Code: code, Message: message})
}

// poolEvent keeps what the pool reports, as a witness.
func (a *Arbiter) poolEvent(p pool.Event) {
	a.cfg.Log.Info("event", "code", p.Code, "term", p.Term, "cause", p.Cause)
	if p.Code == "member_connected" {
		return // a change of status tells it
	}
	e := journal.Event{Severity: journal.Severity(p.Severity), Category: "pool", Code: p.Code, Message: p.Code, Cause: p.Cause, Term: p.Term, Details: p.Details}
	if p.Code == "pool_effective" {
		e.Message = "the pool is effective"
	}
	if p.From != p.To {
		e.Category, e.From, e.To = "status", p.From.String(), p.To.String()
	}
	a.journal.Append(e)
}

// caller names who sent a command.
func caller(ctx context.Context) string {
	if p, ok := control.PeerOf(ctx); ok {
		return p.String()
	}
	return "a local command"
}

func (a *Arbiter) unwatchLocked() {
	if a.watch != nil {
		a.watch()
		a.watch = nil
	}
}

// LogsRequest is what "arbiter logs" asks for.
type LogsRequest struct {
	Query  journal.Query `json:"query"`
	Follow bool          `json:"follow,omitempty"`
}

// logs sends this Arbiter's own events as steps, oldest first: the page asked for, then with Follow
// what comes.
func (a *Arbiter) logs(ctx context.Context, in json.RawMessage, step func(any) error) (any, error) {
	var q LogsRequest
	if err := json.Unmarshal(in, &q); err != nil {
		return nil, &control.Error{Code: "bad_request", Message: "the request cannot be read: " + err.Error(), Fix: "use commands of the same version as the running process"}
	}
	after := a.journal.Next() - 1
	p, err := a.journal.Page(q.Query)
	if err != nil {
		a.cfg.Log.Warn("read the journal", "error", err)
	}
	for i := len(p.Events) - 1; i >= 0; i-- {
		if err := step(p.Events[i]); err != nil {
			return nil, err
		}
	}
	if !q.Follow {
		return struct{}{}, nil
	}
	for e := range a.journal.Follow(ctx, after, q.Query.Filter) {
		if err := step(e); err != nil {
			return nil, err
		}
	}
	return struct{}{}, nil
}

// memberTick is how often the members' statuses are looked at; the silence that makes one
// Unreachable is noticed by looking alone.
const memberTick = 200 * time.Millisecond

// WatchMembers tells of every change of another member's status, as this node sees it, with what was
// heard from whom as evidence. It runs until ctx ends.
func WatchMembers(ctx context.Context, p *pool.Pool, tell func(journal.Event)) {
	was := map[pool.MemberID]pool.Status{}
	tick := time.NewTicker(memberTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		st := p.State()
		for _, m := range st.Members {
			before := was[m.ID] // Unknown at first
			if m.ID == st.Record.Self || m.Status == before {
				continue
			}
			was[m.ID] = m.Status
			tell(memberEvent(st, m, before))
		}
	}
}

func memberEvent(st pool.State, m pool.MemberState, before pool.Status) journal.Event {
	e := journal.Event{
		Severity: journal.Info, Category: "status", Code: "member_status", Term: st.Term, From: before.String(), To: m.Status.String(),
		Message: m.Name + " is " + spoken(m.Status) + ", seen from here", Details: Evidence(st),
	}
	e.Details["member"], e.Details["role"] = m.Name, m.Role.String()
	if m.Status == pool.Unreachable {
		e.Severity, e.Cause = journal.Warning, "it is silent"
		if m.Failure != "" {
			e.Cause = m.Failure
		}
	}
	return e
}

// spoken is the word for a status as people read it.
func spoken(s pool.Status) string {
	text := strings.ReplaceAll(s.String(), "_", " ")
	return strings.ToUpper(text[:1]) + text[1:]
}

// Evidence is what this node has heard of the others, and what they say that they heard: ms ago, by
// name; -1: never.
func Evidence(st pool.State) map[string]any {
	names := map[pool.MemberID]string{}
	for _, m := range st.Members {
		names[m.ID] = m.Name
	}
	heard, others := map[string]int64{}, map[string]map[string]int64{}
	for _, m := range st.Members {
		if m.ID == st.Record.Self {
			continue
		}
		heard[m.Name] = -1
		if m.Heard >= 0 {
			heard[m.Name] = m.Heard.Milliseconds()
		}
		for id, ago := range m.Hears {
			if others[m.Name] == nil {
				others[m.Name] = map[string]int64{}
			}
			latest := ago[0]
			if ago[1] >= 0 && (latest < 0 || ago[1] < latest) {
				latest = ago[1]
			}
			others[m.Name][names[id]] = latest
		}
	}
	return map[string]any{"heard_ms_ago": heard, "others_heard_ms_ago": others}
}
