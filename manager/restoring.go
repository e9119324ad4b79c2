package manager

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

// RestoreDatabase implements control.Database. A name without a folder is one of the saves' list.
//
// In a running pool it is done on the Master while that is Primary: the Backup puts its copy aside,
// the Master restores and starts its log anew, and forms the pool again with the same members, who
// get the restored data. Interrupted after the restoring, the forming goes on by itself.
func (f faces) RestoreDatabase(ctx context.Context, file string, yes bool) (control.Done, error) {
	m := f.m
	e, err := f.openDatabase(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if filepath.Base(file) == file {
		if file, err = m.savePath(file); err != nil {
			return control.Done{}, err
		}
	}
	inPool := len(e.pool.Record().Members) > 1
	if inPool {
		if err := e.mayRestore(ctx); err != nil {
			return control.Done{}, err
		}
	}
	saved, err := e.db.RestoreCheck(ctx, file)
	if err != nil {
		return control.Done{}, fmt.Errorf("file %s cannot be restored: %w", file, err)
	}
	if !yes {
		return control.Done{}, m.askRestore(file, saved, inPool)
	}
	keep, err := m.saveAs(ctx, e, "before-restore", "before restoring "+filepath.Base(file), "restore")
	if err != nil {
		return control.Done{}, fmt.Errorf("save the present data first: %w", err)
	}
	if inPool {
		if err := e.partForRestore(ctx); err != nil {
			return control.Done{}, err
		}
	}
	// The log before knows nothing of the restored data: a Backup filled from it would not have
	// them. So the log starts anew from the database at the restart.
	as := e.pool.Record().Phase
	if inPool {
		as = pool.PhaseForced
	}
	if err := m.askIsolate(as); err != nil {
		return control.Done{}, err
	}
	if err := e.db.Restore(ctx, file, false); err != nil {
		return control.Done{}, err // the fresh start of the log does no harm
	}
	m.event(journal.Warning, "database", "restored", "the database was restored from "+file+"; the earlier data are in "+keep, nil)
	if !inPool {
		m.requestRestart("the database was restored")
		return control.Done{Message: "restored from " + file + "; the earlier data are in " + keep}, nil
	}
	return e.reformAfterRestore(ctx, keep)
}

func (m *Manager) askRestore(file string, saved database.Saved, inPool bool) error {
	out := &control.Error{Code: "confirm", Message: "restoring replaces the present data", Fix: "confirm it, or give --yes", Confirm: []control.Question{
		{Code: "replace_data", Text: fmt.Sprintf("The present data are saved to %s and replaced by %s (%d bytes). A saved copy has no logins: people, API tokens and field units that are known here now go on; a field unit of the copy alone needs a new profile.", m.savesDir(), file, saved.Size), Word: "restore"}}}
	if inPool {
		out.Confirm = append(out.Confirm, control.Question{Code: "pool", Text: "It holds for the whole pool: the Backup saves its copy and gets the restored data. Clients are cut and the service stands still for some seconds; until the Backup is filled again a failover is not possible."})
	}
	return out
}

// mayRestore refuses to restore where it could not be brought to all members.
func (e *engine) mayRestore(ctx context.Context) error {
	if _, err := e.m.primaryEngine(ctx); err != nil {
		return err
	}
	st := e.pool.State()
	if st.Role != pool.Master {
		return refuse("not_master", "hand back to the Master, and restore there", "a database is restored on the Master while it is Primary")
	}
	for _, o := range st.Members {
		if o.ID != st.Record.Self && o.Status != pool.Online {
			return refuse("not_together", "bring it back first, or leave the pool and restore", "%s at %v does not answer: the restored data could not be brought to all members", o.Name, o.Address)
		}
	}
	if len(st.Record.Members) < 3 {
		return refuse("not_together", "fill the empty place first, or leave the pool and restore", "a place of the pool is empty")
	}
	return nil
}

// partForRestore puts the Backup on hold and out of the pool, so that it cannot take over with the
// data of before.
func (e *engine) partForRestore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	rec := e.pool.Record()
	backup, _ := rec.ByRole(pool.Backup)
	w := e.m.startWork("Restoring the database")
	w.step("hold", backup.Name+" saves its copy and puts it aside", false)
	err := e.m.call(ctx, backup.Address, backup.Fingerprint, methodHold, pool.Attempt{Pool: rec.Pool, Incarnation: rec.Incarnation, Why: "another database is restored"}, nil)
	if err != nil {
		w.finish("", err)
		return fmt.Errorf("%s did not put its copy aside: %w", backup.Name, err)
	}
	w.step("hold", backup.Name+" has put its copy aside", true)
	err = e.agree(ctx, backup.Name+" is taken out to be filled with restored data", func(a *agreement) error {
		a.Members = slices.DeleteFunc(slices.Clone(a.Members), func(o pool.Member) bool { return o.ID == backup.ID })
		a.Gone = pool.Bury(a.Gone, backup, pool.GoneReplaced)
		return nil
	})
	if err == nil {
		err = e.awaitReconciled(ctx, w.poolStep)
	}
	if err != nil {
		w.finish("", err)
		return fmt.Errorf("take %s out first: %w; put it back with \"manager redundancy replace --member backup\"", backup.Name, err)
	}
	return nil
}

// reformAfterRestore lets the Arbiter go and starts anew into forming the pool, as a survivor that
// keeps the virtual IP.
func (e *engine) reformAfterRestore(ctx context.Context, keep string) (control.Done, error) {
	m, rec := e.m, e.pool.Record()
	if third, ok := rec.ByRole(pool.Arbiter); ok {
		err := m.call(ctx, third.Address, third.Fingerprint, pool.MethodResign, pool.Attempt{Pool: rec.Pool, Incarnation: rec.Incarnation, Why: "another database was restored"}, nil)
		if err != nil {
			m.event(journal.Warning, "pool", "resign_failed", "the Arbiter did not let go of the pool before the restoring; it may have to be reset: "+err.Error(), nil)
		}
	}
	m.keepPeople(ctx) // the waiting page must stay open to those who may log in
	s := m.settingsNow()
	before := s
	_, err := m.store(s, settings.Progress{Forming: true, Attempt: pool.NewID(), Remaining: m.cfg.ConfigurationTimeout, Before: &before}, "the database was restored; the pool is formed anew with it")
	return control.Done{Message: "restored; the pool is formed anew with the restored data; the earlier data are in " + keep}, err
}
