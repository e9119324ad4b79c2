package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // schedules name zones, and a small machine may have none

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/web"
)

// The results of a drill.
const (
	drillRunning = "running"
	drillPassed  = "passed"
	drillFailed  = "failed"
	drillAborted = "aborted"
)

const (
	drillSetting      = "drill"
	defaultDrillLimit = 1000 // ms of one interruption
	// drillForgotten is after which a drill that is still said to be running has been cut off.
	drillForgotten = 5 * time.Minute
)

// drillPlan is the replicated setting.
type drillPlan struct {
	Schedule string `json:"schedule"`
	LimitMS  int64  `json:"limit_ms"`
}

// DefaultDrillSettle is how long, in a drill, the pool may take to be Protected again, and a
// changeover to be checked.
const DefaultDrillSettle = 60 * time.Second

// methodDrill asks the Primary, on the pool port, for a drill; methodDrillBack asks it to hand over
// as part of one; methodDrillReport asks it to store what a drill has come to.
const (
	methodDrill       = "drill"
	methodDrillBack   = "drill_back"
	methodDrillReport = "drill_report"
)

// drillCall is the body of all three.
type drillCall struct {
	Pool   string          `json:"pool"`
	By     string          `json:"by,omitempty"`
	Report json.RawMessage `json:"report,omitempty"`
}

// drill is one under way on this node.
type drill struct {
	e  *engine
	mu sync.Mutex
	r  web.DrillReport
}

func (d *drill) step(format string, args ...any) {
	d.mu.Lock()
	d.r.Steps = append(d.r.Steps, web.DrillStep{At: time.Now().UTC(), Text: fmt.Sprintf(format, args...)})
	d.mu.Unlock()
}

// plan reads the setting from this node's own copy.
func (e *engine) plan(ctx context.Context) drillPlan {
	p := drillPlan{Schedule: "off", LimitMS: defaultDrillLimit}
	if text, err := e.db.Setting(ctx, drillSetting); err == nil {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			e.m.log.Warn("the schedule of drills cannot be read", "error", err)
		}
	}
	return p
}

// startDrill begins a drill on this node, which must be Primary of a Protected pool.
func (e *engine) startDrill(by string) (string, error) {
	st := e.pool.State()
	if st.Status != pool.Primary {
		return "", refuse("not_primary", "ask on the Primary", "this Manager is not Primary")
	}
	if st.Health != pool.Protected || len(st.Reasons) > 0 {
		var why []string
		for _, r := range st.Reasons {
			why = append(why, r.Text)
		}
		if len(why) == 0 {
			why = []string{"pool health is " + st.Health.String()}
		}
		return "", refuse("not_protected", "repair that first", "a drill needs a Protected pool: %s", strings.Join(why, "; "))
	}
	self, _ := st.Record.Member(st.Record.Self)
	now := time.Now().UTC()
	d := &drill{e: e, r: web.DrillReport{Key: fmt.Sprintf("%d-%d", st.Term, now.UnixMilli()), By: by, At: now, Result: drillRunning,
		LimitMS: e.plan(e.ctx).LimitMS, Reasons: []web.Reason{}, Steps: []web.DrillStep{}}}
	if !e.drilling.CompareAndSwap(nil, d) {
		return "", refuse("drilling", "wait until it has ended", "a drill is under way already")
	}
	e.m.event(journal.Info, "pool", "drill_begin", "a failover drill begins, asked for by "+by, map[string]any{"key": d.r.Key})
	if err := d.store(e.ctx); err != nil {
		e.drilling.Store(nil)
		return "", fmt.Errorf("the drill cannot be noted, so it is not begun: %w", err)
	}
	e.wg.Go(func() {
		defer e.drilling.Store(nil)
		for range 100 { // that it begins shall stand in the history of both Managers
			if len(e.events) == 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		d.run(e.ctx, self.Name)
	})
	return d.r.Key, nil
}

// errAborted ends a drill before its way back; its text is the reason.
type errAborted struct{ code, text string }

func (e *errAborted) Error() string { return e.text }

// run is the drill: out, back, and the verdict.
func (d *drill) run(ctx context.Context, self string) {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	err := d.both(ctx, self)
	if ctx.Err() != nil && d.e.ctx.Err() != nil {
		return // this Manager ends: the next Primary notes that the drill was cut off
	}
	d.mu.Lock()
	d.judge(err)
	ended := time.Now().UTC()
	d.r.Ended = &ended
	result := d.r.Result
	d.mu.Unlock()
	for end := time.Now().Add(d.e.m.cfg.DrillSettle); time.Now().Before(end) && d.e.ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if err = d.store(d.e.ctx); err == nil {
			break
		}
	}
	if err != nil {
		d.e.m.log.Warn("the report of the drill is not stored", "error", err)
	}
	sev := journal.Info
	if result != drillPassed {
		sev = journal.Warning
	}
	d.e.m.event(sev, "pool", "drill_end", "the failover drill has "+map[string]string{drillPassed: "passed", drillFailed: "failed", drillAborted: "been aborted"}[result],
		map[string]any{"key": d.r.Key, "reasons": d.r.Reasons})
}

