package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/web"
)

// When the account of a changeover is closed: once the units are back or have had their time, and
// once more when those who come late have too.
const (
	noteAfter   = 500 * time.Millisecond // it is stored without a check: Primary may move again before
	checkAfter  = 5 * time.Second
	checkAgain  = 30 * time.Second
	gatherEvery = 5 * time.Second
	// awaitFor is how long a member that was away is waited for with what it saw.
	awaitFor = 7 * 24 * time.Hour
	// awaitedRecords are looked at for members that were away.
	awaitedRecords = 10
	// mostNamed bounds the units that a record names.
	mostNamed = 50
)

// back notes which units have come to this Primary.
type back struct {
	mu          sync.Mutex
	units       map[string]bool
	first, last string
}

// came counts a unit in and returns how many there are now; 0: it was counted already.
func (b *back) came(unit string) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.units[unit] {
		return 0
	}
	if b.units == nil {
		b.units, b.first = map[string]bool{}, unit
	}
	b.units[unit], b.last = true, unit
	return int64(len(b.units))
}

// account spreads the number of units, and keeps the account of the changeover: what the units
// numbered is compared with what is stored, and what each member saw is gathered.
func (e *engine) account(ctx context.Context, d *duty, r pool.Reign, base <-chan []database.Mark) {
	var marks []database.Mark
	select {
	case marks = <-base:
	case <-ctx.Done():
		return
	}
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	due := []time.Duration{checkAfter, checkAgain}
	if r.Changeover.Kind == "start" || r.Changeover.Kind == "" {
		due = nil
	}
	noted := due == nil
	began, gathered, tended := time.Now(), time.Now(), time.Now()
	var plan drillPlan
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !noted && time.Since(began) > noteAfter {
			noted = true
			e.noteChangeover(ctx, d)
		}
		if len(due) > 0 && time.Since(began) > due[0] {
			due = due[1:]
			e.closeAccount(ctx, d, marks)
		}
		if time.Since(gathered) > gatherEvery {
			gathered = time.Now()
			e.gatherEvidence(ctx)
		}
		if time.Since(tended) > time.Second {
			tended = time.Now()
			e.tendDrills(ctx, &plan, &next)
		}
		e.pool.SetExtra(map[string]any{"field_units": len(d.broker.Sessions())})
	}
}

// marks is how far each unit had come when this node became Primary.
func (e *engine) marks(ctx context.Context) []database.Mark {
	all, err := e.db.Marks(ctx)
	if err != nil && ctx.Err() == nil {
		e.m.log.Warn("the changeover cannot be checked", "error", err)
	}
	return all
}

// check compares what is stored around the changeover with what the units numbered.
func check(ctx context.Context, db *database.Store, marks []database.Mark, at time.Time) (web.ContinuityCheck, error) {
	c := web.ContinuityCheck{NotCheckable: []string{}, Findings: []string{}}
	from := at.Add(-web.BeforeSeconds * time.Second).UnixMilli()
	for _, m := range marks {
		u, err := db.Continuity(ctx, m, from, from)
		if err != nil {
			return c, err
		}
		c.Records += u.Records
		c.Before += u.Before
		c.After += u.After
		c.Lost += u.Lost
		c.StoredTwice += u.Twice
		if len(c.Findings) < mostNamed {
			c.Findings = append(c.Findings, u.Findings...)
		}
		if u.Numbered && u.After > 0 {
			c.Units++
			continue
		}
		c.NotCheckableUnits++
		if len(c.NotCheckable) < mostNamed {
			c.NotCheckable = append(c.NotCheckable, m.Unit)
		}
	}
	c.At = time.Now().UTC()
	return c, nil
}

// noteChangeover stores the record as far as it is known.
func (e *engine) noteChangeover(ctx context.Context, d *duty) {
	if st := e.pool.State(); st.Change != nil && st.Change.Term == d.term {
		e.putRecord(ctx, e.recordOf(*st.Change, d))
	}
}

