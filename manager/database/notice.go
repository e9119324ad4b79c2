package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Notice is one notification that is due, held back or done. What it says is the composer's business.
type Notice struct {
	ID    string // up to 64 bytes
	AtMS  int64  // when what it tells of happened
	State string // NoticeOpen while something is still to be done with it; any other word
	JSON  string // one JSON object
}

// NoticeOpen is the State of a Notice that is not done.
const NoticeOpen = "open"

// MaxNotices are kept; of more, the oldest that are done are removed, and then the oldest.
const MaxNotices = 500

// NoticePut creates notices or changes them, all in one step.
type NoticePut struct{ Notices []Notice }

// SecretPut keeps a secret that Query does not show and no saved copy has, or removes it when Value
// is empty.
type SecretPut struct{ Key, Value string }

func (NoticePut) kind() kind { return kindNotice }
func (SecretPut) kind() kind { return kindSecret }

func (b NoticePut) validate() error {
	if n := len(b.Notices); n == 0 || n > MaxNotices {
		return fmt.Errorf("%w: %d notices: need 1 to %d", ErrInvalid, n, MaxNotices)
	}
	for i := range b.Notices {
		n := &b.Notices[i]
		if err := errors.Join(validText("notice", n.ID, 1, 64), validText("state", n.State, 1, 16), validText("record", n.JSON, 2, maxText)); err != nil {
			return err
		}
		if !json.Valid([]byte(n.JSON)) {
			return fmt.Errorf("%w: notice %q is not JSON", ErrInvalid, n.ID)
		}
	}
	return nil
}

func (b SecretPut) validate() error {
	return errors.Join(validText("secret's key", b.Key, 1, maxName), validText("secret", b.Value, 0, maxText))
}

func (b NoticePut) encode(e *encoder) {
	e.uint(uint64(len(b.Notices)))
	for i := range b.Notices {
		n := &b.Notices[i]
		e.raw(n.ID)
		e.int(n.AtMS)
		e.text(n.State)
		e.raw(n.JSON)
	}
}

func (b SecretPut) encode(e *encoder) { e.raw(b.Key); e.raw(b.Value) }

func (d *decoder) notices() (b NoticePut) {
	for range d.count(4) {
		b.Notices = append(b.Notices, Notice{ID: d.raw(), AtMS: d.int(), State: d.text(), JSON: d.raw()})
	}
	return b
}

func rowNotice(r row, n *Notice) row {
	return append(r, 'v').text(n.ID).int(n.AtMS).text(n.State).text(n.JSON)
}

func rowSecretSetting(r row, key, value string) row { return append(r, 'S').text(key).text(value) }

func (n *Notice) scan(scan func(...any) error) error {
	return scan(&n.ID, &n.AtMS, &n.State, &n.JSON)
}

const noticeColumns = "id, at_ms, state, record"

func (a *applier) noticePut(ctx context.Context, b NoticePut) (Result, error) {
	for i := range b.Notices {
		n := &b.Notices[i]
		if err := a.dropNotice(ctx, n.ID); err != nil {
			return Result{}, err
		}
		a.count(rowNotice(a.row(), n))
		if _, err := a.conn.ExecContext(ctx, "INSERT INTO notice_row ("+noticeColumns+") VALUES (?, ?, ?, ?)", n.ID, n.AtMS, n.State, n.JSON); err != nil {
			return Result{}, fmt.Errorf("store notice %q: %w", n.ID, err)
		}
	}
	return Result{}, a.pruneNotices(ctx)
}

// dropNotice takes a notice out, if there is one.
func (a *applier) dropNotice(ctx context.Context, id string) error {
	var n Notice
	err := n.scan(a.conn.QueryRowContext(ctx, "SELECT "+noticeColumns+" FROM notice_row WHERE id = ?", id).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read notice %q: %w", id, err)
	}
	a.uncount(rowNotice(a.row(), &n))
	if _, err := a.conn.ExecContext(ctx, "DELETE FROM notice_row WHERE id = ?", id); err != nil {
		return fmt.Errorf("remove notice %q: %w", id, err)
	}
	return nil
}

func (a *applier) pruneNotices(ctx context.Context) error {
	rows, err := a.conn.QueryContext(ctx, "SELECT id FROM notice_row ORDER BY state = '"+NoticeOpen+"' DESC, at_ms DESC, id DESC LIMIT -1 OFFSET ?", MaxNotices)
	if err != nil {
		return err
	}
	var over []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return firstError(err, rows.Close())
		}
		over = append(over, id)
	}
	if err := firstError(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range over {
		if err := a.dropNotice(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) secretPut(ctx context.Context, b SecretPut) (Result, error) {
	var old string
	err := a.conn.QueryRowContext(ctx, "SELECT value FROM secret_setting WHERE key = ?", b.Key).Scan(&old)
	switch {
	case err == nil:
		a.uncount(rowSecretSetting(a.row(), b.Key, old))
	case !errors.Is(err, sql.ErrNoRows):
		return Result{}, fmt.Errorf("read secret %q: %w", b.Key, err)
	}
	if _, err := a.conn.ExecContext(ctx, "DELETE FROM secret_setting WHERE key = ?", b.Key); err != nil {
		return Result{}, fmt.Errorf("remove secret %q: %w", b.Key, err)
	}
	if b.Value == "" {
		return Result{}, nil
	}
	a.count(rowSecretSetting(a.row(), b.Key, b.Value))
	if _, err := a.conn.ExecContext(ctx, "INSERT INTO secret_setting VALUES (?, ?)", b.Key, b.Value); err != nil {
		return Result{}, fmt.Errorf("store secret %q: %w", b.Key, err)
	}
	return Result{}, nil
}

// Notices returns the newest notices, newest first; with open those that are not done alone. Limit 0:
// all.
func (s *Store) Notices(ctx context.Context, open bool, limit int) (all []Notice, err error) {
	if limit <= 0 {
		limit = MaxNotices
	}
	where := ""
	if open {
		where = " WHERE state = '" + NoticeOpen + "'"
	}
	err = s.read(ctx, "notices", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, func(r *sql.Rows, n *Notice) error { return n.scan(r.Scan) },
			"SELECT "+noticeColumns+" FROM notice_row"+where+" ORDER BY at_ms DESC, id DESC LIMIT ?", limit)
		return err
	})
	return all, err
}

// Secret returns what SecretPut stored; empty: there is none.
func (s *Store) Secret(ctx context.Context, key string) (value string, err error) {
	err = s.read(ctx, "a secret", func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT value FROM secret_setting WHERE key = ?", key).Scan(&value)
	})
	if errors.Is(err, ErrNotFound) {
		return "", nil
	}
	return value, err
}