// judge decides what the drill came to. Called under d.mu.
func (d *drill) judge(err error) {
	add := func(code, format string, args ...any) {
		d.r.Reasons = append(d.r.Reasons, web.Reason{Code: code, Text: fmt.Sprintf(format, args...)})
	}
	if err != nil {
		d.r.Result = drillAborted
		code := "failed"
		var a *errAborted
		if errors.As(err, &a) {
			code = a.code
		}
		add(code, "%v", err)
		return
	}
	d.r.Result = drillPassed
	for _, l := range []*web.DrillLeg{d.r.Out, d.r.Back} {
		if l.GapMS > float64(d.r.LimitMS) {
			add("too_long", "from %s to %s no write was possible for %.1f ms, more than %d ms", l.From, l.To, l.GapMS, d.r.LimitMS)
		}
		if c := l.Check; c != nil && c.Lost+c.StoredTwice > 0 {
			add("records_differ", "from %s to %s %d records were lost and %d stored twice", l.From, l.To, c.Lost, c.StoredTwice)
		}
	}
	if len(d.r.Reasons) > 0 {
		d.r.Result = drillFailed
	}
}

// both moves Primary out and back.
func (d *drill) both(ctx context.Context, self string) error {
	e := d.e
	term := e.pool.State().Term
	d.step("handing over from %s", self)
	if err := e.pool.HandOverFor(ctx, pool.CauseDrill, "failover drill, out", func(s string) { d.step("%s", s) }); err != nil {
		return &errAborted{"not_handed_over", err.Error()}
	}
	out, err := d.leg(ctx, term)
	d.mu.Lock()
	d.r.Out = out
	d.mu.Unlock()
	if err != nil {
		return err
	}
	d.step("%s is Primary in term %d; no write was possible for %.1f ms", out.To, out.Term, out.GapMS)
	if err := d.protected(ctx, func(st pool.State) bool { return st.Term == out.Term && st.Status != pool.Primary }); err != nil {
		return err
	}
	if err := d.store(ctx); err != nil {
		d.step("what the drill has come to so far is not stored: %v", err)
	}
	d.step("handing back to %s", self)
	if err := e.askDrillBack(ctx); err != nil {
		return &errAborted{"not_handed_back", err.Error()}
	}
	back, err := d.leg(ctx, out.Term)
	d.mu.Lock()
	d.r.Back = back
	d.mu.Unlock()
	if err != nil {
		return err
	}
	d.step("%s is Primary in term %d; no write was possible for %.1f ms", back.To, back.Term, back.GapMS)
	return d.protected(ctx, func(st pool.State) bool { return st.Status == pool.Primary })
}

