package manager

import (
	"context"
	"errors"

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
	if file == "" {
		if file, err = f.m.saveAs(ctx, e, "by-hand", "asked for", "the command line"); err != nil {
			return control.Done{}, err
		}
		return control.Done{Message: "saved to " + file}, nil
	}
	if err := e.db.Save(ctx, file, false); err != nil {
		return control.Done{}, err
	}
	f.m.event(journal.Info, "database", "saved", "the database was saved to "+file, nil)
	return control.Done{Message: "saved to " + file}, nil
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
