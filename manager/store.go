package manager

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
)

// openDatabase returns the engine whose database can be read.
func (f faces) openDatabase(ctx context.Context) (*engine, error) {
	e, err := f.m.engineNow(ctx)
	if err != nil {
		return nil, err
	}
	if e.db == nil {
		return nil, refuse("on_hold", "wait until the pool is formed, or cancel", "this Backup is on hold and its database is closed")
	}
	return e, nil
}

// SaveDatabase implements control.Database.
func (f faces) SaveDatabase(ctx context.Context, file string) (control.Done, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if err := e.db.Save(ctx, file, false); err != nil {
		return control.Done{}, err
	}
	f.m.event(journal.Info, "database", "saved", "the database was saved to "+file, nil)
	return control.Done{Message: "saved to " + file}, nil
}

// RestoreDatabase implements control.Database: in a pool of one only, because a pool's members
// must get it through the log.
func (f faces) RestoreDatabase(ctx context.Context, file string, yes bool) (control.Done, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if len(e.pool.Record().Members) > 1 {
		return control.Done{}, refuse("in_pool", "leave the pool, restore, and form it again: the Backup then gets the restored data", "a database is restored on a Standalone Manager only")
	}
	saved, err := e.db.RestoreCheck(ctx, file)
	if err != nil {
		return control.Done{}, fmt.Errorf("file %s cannot be restored: %w", file, err)
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "restoring replaces the present data", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "replace_data", Text: fmt.Sprintf("The present data are saved to %s and replaced by %s (%d bytes). A saved copy has no logins: people, API tokens and field units that are known here now go on; a field unit of the copy alone needs a new profile.", f.m.savesDir(), file, saved.Size), Word: "restore"}}}
	}
	if err := os.MkdirAll(f.m.savesDir(), 0o700); err != nil {
		return control.Done{}, err
	}
	keep := filepath.Join(f.m.savesDir(), "before-restore-"+time.Now().UTC().Format("20060102T150405.000Z")+".db")
	if err := e.db.Save(ctx, keep, false); err != nil {
		return control.Done{}, fmt.Errorf("save the present data first: %w", err)
	}
	// The log before knows nothing of the restored data: a Backup filled from it would not have
	// them. So the log starts anew from the database at the restart.
	if err := f.m.askIsolate(e.pool.Record().Phase); err != nil {
		return control.Done{}, err
	}
	if err := e.db.Restore(ctx, file, false); err != nil {
		return control.Done{}, err // the fresh start of the log does no harm
	}
	f.m.requestRestart("the database was restored")
	f.m.event(journal.Warning, "database", "restored", "the database was restored from "+file+"; the earlier data are in "+keep, nil)
	return control.Done{Message: "restored from " + file + "; the earlier data are in " + keep}, nil
}

// Query implements control.Database.
func (f faces) Query(ctx context.Context, sql string, columns func([]string) error, row func([]any) error) error {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return err
	}
	rows, err := e.db.Query(ctx, sql, 0)
	if err != nil {
		return err
	}
	err = columns(rows.Columns)
	for err == nil && rows.Next() {
		err = row(rows.Values())
	}
	return errors.Join(err, rows.Err(), rows.Close())
}

// isolate makes this node's copy the only one, with database and pool closed.
func (m *Manager) isolate(ctx context.Context, rec pool.Record) error {
	db, err := database.Open(ctx, database.Config{Dir: m.databaseDir(), Log: m.log})
	if err != nil {
		return err
	}
	err = pool.Isolate(ctx, m.poolDir(), rec, machine{db: db}, m.log.Warn)
	return errors.Join(err, db.Close())
}
