package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Saved describes a file that Save wrote.
type Saved struct {
	Schema      int
	Index, Term uint64 // of the database that was saved
	Pool        string
	Size        int64 // bytes
}

// RestoreCheck reads a saved file completely and tells whether Restore would accept it.
// ErrForeign, ErrNewer, ErrCorrupt, or an error of the disk.
func (s *Store) RestoreCheck(ctx context.Context, file string) (Saved, error) {
	p, version, err := inspect(ctx, file, true)
	if err != nil {
		return Saved{}, fmt.Errorf("check saved database %s: %w", file, err)
	}
	st, err := os.Stat(file)
	if err != nil {
		return Saved{}, fmt.Errorf("check saved database: %w", osError(err))
	}
	return Saved{Schema: version, Index: p.index, Term: p.term, Pool: p.pool, Size: st.Size()}, nil
}

// Restore puts the content of a saved file in the place of the present one. What belongs to
// this node's log stays: position, membership, kept results; so do the pool id and what no saved
// file has: users with their passwords, API tokens, and the secrets of those units that are in
// both. A unit that is in the file alone has no secret and cannot log in until UnitSecret or
// UnitAdd gives it one. It is not replicated: only for a pool of one.
// The present content is lost (Save it first) unless keepOld moves it aside.
//
// A crash before the end leaves the old content, or the next Open finishes. Errors as
// RestoreCheck.
func (s *Store) Restore(ctx context.Context, file string, keepOld bool) error {
	if _, err := s.RestoreCheck(ctx, file); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	s.swapping.Lock()
	defer s.swapping.Unlock()
	if err := s.restore(ctx, file, keepOld); err != nil {
		return fmt.Errorf("restore %s: %w", file, classify(err))
	}
	return nil
}

func (s *Store) restore(ctx context.Context, file string, keepOld bool) (err error) {
	if err := s.discardPending(); err != nil {
		return err
	}
	// Under the name without a marker: a crash from here on discards it.
	path := s.path(inName)
	if err := copyFile(ctx, file, path); err != nil {
		return err
	}
	db, err := openScratch(path)
	if err != nil {
		return err
	}
	defer func() {
		if db != nil {
			err = errors.Join(err, db.Close(), s.discardPending())
		}
	}()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, _, err := migrate(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, deleteLogins()+"DELETE FROM user_row; DELETE FROM client_result; DELETE FROM client"); err != nil {
		return err
	}
	saved, err := readPosition(ctx, conn)
	if err != nil {
		return err
	}
	sum, err := scanDigest(ctx, conn) // slow, so it comes before the gate is shut
	if err != nil {
		return err
	}
	s.gate.shut(ErrReplaced, false)
	if s.gate.isClosed() {
		return ErrClosed
	}
	defer s.gate.reopen() // after a failed swap it tells so
	living := s.files.conn
	for _, t := range []struct {
		query, table string
		row          func([]any) row
	}{
		{"SELECT * FROM user_row", "user_row", func(c []any) row { return rowUser(nil, text(c[0]), c[1].(int64)) }},
		{"SELECT * FROM client", "client", func(c []any) row { return rowClient(nil, c[0].(int64), text(c[1])) }},
		{"SELECT * FROM client_result", "client_result", func(c []any) row {
			return rowClientResult(nil, c[0].(int64), c[1].(int64), c[2].(int64), c[3].(int64), c[4].([]byte))
		}},
		{"SELECT * FROM secret_user", "secret_user", logins[0].row},
		{"SELECT * FROM secret_setting", "secret_setting", logins[2].row},
		{"SELECT * FROM notice_row", "notice_row", logins[3].row},
		{"SELECT * FROM setting_row WHERE " + isToken, "setting_row", logins[4].row},
	} {
		if err := copyRows(ctx, living, conn, t.query, t.table, &sum, t.row); err != nil {
			return fmt.Errorf("take over %s: %w", t.table, err)
		}
	}
	if err := takeUnitSecrets(ctx, living, conn, &sum); err != nil {
		return fmt.Errorf("take over the secrets of units: %w", err)
	}
	// From the file: what the applier remembers may be of a batch that failed.
	p, err := readPosition(ctx, living)
	if err != nil {
		return err
	}
	if p.pool != "" && p.pool != saved.pool {
		if saved.pool != "" {
			sum.sub(rowPool(nil, saved.pool))
		}
		sum.add(rowPool(nil, p.pool))
		saved.pool = p.pool
	}
	digest := sum.bytes()
	if _, err := conn.ExecContext(ctx, "UPDATE state SET idx = ?, term = ?, config = ?, config_idx = ?, digest = ?, pool = ?",
		int64(p.index), int64(p.term), p.config, int64(p.configIndex), digest[:], saved.pool); err != nil {
		return err
	}
	err = errors.Join(conn.Close(), db.Close())
	db = nil
	if err != nil {
		return errors.Join(err, s.discardPending())
	}
	if err := syncFile(path); err != nil {
		return errors.Join(osError(err), s.discardPending())
	}
	m := marker{Copy: Copy{Index: p.index, Term: p.term, Pool: saved.pool, KeepOld: keepOld}, From: inName, Checked: true}
	if err := s.writeMarker(m); err != nil {
		return errors.Join(err, s.discardPending())
	}
	return s.swapShut(m)
}

// copyRows copies the rows of a query over a small table and counts them.
func copyRows(ctx context.Context, from, to *sql.Conn, query, table string, sum *total, r func([]any) row) error {
	return eachRow(ctx, from, query, func(cells []any) error {
		insert := "INSERT INTO " + table + " VALUES (?" + strings.Repeat(",?", len(cells)-1) + ")"
		if _, err := to.ExecContext(ctx, insert, cells...); err != nil {
			return err
		}
		sum.add(r(cells))
		return nil
	})
}

// takeUnitSecrets lets the units go on that are in both databases: theirs are known by name, for the
// same unit may have another number in each.
func takeUnitSecrets(ctx context.Context, from, to *sql.Conn, sum *total) error {
	return eachRow(ctx, from, "SELECT u.name, s.hash FROM secret_unit s JOIN unit_row u ON u.id = s.unit WHERE u.removed_ms = 0", func(cells []any) error {
		hash, ok := cells[1].([]byte)
		if !ok {
			return fmt.Errorf("%w: secret of unit %q", ErrCorrupt, text(cells[0]))
		}
		var id int64
		err := to.QueryRowContext(ctx, "SELECT id FROM unit_row WHERE name = ? AND removed_ms = 0", text(cells[0])).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := to.ExecContext(ctx, "INSERT INTO secret_unit VALUES (?, ?)", id, hash); err != nil {
			return err
		}
		sum.add(rowUnitSecret(nil, id, hash))
		return nil
	})
}

// text returns a cell that holds a text.
func text(cell any) string {
	if b, ok := cell.([]byte); ok {
		return string(b)
	}
	s, _ := cell.(string)
	return s
}

// copyFile copies file to path. Its end is synced by the caller.
func copyFile(ctx context.Context, file, path string) error {
	in, err := os.Open(file)
	if err != nil {
		return osError(err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return osError(err)
	}
	_, err = io.Copy(out, contextReader{ctx, in})
	return osError(errors.Join(err, out.Close()))
}
