package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
)

// Leave takes this node out of its pool.
func (f faces) Leave(ctx context.Context, yes bool) (control.Done, error) {
	m := f.m
	e, err := m.engineNow(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if e.pool == nil {
		return control.Done{}, refuse("not_in_pool", "cancel instead: \"manager redundancy cancel\"", "this Manager is on hold and belongs to no pool")
	}
	st := e.pool.State()
	if len(st.Record.Members) == 1 && st.Record.Phase != pool.PhaseForced {
		return control.Done{}, refuse("not_in_pool", "nothing to do", "this Manager belongs to no pool")
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "leaving ends redundancy", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "leave", Text: "Redundancy ends: the virtual IP is given up, this Manager keeps its data as Standalone."}}}
	}
	if st.Status == pool.Primary && len(st.Record.Members) > 1 {
		return m.dissolve(ctx, e, st)
	}
	for _, o := range st.Members {
		if o.Status != pool.Primary || o.ID == st.Record.Self {
			continue
		}
		// A pool of two is none: the Primary ends it for all, in order.
		var d control.Done
		if err := m.call(ctx, o.Address, o.Fingerprint, methodLeave, pool.Attempt{Pool: st.Record.Pool, Why: m.name() + " leaves"}, &d); err != nil {
			return control.Done{}, fmt.Errorf("ask %s, which is Primary, to end the pool: %w", o.Name, err)
		}
		return control.Done{Message: "the pool is ended for all: " + o.Name + " has " + d.Message}, nil
	}
	return control.Done{Message: "left; Standalone with this node's copy of the data"}, m.becomeStandalone(e, "left", "left without the others")
}

// methodLeave asks the Primary to end the pool.
const methodLeave = "leave"

func (m *Manager) onLeave(ctx context.Context, t pool.Attempt) (any, error) {
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Pool != t.Pool {
		return nil, transport.Refuse("unknown_pool", "this Manager is not in that pool")
	}
	st := e.pool.State()
	if st.Status != pool.Primary {
		return nil, transport.Refuse("not_primary", "this Manager is not Primary any more")
	}
	return m.dissolve(ctx, e, st)
}

// dissolve ends the pool as its Primary. Who is away learns it when it comes back, from any of
// those who were there.
func (m *Manager) dissolve(ctx context.Context, e *engine, st pool.State) (control.Done, error) {
	if err := e.pool.Dissolve(ctx); err != nil {
		return control.Done{}, err
	}
	untold := ""
	for _, o := range st.Record.Members {
		if o.ID == st.Record.Self {
			continue
		}
		err := m.call(ctx, o.Address, o.Fingerprint, pool.MethodDismiss, pool.Attempt{Pool: st.Record.Pool, Why: m.name() + " left"}, nil)
		if err != nil {
			m.event(journal.Warning, "pool", "dismiss_failed", o.Name+" could not be told: "+err.Error(), nil)
			untold += fmt.Sprintf("; %s at %v could not be told and learns it when it is back", o.Name, o.Address)
		}
	}
	d, err := m.store(standaloneOf(m.settingsNow()), settings.Progress{}, "the pool was left")
	d.Message = "left; Standalone with all data" + untold
	return d, err
}

// expelled acts on being refused for good by a former fellow member. It may be called before the
// pool is set here.
func (e *engine) expelled(why transport.Refusal) {
	select {
	case <-e.ready:
	case <-e.ctx.Done():
		return
	}
	st := e.pool.State()
	if st.Status == pool.Primary || st.Record.Phase != pool.PhaseEffective {
		return
	}
	switch why.Code {
	case pool.GoneLeft:
		for _, o := range st.Members {
			if o.Status == pool.Primary && o.ID != st.Record.Self {
				return // a pool that has a Primary was not left
			}
		}
		if err := e.m.becomeStandalone(e, "dismissed", why.Text); err != nil {
			e.m.log.Error("cannot leave a pool that was left", "error", err)
		}
	case pool.GoneForced:
		var fork pool.Position
		if err := json.Unmarshal([]byte(why.Data), &fork); err != nil {
			e.m.log.Error("cannot read where the survivor went on", "error", err)
			return
		}
		if err := e.exportBeyond(fork); err != nil {
			e.m.event(journal.Error, "database", "export_failed", "what this Manager has beyond the pool could not be exported: "+err.Error(), nil)
		}
	}
}

func standaloneOf(s settings.Settings) settings.Settings {
	s.Mode, s.Active, s.Deactivated = settings.Standalone, false, false
	return s
}

// becomeStandalone keeps this node's copy of the data as a pool of one. The next start of the
// engine does it, with the store closed.
func (m *Manager) becomeStandalone(e *engine, code, why string) error {
	as := pool.PhaseSingle
	if code == "left" {
		as = phaseApart
	}
	if err := m.askIsolate(as); err != nil {
		return err
	}
	_, err := m.store(standaloneOf(m.settingsNow()), settings.Progress{FallBack: &settings.FallBack{Code: code, Text: why, TimeMS: time.Now().UnixMilli()}}, why)
	return err
}

// askIsolate makes the next engine go on alone with what this node has, in that phase.
func (m *Manager) askIsolate(as pool.Phase) error {
	return os.WriteFile(filepath.Join(m.cfg.Dir, isolateFile), []byte(as), 0o600)
}

// phaseApart, in the isolateFile alone, is PhaseSingle of a member that left while the others
// may go on.
const phaseApart pool.Phase = "apart"