// closeAccount checks, tells every member the result, and stores the record.
func (e *engine) closeAccount(ctx context.Context, d *duty, marks []database.Mark) {
	st := e.pool.State()
	if st.Change == nil || st.Change.Term != d.term {
		return
	}
	c, err := check(ctx, e.db, marks, st.Change.At)
	if err != nil {
		if ctx.Err() == nil {
			e.m.log.Warn("the changeover is not checked", "error", err)
		}
		return
	}
	e.note(d, func(o *pool.Changeover) {
		o.Lost, o.StoredTwice, o.Audited = c.Lost, c.StoredTwice, c.Units > 0 || c.Lost+c.StoredTwice > 0
	})
	rec := e.recordOf(*st.Change, d)
	rec.Check = &c
	old, ok := e.storedRecord(ctx, rec.Key)
	if ok { // its evidence may have grown meanwhile
		rec.Evidence, rec.Awaited = old.Evidence, old.Awaited
	}
	if c.Lost+c.StoredTwice > 0 && (old.Check == nil || c.Lost+c.StoredTwice > old.Check.Lost+old.Check.StoredTwice) {
		e.m.event(journal.Error, "pool", "records_differ", fmt.Sprintf("after the changeover of term %d %d records are missing and %d stored twice: %s",
			rec.Term, c.Lost, c.StoredTwice, strings.Join(c.Findings, "; ")), nil)
	}
	e.putRecord(ctx, rec)
}

// recordOf is the record of a changeover as far as it is known on the new Primary.
func (e *engine) recordOf(c pool.Changeover, d *duty) web.ChangeoverRecord {
	d.back.mu.Lock()
	first, last, back := d.back.first, d.back.last, int64(len(d.back.units))
	d.back.mu.Unlock()
	rec := web.ChangeoverRecord{
		Key:  fmt.Sprintf("%d-%d", c.Term, c.At.UnixMilli()),
		Kind: strings.ReplaceAll(c.Kind, "_", ""), Code: c.Code, Cause: c.Cause, At: c.At.UTC(), Term: c.Term, FromTerm: c.FromTerm, From: c.From, To: c.To,
		DetectedMS: known(c.DetectedMS), ElectedMS: known(c.ElectedMS), FencedMS: known(c.FencedMS), VIPMS: known(d.boundMS), AnnouncedMS: known(c.VIPMS),
		WriteMS: known(c.FirstWrite), FirstUnitMS: known(c.FirstUnit), AllUnitsMS: known(c.AllUnits),
		FirstUnit: first, LastUnit: last, UnitsBack: &back, Evidence: []web.Sighting{}, Awaited: []string{},
	}
	if d.expect > 0 {
		rec.UnitsBefore = &d.expect
	}
	if c.AllUnits < 0 {
		rec.LastUnit = ""
	}
	if d.lease == nil {
		rec.VIPMS, rec.AnnouncedMS = nil, nil
	}
	for _, s := range c.Evidence {
		rec.Evidence = append(rec.Evidence, sightingOf(s))
	}
	for _, m := range e.pool.Record().Members {
		if m.Name == c.From || m.Role == pool.Arbiter {
			rec.Awaited = append(rec.Awaited, m.Name)
		}
	}
	return rec
}

func sightingOf(s pool.Sighting) web.Sighting {
	return web.Sighting{
		Member: s.Member, Role: s.Role.String(), Primary: s.Primary, Term: s.Term, LastHeardMS: s.LastHeardMS, BrokenMS: s.BrokenMS, Broken: s.Broken,
		RefusedMS: s.RefusedMS, FarewellMS: s.FarewellMS, ReleasedMS: s.ReleasedMS, Released: s.Released, Verdict: s.Verdict,
		Self: s.Self, LastWriteMS: s.LastWriteMS, GaveUpMS: s.GaveUpMS, GaveUp: s.GaveUp,
	}
}

// putRecord stores a record in the history of both Managers.
func (e *engine) putRecord(ctx context.Context, rec web.ChangeoverRecord) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err := e.proposer.propose(ctx, database.ReportPut{Kind: database.ReportChangeover, Key: rec.Key, AtMS: rec.At.UnixMilli(), JSON: asJSON(rec)})
	if err != nil {
		e.m.log.Warn("the account of the changeover is not stored", "error", err)
	}
}

