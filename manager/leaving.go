package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
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
				how := "run \"manager redundancy leave\" there"
				if o.Role == pool.Arbiter {
					how = "stop it and run \"arbiter reset\" there"
				}
				untold += fmt.Sprintf("; %s at %v could not be told: once it is back, %s", o.Name, o.Address, how)
			}
		}
		d, err := m.store(standaloneOf(e.settings), settings.Progress{}, "the pool was left")
		d.Message = "left; Standalone with all data" + untold
		return d, err
	}
	for _, o := range st.Members {
		if o.Status == pool.Primary && o.ID != st.Record.Self {
			return control.Done{}, refuse("not_primary", "leave on "+o.Name+", which takes the others out in order", "%s at %v is Primary", o.Name, o.Address)
		}
	}
	return control.Done{Message: "left; Standalone with this node's copy of the data"}, m.becomeStandalone(e, "left", "left without the others")
}

func standaloneOf(s settings.Settings) settings.Settings {
	s.Mode, s.Active, s.Deactivated = settings.Standalone, false, false
	return s
}

// becomeStandalone keeps this node's copy of the data as a pool of one. The next start of the
// engine does it, with the store closed.
func (m *Manager) becomeStandalone(e *engine, code, why string) error {
	if err := m.askIsolate(pool.PhaseSingle); err != nil {
		return err
	}
	_, err := m.store(standaloneOf(e.settings), settings.Progress{FallBack: &settings.FallBack{Code: code, Text: why, TimeMS: time.Now().UnixMilli()}}, why)
	return err
}

// askIsolate makes the next engine go on alone with what this node has, in that phase.
func (m *Manager) askIsolate(as pool.Phase) error {
	return os.WriteFile(filepath.Join(m.cfg.Dir, isolateFile), []byte(as), 0o600)
}

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
	if owner, found, err := m.probeVIP(ctx, e); err == nil && found {
		return control.Done{}, refuse("vip_held", "switch that host off, then try again", "the virtual IP is answered by %s", owner)
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "going on alone may lose records", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "loss", Text: loss},
			{Code: "other_off", Text: "The other Manager is switched off and stays off until it has been wiped or has joined anew.", Word: "off"},
		}}
	}
	for _, o := range st.Record.Members {
		if o.Role != pool.Arbiter {
			continue
		}
		err := m.call(ctx, o.Address, o.Fingerprint, pool.MethodResign, pool.Attempt{Pool: st.Record.Pool, Incarnation: st.Record.Incarnation, Why: m.name() + " goes on alone"}, nil)
		if err != nil {
			m.event(journal.Warning, "pool", "resign_failed", "the Arbiter did not resign from the old pool: "+err.Error(), nil)
		}
	}
	if err := m.askIsolate(pool.PhaseForced); err != nil {
		return control.Done{}, err
	}
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