// isolateFile says, until it is done, that this node goes on alone with what it has.
const isolateFile = "isolate"

// Recover makes a lone survivor go on, with the virtual IP.
func (f faces) Recover(ctx context.Context, yes bool) (control.Done, error) {
	m := f.m
	e, err := m.engineNow(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if e.pool == nil || e.pool.Record().Phase != pool.PhaseEffective {
		return control.Done{}, refuse("not_in_pool", "nothing to recover", "this Manager belongs to no running pool")
	}
	st := e.pool.State()
	for _, o := range st.Members {
		if o.Role != pool.Arbiter && (o.Status == pool.Primary || o.ID != st.Record.Self && o.Status == pool.Online) {
			return control.Done{}, refuse("not_alone", "use \"manager redundancy handover\" or repair the pool", "%s is %v: this Manager is not a lone survivor", o.Name, o.Status)
		}
	}
	ahead, known := e.pool.Standing()
	loss := "How many acknowledged records could be missing here is not known, because the Arbiter does not answer."
	if known {
		loss = fmt.Sprintf("At most %d log entries (each up to %d records) that were acknowledged could be missing here.", ahead, groupRecords)
	}
	owner, found, err := m.probeVIP(ctx, e)
	switch {
	case err != nil && e.keeper != nil:
		return control.Done{}, refuse("vip_unknown", "repair that first: nobody else may hold the virtual IP", "whether the virtual IP is silent could not be asked: %v", err)
	case found:
		return control.Done{}, refuse("vip_held", "switch that host off, then try again", "the virtual IP is answered by %s", owner)
	}
	third, witness := pool.MemberState{}, false
	for _, o := range st.Members {
		if o.Role == pool.Arbiter {
			third, witness = o, o.Status == pool.Online
		}
	}
	if !yes {
		ask := []control.Question{{Code: "loss", Text: loss + " What the other Manager has beyond is exported there when it returns; it is refused until it has been reset."}}
		if witness {
			ask = append(ask, control.Question{Code: "alone", Text: third.Name + " resigns from the old pool for good, so that the other Manager can never be Primary with it.", Word: "alone"})
		} else {
			ask = append(ask, control.Question{Code: "other_off", Text: "The Arbiter cannot vouch for it: the other Manager is switched off and stays off until it has been wiped or has joined anew.", Word: "off"})
		}
		return control.Done{}, &control.Error{Code: "confirm", Message: "going on alone may lose records", Fix: "confirm it, or give --yes", Confirm: ask}
	}
	if _, err := m.saveAs(ctx, e, "before-recover", "before going on alone", "recover"); err != nil {
		return control.Done{}, fmt.Errorf("save the database first: %w", err)
	}
	if witness { // its resignation is what keeps the other Manager from coming back as Primary
		err := m.call(ctx, third.Address, third.Fingerprint, pool.MethodResign, pool.Attempt{Pool: st.Record.Pool, Incarnation: st.Record.Incarnation, Why: m.name() + " goes on alone"}, nil)
		if err != nil {
			m.event(journal.Warning, "pool", "resign_failed", "the Arbiter did not resign from the old pool: "+err.Error(), nil)
			return control.Done{}, refuse("resign_failed", "try again; if it stays away, you are asked to state that the other Manager is off", "%s did not resign from the old pool: %v", third.Name, err)
		}
	}
	if err := m.askIsolate(pool.PhaseForced); err != nil {
		return control.Done{}, err
	}
	// The forming may have ended so shortly before that it is not noted yet.
	if err := settings.SaveProgress(m.cfg.Dir, settings.Progress{}); err != nil {
		return control.Done{}, err
	}
	m.mu.Lock()
	m.progress = settings.Progress{}
	m.mu.Unlock()
	m.event(journal.Warning, "pool", "forced", "this Manager goes on alone. "+loss, nil)
	m.requestRestart("going on alone")
	return control.Done{Message: "going on alone with the virtual IP. " + loss + " Form the pool anew as soon as the other machines are back."}, nil
}

// isolateIfAsked finishes what becomeStandalone or Recover began.
func (m *Manager) isolateIfAsked(ctx context.Context) error {
	path := filepath.Join(m.cfg.Dir, isolateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	rec, err := pool.ReadRecord(m.poolDir())
	if err != nil {
		return err
	}
	why := map[pool.Phase]string{pool.PhaseForced: pool.GoneForced, phaseApart: pool.GoneApart}[pool.Phase(b)]
	if why == "" {
		why = pool.GoneLeft
	}
	for _, o := range rec.Members {
		if o.ID != rec.Self && rec.Phase == pool.PhaseEffective {
			rec.Gone = pool.Bury(rec.Gone, o, why)
		}
	}
	if string(b) == string(pool.PhaseForced) {
		rec.Phase = pool.PhaseForced
		s, _, _ := m.snapshot()
		for i := range rec.Members { // a forming that was given up has made it nobody's role
			if rec.Members[i].ID == rec.Self && rec.Members[i].Role == pool.Standalone {
				rec.Members[i].Role = map[settings.Mode]pool.Role{settings.Master: pool.Master, settings.Backup: pool.Backup}[s.Mode]
			}
		}
	} else {
		rec.Phase, rec.VIP = pool.PhaseSingle, ""
		for i := range rec.Members {
			if rec.Members[i].ID == rec.Self {
				rec.Members[i].Role = pool.Standalone
			}
		}
	}
	if err := m.isolate(ctx, rec); err != nil {
		return err
	}
	return os.Remove(path)
}
