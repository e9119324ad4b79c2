package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

func (a *applier) unitAdd(ctx context.Context, proposed int64, b UnitAdd) (Result, error) {
	u, known, err := a.unit(ctx, b.Name)
	if err != nil {
		return Result{}, err
	}
	if known && !u.removed {
		var has bool
		if err := a.conn.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM secret_unit WHERE unit = ?)", u.id).Scan(&has); err != nil {
			return Result{}, fmt.Errorf("read secret of unit %q: %w", b.Name, err)
		}
		if has {
			return Result{Err: ErrUnitExists}, nil
		}
		return Result{}, a.setSecret(ctx, u.id, b.Secret[:]) // it came from a saved copy
	}
	if known { // it comes back: same id, so that its history is its own again
		if err := a.setRemoved(ctx, b.Name, 0); err != nil {
			return Result{}, err
		}
	} else {
		res, err := a.conn.ExecContext(ctx, "INSERT INTO unit_row (name, created_ms, removed_ms) VALUES (?, ?, 0)", b.Name, proposed)
		if err != nil {
			return Result{}, fmt.Errorf("add unit %q: %w", b.Name, err)
		}
		if u.id, err = res.LastInsertId(); err != nil {
			return Result{}, err
		}
		a.count(rowUnit(a.row(), u.id, b.Name, proposed, 0))
	}
	a.units[b.Name] = unitID{id: u.id}
	return Result{}, a.setSecret(ctx, u.id, b.Secret[:])
}

func (a *applier) unitSecret(ctx context.Context, b UnitSecret) (Result, error) {
	u, known, err := a.unit(ctx, b.Name)
	if err != nil {
		return Result{}, err
	}
	if !known || u.removed {
		return Result{Err: ErrUnknownUnit}, nil
	}
	return Result{}, a.setSecret(ctx, u.id, b.Secret[:])
}

func (a *applier) unitRemove(ctx context.Context, proposed int64, b UnitRemove) (Result, error) {
	u, known, err := a.unit(ctx, b.Name)
	if err != nil {
		return Result{}, err
	}
	if !known || u.removed {
		return Result{Err: ErrUnknownUnit}, nil
	}
	if err := a.setRemoved(ctx, b.Name, max(proposed, 1)); err != nil {
		return Result{}, err
	}
	a.units[b.Name] = unitID{id: u.id, removed: true}
	return Result{}, a.setSecret(ctx, u.id, nil)
}

// setRemoved marks a unit as removed at ms, 0: not removed.
func (a *applier) setRemoved(ctx context.Context, name string, ms int64) error {
	var id, created, removed int64
	if err := a.conn.QueryRowContext(ctx, "SELECT id, created_ms, removed_ms FROM unit_row WHERE name = ?", name).Scan(&id, &created, &removed); err != nil {
		return fmt.Errorf("read unit %q: %w", name, err)
	}
	a.uncount(rowUnit(a.row(), id, name, created, removed))
	a.count(rowUnit(a.row(), id, name, created, ms))
	if _, err := a.conn.ExecContext(ctx, "UPDATE unit_row SET removed_ms = ? WHERE id = ?", ms, id); err != nil {
		return fmt.Errorf("change unit %q: %w", name, err)
	}
	return nil
}

// setSecret replaces the hash of a unit's secret; nil removes it.
func (a *applier) setSecret(ctx context.Context, unit int64, hash []byte) error {
	var old []byte
	err := a.conn.QueryRowContext(ctx, "SELECT hash FROM secret_unit WHERE unit = ?", unit).Scan(&old)
	switch {
	case err == nil:
		a.uncount(rowUnitSecret(a.row(), unit, old))
	case !errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("read secret: %w", err)
	}
	if hash == nil {
		_, err = a.conn.ExecContext(ctx, "DELETE FROM secret_unit WHERE unit = ?", unit)
	} else {
		a.count(rowUnitSecret(a.row(), unit, hash))
		_, err = a.conn.ExecContext(ctx, "INSERT OR REPLACE INTO secret_unit VALUES (?, ?)", unit, hash)
	}
	if err != nil {
		return fmt.Errorf("change secret: %w", err)
	}
	return nil
}

// dropUser takes a user out of the tables and the digest; false: there is none.
func (a *applier) dropUser(ctx context.Context, name string) (bool, error) {
	var generation int64
	err := a.conn.QueryRowContext(ctx, "SELECT generation FROM user_row WHERE name = ?", name).Scan(&generation)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read user %q: %w", name, err)
	}
	a.uncount(rowUser(a.row(), name, generation))
	var hash string
	err = a.conn.QueryRowContext(ctx, "SELECT hash FROM secret_user WHERE name = ?", name).Scan(&hash)
	switch {
	case err == nil:
		a.uncount(rowUserSecret(a.row(), name, hash))
	case !errors.Is(err, sql.ErrNoRows):
		return false, fmt.Errorf("read user %q: %w", name, err)
	}
	for _, table := range []string{"user_row", "secret_user"} {
		if _, err := a.conn.ExecContext(ctx, "DELETE FROM "+table+" WHERE name = ?", name); err != nil {
			return false, fmt.Errorf("remove user %q: %w", name, err)
		}
	}
	return true, nil
}