// leg waits for the checked record of the changeover after a term.
func (d *drill) leg(ctx context.Context, term uint64) (*web.DrillLeg, error) {
	d.step("waiting for the check of the records")
	for end := time.Now().Add(d.e.m.cfg.DrillSettle); time.Now().Before(end); {
		all, err := d.e.records(ctx, awaitedRecords)
		for _, r := range all {
			if err != nil || r.Term <= term || r.Check == nil {
				continue
			}
			if r.Code != pool.CauseDrill {
				return nil, &errAborted{"other_changeover", fmt.Sprintf("Primary moved for another reason: %s", r.Cause)}
			}
			l := &web.DrillLeg{From: r.From, To: r.To, Term: r.Term, Check: r.Check}
			for _, ms := range []*float64{r.ElectedMS, r.AnnouncedMS, r.WriteMS} {
				if ms != nil {
					l.GapMS = max(l.GapMS, *ms)
				}
			}
			return l, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
	return nil, &errAborted{"no_record", fmt.Sprintf("the account of the changeover did not come within %v: look at the changeovers", d.e.m.cfg.DrillSettle)}
}

// protected waits until the pool is Protected and ok holds; that is what a drill goes on from.
func (d *drill) protected(ctx context.Context, ok func(pool.State) bool) error {
	var st pool.State
	for end := time.Now().Add(d.e.m.cfg.DrillSettle); time.Now().Before(end); {
		changed := d.e.pool.Changed()
		st = d.e.pool.State()
		if st.Health == pool.Protected && len(st.Reasons) == 0 && ok(st) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-time.After(200 * time.Millisecond):
		}
	}
	why := "pool health is " + st.Health.String()
	for _, r := range st.Reasons {
		why += "; " + r.Text
	}
	return &errAborted{"not_protected", fmt.Sprintf("the pool was not Protected within %v, so Primary stays where it is: %s", d.e.m.cfg.DrillSettle, why)}
}

// store keeps the report where both Managers have it.
func (d *drill) store(ctx context.Context) error {
	d.mu.Lock()
	text := asJSON(d.r)
	d.mu.Unlock()
	return d.e.storeDrill(ctx, []byte(text))
}

func (e *engine) storeDrill(ctx context.Context, text []byte) error {
	if e.duty.Load() != nil {
		return e.putDrill(ctx, text)
	}
	return e.callPrimary(ctx, methodDrillReport, drillCall{Report: text}, nil)
}

func (e *engine) putDrill(ctx context.Context, text []byte) error {
	var r web.DrillReport
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	_, err := e.proposer.propose(ctx, database.ReportPut{Kind: database.ReportDrill, Key: r.Key, AtMS: r.At.UnixMilli(), JSON: string(text)})
	return err
}

// callPrimary asks the other Manager, which must be Primary.
func (e *engine) callPrimary(ctx context.Context, method string, q drillCall, out any) error {
	st := e.pool.State()
	q.Pool = st.Record.Pool
	for _, o := range st.Members {
		if o.Status == pool.Primary && o.ID != st.Record.Self {
			return e.m.call(ctx, o.Address, o.Fingerprint, method, q, out)
		}
	}
	return errors.New("no Manager is Primary now")
}

func (e *engine) askDrillBack(ctx context.Context) error {
	return e.callPrimary(ctx, methodDrillBack, drillCall{}, nil)
}

// onDrill answers the other Manager's three questions.
func (m *Manager) onDrill(do func(context.Context, *engine, drillCall) (any, error)) func(context.Context, drillCall) (any, error) {
	return func(ctx context.Context, q drillCall) (any, error) {
		_, _, e := m.snapshot()
		if e == nil || e.pool == nil || e.pool.Record().Pool != q.Pool {
			return nil, transport.Refuse("unknown_pool", "this Manager is not in that pool")
		}
		v, err := do(ctx, e, q)
		var refused *control.Error
		if errors.As(err, &refused) {
			return nil, transport.Refuse(refused.Code, "%s", refused.Message)
		}
		return v, err
	}
}

// answerDrills registers the calls of drills.
func (m *Manager) answerDrills() {
	m.port.HandleCall(methodDrill, m.fromPool, decoded(m.onDrill(func(_ context.Context, e *engine, q drillCall) (any, error) { return e.startDrill(q.By) })))
	m.port.HandleCall(methodDrillBack, m.fromPool, decoded(m.onDrill(func(ctx context.Context, e *engine, _ drillCall) (any, error) {
		return struct{}{}, e.pool.HandOverFor(ctx, pool.CauseDrill, "failover drill, back", func(string) {})
	})))
	m.port.HandleCall(methodDrillReport, m.fromPool, decoded(m.onDrill(func(ctx context.Context, e *engine, q drillCall) (any, error) {
		return struct{}{}, e.putDrill(ctx, q.Report)
	})))
}
