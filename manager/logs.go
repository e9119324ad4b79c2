package manager

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/web"
)

// logFilter turns the pages' filter into the journal's.
func logFilter(f web.LogFilter) journal.Filter {
	out := journal.Filter{Node: f.Node, AtLeast: journal.Severity(f.Severity), Categories: f.Categories, Code: f.Code, Text: f.Text}
	if !f.Since.IsZero() {
		out.SinceMS = f.Since.UnixMilli()
	}
	if !f.Until.IsZero() {
		out.UntilMS = f.Until.UnixMilli()
	}
	return out
}

func webEvent(e journal.Event) web.LogEvent {
	return web.LogEvent{
		ID: e.ID, Time: web.LogTime(e.TimeMS), TimeMS: e.TimeMS, Node: e.Node, Severity: string(e.Severity), Category: e.Category, Code: e.Code,
		Message: e.Message, Cause: e.Cause, From: e.From, To: e.To, Term: e.Term, Details: e.Details,
	}
}

func webEvents(list []journal.Event) []web.LogEvent {
	out := make([]web.LogEvent, len(list))
	for i, e := range list {
		out[i] = webEvent(e)
	}
	return out
}

func webMembers(sources []logSource) []web.LogMember {
	out := make([]web.LogMember, len(sources))
	for i, s := range sources {
		out[i] = web.LogMember{Name: s.member.Name, Role: s.member.Role.String(), Complete: s.complete, Problem: s.failure}
		if s.untilMS != 0 {
			out[i].Until = web.LogTime(s.untilMS)
		}
		if !s.self && s.complete {
			out[i].ClockOffsetMS = ref(s.member.ClockOff.Milliseconds())
		}
	}
	return out
}

// Logs implements web.Journals.
func (d desk) Logs(ctx context.Context, q web.LogQuery) (web.LogPage, error) {
	p, sources := d.m.logs.page(ctx, journal.Query{Filter: logFilter(q.LogFilter), Before: journal.Position(q.Before), Limit: q.Limit})
	return web.LogPage{Events: webEvents(p.Events), Members: webMembers(sources), Next: web.LogPosition(p.Next)}, ctx.Err()
}

// FollowLogs implements web.Journals.
func (d desk) FollowLogs(ctx context.Context, f web.LogFilter, each func(web.LogEvent) error) error {
	s := d.m.logs.subscribe(ctx)
	defer s.close()
	return s.run(ctx, logFilter(f), func(e journal.Event) error { return each(webEvent(e)) })
}

// OwnLogs implements web.Journals.
func (d desk) OwnLogs(n int) []web.LogEvent {
	list := d.m.journal.Recent(n, journal.Filter{})
	slices.Reverse(list)
	return webEvents(list)
}

// mostLogs bounds what one command prints before it follows.
const mostLogs = 100000

// Logs implements control.Logs: oldest first.
func (f faces) Logs(ctx context.Context, q control.LogQuery, each func(control.LogStep) error) error {
	filter, err := web.ParseLogFilter(func(key string) string { return q.Filter[key] }, time.Now())
	if err != nil {
		return refuse("invalid", "correct it", "%v", err)
	}
	s := f.m.logs.subscribe(ctx)
	defer s.close()
	want := min(max(q.Limit, 1), mostLogs)
	jq := journal.Query{Filter: logFilter(filter)}
	var all []journal.Event
	for len(all) < want {
		jq.Limit = want - len(all)
		p, sources := f.m.logs.page(ctx, jq)
		if jq.Before == (journal.Position{}) {
			for _, m := range webMembers(sources) {
				if !m.Complete {
					if err := each(control.LogStep{Note: m.Note()}); err != nil {
						return err
					}
				}
			}
		}
		all = append(all, p.Events...)
		if jq.Before = p.Next; p.Next == (journal.Position{}) || ctx.Err() != nil {
			break
		}
	}
	told := map[string]bool{}
	step := func(e journal.Event) error {
		raw, err := json.Marshal(webEvent(e))
		if err != nil {
			return err
		}
		return each(control.LogStep{Event: raw})
	}
	for _, e := range slices.Backward(all) {
		told[e.ID] = true
		if err := step(e); err != nil {
			return err
		}
	}
	if !q.Follow {
		return nil
	}
	err = s.run(ctx, jq.Filter, func(e journal.Event) error {
		if told[e.ID] {
			return nil
		}
		return step(e)
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// OfflineLogs returns the newest events that the journal in a data folder has, oldest first, for a
// Manager whose process does not run. get gives the keys of the filter.
func OfflineLogs(dir string, get func(key string) string, limit int) ([]web.LogEvent, error) {
	f, err := web.ParseLogFilter(get, time.Now())
	if err != nil {
		return nil, err
	}
	q := journal.Query{Filter: logFilter(f)}
	var all []journal.Event
	for len(all) < limit {
		q.Limit = limit - len(all)
		p, err := journal.ReadFiles(filepath.Join(dir, journalFolder), q)
		all = append(all, p.Events...)
		if q.Before = p.Next; err != nil || p.Next == (journal.Position{}) {
			slices.Reverse(all)
			return webEvents(all), err
		}
	}
	slices.Reverse(all)
	return webEvents(all), nil
}