func (a *applier) userPut(ctx context.Context, b UserPut) (Result, error) {
	if _, err := a.dropUser(ctx, b.Name); err != nil {
		return Result{}, err
	}
	a.count(rowUser(a.row(), b.Name, int64(b.Generation)))
	if _, err := a.conn.ExecContext(ctx, "INSERT INTO user_row VALUES (?, ?)", b.Name, int64(b.Generation)); err != nil {
		return Result{}, fmt.Errorf("store user %q: %w", b.Name, err)
	}
	a.count(rowUserSecret(a.row(), b.Name, b.Hash))
	if _, err := a.conn.ExecContext(ctx, "INSERT INTO secret_user VALUES (?, ?)", b.Name, b.Hash); err != nil {
		return Result{}, fmt.Errorf("store user %q: %w", b.Name, err)
	}
	return Result{}, nil
}

func (a *applier) userRemove(ctx context.Context, b UserRemove) (Result, error) {
	known, err := a.dropUser(ctx, b.Name)
	if err == nil && !known {
		return Result{Err: ErrUnknownUser}, nil
	}
	return Result{}, err
}

// dropSetting takes a setting out; false: there is none.
func (a *applier) dropSetting(ctx context.Context, key string) (bool, error) {
	var value string
	err := a.conn.QueryRowContext(ctx, "SELECT value FROM setting_row WHERE key = ?", key).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read setting %q: %w", key, err)
	}
	a.uncount(rowSetting(a.row(), key, value))
	if _, err := a.conn.ExecContext(ctx, "DELETE FROM setting_row WHERE key = ?", key); err != nil {
		return false, fmt.Errorf("remove setting %q: %w", key, err)
	}
	return true, nil
}

func (a *applier) settingPut(ctx context.Context, b SettingPut) (Result, error) {
	if _, err := a.dropSetting(ctx, b.Key); err != nil {
		return Result{}, err
	}
	a.count(rowSetting(a.row(), b.Key, b.Value))
	if _, err := a.conn.ExecContext(ctx, "INSERT INTO setting_row VALUES (?, ?)", b.Key, b.Value); err != nil {
		return Result{}, fmt.Errorf("store setting %q: %w", b.Key, err)
	}
	return Result{}, nil
}

func (a *applier) settingRemove(ctx context.Context, b SettingRemove) (Result, error) {
	known, err := a.dropSetting(ctx, b.Key)
	if err == nil && !known {
		return Result{Err: ErrUnknownSetting}, nil
	}
	return Result{}, err
}

func (a *applier) event(ctx context.Context, proposed int64, e Event) error {
	res, err := a.stmt.event.ExecContext(ctx, proposed, e.TimeMS, e.Node, e.Severity, e.Category, e.Code, e.Message, e.Cause, e.Details)
	if err != nil {
		return fmt.Errorf("store event %q: %w", e.Code, err)
	}
	if e.ID, err = res.LastInsertId(); err != nil {
		return err
	}
	a.count(rowEvent(a.row(), proposed, &e))
	return nil
}

func (a *applier) changeover(ctx context.Context, b ChangeoverAppend) (Result, error) {
	res, err := a.conn.ExecContext(ctx, "INSERT INTO changeover_row (at_ms, record) VALUES (?, ?)", b.AtMS, b.JSON)
	if err != nil {
		return Result{}, fmt.Errorf("store changeover: %w", err)
	}
	id, err := res.LastInsertId()
	if err != nil {
		return Result{}, err
	}
	a.count(rowChangeover(a.row(), id, b.AtMS, b.JSON))
	return Result{}, nil
}

func (a *applier) canary(proposed int64) Result {
	if a.canaryCount > 0 {
		a.uncount(rowCanary(a.row(), a.canaryCount, a.canaryMS))
	}
	a.canaryCount++
	a.canaryMS = proposed
	a.count(rowCanary(a.row(), a.canaryCount, a.canaryMS))
	return Result{Canary: a.canaryCount}
}

func (a *applier) poolPut(b PoolPut) Result {
	switch a.at.pool {
	case b.Pool:
		return Result{}
	case "":
		a.at.pool = b.Pool
		a.count(rowPool(a.row(), b.Pool))
		return Result{}
	}
	return Result{Err: ErrPoolSet}
}