// records are the newest changeovers of the history.
func (e *engine) records(ctx context.Context, limit int) ([]web.ChangeoverRecord, error) {
	all, err := e.db.Reports(ctx, database.ReportChangeover, limit)
	if err != nil {
		return nil, err
	}
	out := make([]web.ChangeoverRecord, 0, len(all))
	for _, r := range all {
		rec := web.ChangeoverRecord{Evidence: []web.Sighting{}, Awaited: []string{}}
		if err := json.Unmarshal([]byte(r.JSON), &rec); err != nil {
			return nil, fmt.Errorf("changeover %d cannot be read: %w", r.ID, err)
		}
		rec.Kind = strings.ReplaceAll(rec.Kind, "_", "")
		rec.Key = r.Key
		if r.Key == "" { // stored by an earlier version
			rec.Key = fmt.Sprintf("id-%d", r.ID)
		}
		out = append(out, rec)
	}
	return out, nil
}

func (e *engine) storedRecord(ctx context.Context, key string) (web.ChangeoverRecord, bool) {
	all, err := e.records(ctx, awaitedRecords)
	if err != nil {
		return web.ChangeoverRecord{}, false
	}
	i := slices.IndexFunc(all, func(r web.ChangeoverRecord) bool { return r.Key == key })
	if i < 0 {
		return web.ChangeoverRecord{}, false
	}
	return all[i], true
}

// gatherEvidence asks the members whose account of a changeover is not in yet, such as an old
// Primary that is back, and adds what they saw. It changes the evidence of a record, nothing else.
func (e *engine) gatherEvidence(ctx context.Context) {
	all, err := e.records(ctx, awaitedRecords)
	if err != nil {
		return
	}
	for _, rec := range all {
		if len(rec.Awaited) == 0 || time.Since(rec.At) > awaitFor {
			continue
		}
		before := len(rec.Awaited)
		rec.Awaited = slices.DeleteFunc(rec.Awaited, func(name string) bool {
			saw, err := e.askSightings(ctx, name, rec.FromTerm)
			if err != nil {
				return false
			}
			for _, s := range saw {
				s.Member = name
				w := sightingOf(s)
				if !slices.ContainsFunc(rec.Evidence, func(o web.Sighting) bool { return o.Member == w.Member && o.Self == w.Self }) {
					rec.Evidence = append(rec.Evidence, w)
				}
			}
			return true
		})
		if len(rec.Awaited) < before && ctx.Err() == nil {
			e.putRecord(ctx, rec)
		}
	}
}

var errAway = errors.New("not reachable now")

// askSightings asks one member of the pool, or this one itself.
func (e *engine) askSightings(ctx context.Context, name string, term uint64) (saw []pool.Sighting, err error) {
	st := e.pool.State()
	for _, o := range st.Members {
		switch {
		case o.Name != name:
		case o.ID == st.Record.Self:
			return e.pool.Sightings(term), nil
		case o.Status == pool.Unreachable || o.Status == pool.Unknown:
			return nil, errAway
		default:
			err := e.m.call(ctx, o.Address, o.Fingerprint, pool.MethodSightings, pool.SightingsRequest{Pool: st.Record.Pool, Term: term}, &saw)
			return saw, err
		}
	}
	return nil, nil // it is no member any more: nobody to wait for
}

// onSightings answers the Primary's question.
func (m *Manager) onSightings(_ context.Context, q pool.SightingsRequest) (any, error) {
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Pool != q.Pool {
		return nil, transport.Refuse("unknown_pool", "this Manager is not in that pool")
	}
	return e.pool.Sightings(q.Term), nil
}

// Changeovers implements web.History and control.History.
func (f faces) Changeovers(ctx context.Context, limit int) ([]web.ChangeoverRecord, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	return e.records(ctx, limit)
}

// Changeovers implements web.History.
func (d desk) Changeovers(ctx context.Context, limit int) ([]web.ChangeoverRecord, error) {
	all, err := d.faces().Changeovers(ctx, limit)
	return all, pageError(err)
}

// History implements control.History.
func (f faces) History(ctx context.Context, limit int) (any, error) {
	all, err := f.Changeovers(ctx, limit)
	return map[string]any{"changeovers": all}, err
}
