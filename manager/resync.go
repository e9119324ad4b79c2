package manager

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
)

// methodHold asks the other Manager to save its copy, put it aside and wait to be filled anew.
const methodHold = "hold"

// Resync throws the other Manager's copy away, after it was saved there, and fills it anew: the
// cure when the databases differ.
func (f faces) Resync(ctx context.Context, yes bool, step func(control.Step) error) (control.Done, error) {
	m := f.m
	e, err := m.primaryEngine(ctx)
	if err != nil {
		return control.Done{}, err
	}
	rec := e.pool.Record()
	i := slices.IndexFunc(rec.Members, func(o pool.Member) bool { return o.ID != rec.Self && o.Role != pool.Arbiter })
	if i < 0 {
		return control.Done{}, refuse("manager_missing", "put one in its place with \"manager redundancy replace\"", "this pool has no second Manager")
	}
	other := rec.Members[i]
	if err := e.quorumWithout(other); err != nil {
		return control.Done{}, err
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "the other Manager's copy is thrown away", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "resync", Text: fmt.Sprintf("The copy of the data on %s is saved there, then thrown away and made anew from this Manager's. Until that is done a failover is not possible.", other.Name), Word: "resync"}}}
	}
	w := m.startWork("Re-synchronising " + other.Name)
	e.wg.Go(func() {
		w.step("hold", other.Name+" saves its copy and puts it aside", false)
		if err := m.call(e.ctx, other.Address, other.Fingerprint, methodHold, pool.Attempt{Pool: rec.Pool, Incarnation: rec.Incarnation, Why: "re-synchronised by force"}, nil); err != nil {
			w.finish("", fmt.Errorf("%s did not put its copy aside: %w", other.Name, err))
			return
		}
		w.step("hold", other.Name+" has saved its copy and put it aside", true)
		e.replace(e.ctx, w, other, other)
	})
	return w.follow(ctx, step)
}

// onHold saves this Manager's copy and waits to be filled anew, as the Primary asks.
func (m *Manager) onHold(ctx context.Context, t pool.Attempt) (any, error) {
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Pool != t.Pool || e.pool.Record().Incarnation != t.Incarnation {
		return nil, transport.Refuse("unknown_pool", "this Manager does not belong to that pool")
	}
	if e.pool.State().Status == pool.Primary {
		return nil, transport.Refuse("primary", "this Manager is Primary and keeps its data")
	}
	if _, err := m.saveAs(ctx, e, "before-resync", "before the re-synchronisation", "the Primary"); err != nil {
		return nil, fmt.Errorf("save the copy first: %w", err)
	}
	m.keepPeople(ctx)
	return struct{}{}, m.holdAgain(t.Why)
}

// holdFile says, until it is done, that this node's copy of the pool's data is put aside.
const holdFile = "hold"

// holdAgain makes this member of a running pool a Backup that waits to be filled anew. Should that
// not happen in time, it becomes Standalone with the copy that it has now.
func (m *Manager) holdAgain(why string) error {
	if err := os.RemoveAll(m.asideDir()); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.cfg.Dir, holdFile), nil, 0o600); err != nil {
		return err
	}
	s, _, _ := m.snapshot()
	before := standaloneOf(s)
	s.Mode, s.Active, s.Deactivated = settings.Backup, false, false
	_, err := m.store(s, settings.Progress{Forming: true, Attempt: pool.NewID(), Remaining: m.cfg.ConfigurationTimeout, Before: &before}, why)
	return err
}

// settleHold finishes what holdAgain began: pool and database stand aside.
func (m *Manager) settleHold(parts []string) error {
	mark := filepath.Join(m.cfg.Dir, holdFile)
	if !exists(mark) {
		return nil
	}
	if err := os.MkdirAll(m.asideDir(), 0o700); err != nil {
		return err
	}
	for _, p := range parts {
		from, to := filepath.Join(m.cfg.Dir, p), filepath.Join(m.asideDir(), p)
		if exists(to) || !exists(from) {
			continue
		}
		if err := os.Rename(from, to); err != nil {
			return fmt.Errorf("put this node's copy aside: %w", err)
		}
	}
	return os.Remove(mark)
}
