package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/web"
)

// tendDrills is the Primary's part in what runs by itself: it begins a drill when one is due, and
// notes one that was cut off. next is when the next one is due; it is computed anew when the plan
// has changed.
func (e *engine) tendDrills(ctx context.Context, known *drillPlan, next *time.Time) {
	p := e.plan(ctx)
	if p != *known {
		*known, *next = p, nextDrill(p.Schedule, time.Now())
	}
	if !next.IsZero() && time.Now().After(*next) {
		due := *next
		*next = nextDrill(p.Schedule, time.Now())
		if time.Since(due) < time.Minute { // one that was missed for longer, say without a Primary, is left out
			if _, err := e.startDrill("schedule"); err != nil {
				e.m.event(journal.Warning, "pool", "drill_refused", "the scheduled drill was not begun: "+err.Error(), nil)
			}
		}
	}
	if e.drilling.Load() != nil {
		return
	}
	all, err := e.drills(ctx, 1)
	if err == nil && len(all) == 1 && all[0].Result == drillRunning && time.Since(all[0].At) > drillForgotten {
		r := all[0]
		ended := time.Now().UTC()
		r.Result, r.Ended = drillAborted, &ended
		r.Reasons = append(r.Reasons, web.Reason{Code: "cut_off", Text: "the Manager that led the drill ended, or lost the others: Primary stays where it is"})
		if err := e.putDrill(ctx, []byte(asJSON(r))); err == nil {
			e.m.event(journal.Warning, "pool", "drill_end", "the failover drill was cut off", map[string]any{"key": r.Key})
		}
	}
}

// drills are the newest reports.
func (e *engine) drills(ctx context.Context, limit int) ([]web.DrillReport, error) {
	all, err := e.db.Reports(ctx, database.ReportDrill, limit)
	if err != nil {
		return nil, err
	}
	out := make([]web.DrillReport, 0, len(all))
	for _, a := range all {
		r := web.DrillReport{Reasons: []web.Reason{}, Steps: []web.DrillStep{}}
		if err := json.Unmarshal([]byte(a.JSON), &r); err != nil {
			return nil, fmt.Errorf("drill %d cannot be read: %w", a.ID, err)
		}
		if d := e.drilling.Load(); d != nil { // this node knows more than what is stored
			d.mu.Lock()
			if d.r.Key == r.Key {
				r.Steps = append([]web.DrillStep{}, d.r.Steps...)
			}
			d.mu.Unlock()
		}
		out = append(out, r)
	}
	return out, nil
}

// Drills implements web.Drills.
func (f faces) Drills(ctx context.Context, limit int) (web.DrillView, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return web.DrillView{}, err
	}
	p := e.plan(ctx)
	v := web.DrillView{Schedule: p.Schedule, LimitMS: p.LimitMS}
	if next := nextDrill(p.Schedule, time.Now()); !next.IsZero() {
		v.Next = &next
	}
	v.Drills, err = e.drills(ctx, limit)
	v.Running = len(v.Drills) > 0 && v.Drills[0].Result == drillRunning
	return v, err
}

// RunDrill begins a drill on the Primary, from whichever Manager it is asked on.
func (f faces) RunDrill(ctx context.Context, by string) (string, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return "", err
	}
	if len(e.pool.Record().Members) == 1 {
		return "", refuse("not_in_pool", "form a pool first", "this Manager belongs to no pool")
	}
	if e.pool.State().Status == pool.Primary {
		return e.startDrill(by)
	}
	var key string
	err = e.callPrimary(ctx, methodDrill, drillCall{By: by}, &key)
	var no *transport.Refusal
	if errors.As(err, &no) {
		err = refuse(no.Code, "look at \"manager status\"", "%s", no.Text)
	}
	return key, err
}

// AwaitDrill returns the report of a drill once it has ended, and tells each of its steps.
func (f faces) AwaitDrill(ctx context.Context, key string, step func(control.Step) error) (any, error) {
	told := 0
	for {
		v, err := f.Drills(ctx, 10)
		if err != nil {
			return nil, err
		}
		for _, r := range v.Drills {
			if r.Key != key {
				continue
			}
			for ; told < len(r.Steps); told++ {
				s := r.Steps[told]
				if err := step(control.Step{AtMS: s.At.Sub(r.At).Milliseconds(), Code: "step", Text: s.Text}); err != nil {
					return nil, err
				}
			}
			if r.Result != drillRunning {
				return r, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Drill implements control.History.
func (f faces) Drill(ctx context.Context, step func(control.Step) error) (any, error) {
	key, err := f.RunDrill(ctx, "the command line")
	if err != nil {
		return nil, err
	}
	return f.AwaitDrill(ctx, key, step)
}

// SetDrill implements web.Drills and control.History; an empty schedule and a limit of 0 leave what is.
func (f faces) SetDrill(ctx context.Context, schedule string, limitMS int64) (control.Done, error) {
	e, err := f.primary(ctx)
	if err != nil {
		return control.Done{}, err
	}
	p := e.plan(ctx)
	if schedule != "" {
		p.Schedule = strings.Join(strings.Fields(strings.ToLower(schedule)), " ")
		if words := strings.Fields(schedule); len(words) == 3 { // names of zones have capitals
			p.Schedule = strings.ToLower(words[0]+" "+words[1]) + " " + words[2]
		}
		if _, err := parseSchedule(p.Schedule); err != nil {
			return control.Done{}, fieldError("schedule", "invalid", err.Error(), "write it like \"sun 03:00 Europe/Berlin\" or \"off\"")
		}
	}
	if limitMS != 0 {
		p.LimitMS = limitMS
	}
	if p.LimitMS < 10 || p.LimitMS > 60_000 {
		return control.Done{}, fieldError("limit_ms", "range", fmt.Sprintf("an interruption of %d ms cannot be the limit", p.LimitMS), "give 10 to 60000")
	}
	if _, err := e.proposer.propose(ctx, database.SettingPut{Key: drillSetting, Value: asJSON(p)}); err != nil {
		return control.Done{}, err
	}
	text := fmt.Sprintf("an interruption may last %d ms; no drill runs by itself", p.LimitMS)
	if next := nextDrill(p.Schedule, time.Now()); !next.IsZero() {
		text = fmt.Sprintf("an interruption may last %d ms; the next drill runs on %s", p.LimitMS, next.Format("Monday 2006-01-02 15:04 MST"))
	}
	f.m.event(journal.Info, "pool", "drill_schedule", "drills: "+text, nil)
	return control.Done{Message: text}, nil
}

// Drills, RunDrill and SetDrill implement web.Drills.
func (d desk) Drills(ctx context.Context, limit int) (web.DrillView, error) {
	v, err := d.faces().Drills(ctx, limit)
	return v, pageError(err)
}

// RunDrill implements web.Drills.
func (d desk) RunDrill(ctx context.Context, by string) (string, error) {
	key, err := d.faces().RunDrill(ctx, by)
	return key, plainly(pageError(err))
}

// SetDrill implements web.Drills.
func (d desk) SetDrill(ctx context.Context, schedule string, limitMS int64) (string, error) {
	return said(d.faces().SetDrill(ctx, schedule, limitMS))
}
