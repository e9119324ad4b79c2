package database

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// ReportKind says which history a ReportPut belongs to.
type ReportKind uint8

// The histories.
const (
	ReportChangeover ReportKind = iota + 1 // changes of Primary, view changeover
	ReportDrill                            // failover drills, view drill
)

func (k ReportKind) table() string {
	if k == ReportDrill {
		return "drill_row"
	}
	return "changeover_row"
}

// mostReports are kept of each kind; a new one beyond that displaces the oldest.
const mostReports = 10_000

// ReportPut stores a report under its key: a new one, or in place of what stood there, which then
// keeps its place in the history. A report whose evidence grows is put again.
type ReportPut struct {
	Kind ReportKind
	Key  string
	AtMS int64
	JSON string // one JSON object
}

func (ReportPut) kind() kind { return kindReport }

func (b ReportPut) validate() error {
	if b.Kind != ReportChangeover && b.Kind != ReportDrill {
		return fmt.Errorf("%w: report kind %d", ErrInvalid, b.Kind)
	}
	if err := validText("key", b.Key, 1, maxName); err != nil {
		return err
	}
	if err := validText("report", b.JSON, 1, maxText); err != nil {
		return err
	}
	if !json.Valid([]byte(b.JSON)) {
		return fmt.Errorf("%w: report %q is not JSON", ErrInvalid, b.Key)
	}
	return nil
}

func (b ReportPut) encode(e *encoder) {
	e.b = append(e.b, byte(b.Kind))
	e.raw(b.Key)
	e.int(b.AtMS)
	e.raw(b.JSON)
}

func (d *decoder) report() ReportPut {
	return ReportPut{Kind: ReportKind(d.byte()), Key: d.raw(), AtMS: d.int(), JSON: d.raw()}
}

// rowReport is the canonical form of a report. One without a key comes from ChangeoverAppend.
func rowReport(r row, kind ReportKind, id, at int64, key, record string) row {
	if key == "" {
		return rowChangeover(r, id, at, record)
	}
	return append(r, 'd', byte(kind)).int(id).int(at).text(key).text(record)
}

func (a *applier) report(ctx context.Context, b ReportPut) (Result, error) {
	var id, at int64
	var record string
	table := b.Kind.table()
	err := a.conn.QueryRowContext(ctx, "SELECT id, at_ms, record FROM "+table+" WHERE key = ?", b.Key).Scan(&id, &at, &record)
	switch {
	case err == nil:
		a.uncount(rowReport(a.row(), b.Kind, id, at, b.Key, record))
		_, err = a.conn.ExecContext(ctx, "UPDATE "+table+" SET at_ms = ?, record = ? WHERE id = ?", b.AtMS, b.JSON, id)
	case errors.Is(err, sql.ErrNoRows):
		var res sql.Result
		res, err = a.conn.ExecContext(ctx, "INSERT INTO "+table+" (at_ms, record, key) VALUES (?, ?, ?)", b.AtMS, b.JSON, b.Key)
		if err == nil {
			id, err = res.LastInsertId()
		}
	}
	if err != nil {
		return Result{}, fmt.Errorf("store report %q: %w", b.Key, err)
	}
	a.count(rowReport(a.row(), b.Kind, id, b.AtMS, b.Key, b.JSON))
	return Result{}, a.dropReports(ctx, b.Kind, id-mostReports)
}

// dropReports removes the reports up to an id.
func (a *applier) dropReports(ctx context.Context, kind ReportKind, upTo int64) error {
	if upTo <= 0 {
		return nil
	}
	rows, err := a.conn.QueryContext(ctx, "SELECT id, at_ms, key, record FROM "+kind.table()+" WHERE id <= ?", upTo)
	if err != nil {
		return fmt.Errorf("remove old reports: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, at int64
		var key, record string
		if err := rows.Scan(&id, &at, &key, &record); err != nil {
			return err
		}
		a.uncount(rowReport(a.row(), kind, id, at, key, record))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("remove old reports: %w", err)
	}
	_, err = a.conn.ExecContext(ctx, "DELETE FROM "+kind.table()+" WHERE id <= ?", upTo)
	return err
}

// Report is one stored report.
type Report struct {
	ID   int64
	Key  string // empty: it was stored without one and cannot be put again
	AtMS int64
	JSON string
}

// Reports returns the newest reports of a kind, newest first; limit 0: 100.
func (s *Store) Reports(ctx context.Context, kind ReportKind, limit int) (all []Report, err error) {
	if limit <= 0 {
		limit = 100
	}
	err = s.read(ctx, "reports", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, func(r *sql.Rows, c *Report) error { return r.Scan(&c.ID, &c.Key, &c.AtMS, &c.JSON) },
			"SELECT id, key, at_ms, record FROM "+kind.table()+" ORDER BY id DESC LIMIT ?", limit)
		return err
	})
	return all, err
}
