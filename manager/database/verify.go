package database

import (
	"context"
	"database/sql"
	"fmt"
)

// querier is a connection, a pool or a transaction that can only be asked.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// VerifyDigest reads all rows and compares their sum with the digest that was kept while they
// were written. It takes time in proportion to the content and does not hold up Apply. False:
// the content of the file is not what was applied.
func (s *Store) VerifyDigest(ctx context.Context) (index uint64, ok bool, err error) {
	v, err := s.View(ctx)
	if err != nil {
		return 0, false, fmt.Errorf("verify digest: %w", err)
	}
	defer v.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(v.ctx, func() { cancel(context.Cause(v.ctx)) })()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return 0, false, fmt.Errorf("verify digest: %w", v.err)
	}
	have, err := scanDigest(ctx, v.conn)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return 0, false, fmt.Errorf("verify digest: %w", classify(err))
	}
	return v.Index, have.bytes() == v.Digest, nil
}

// scanDigest sums up all rows that count.
func scanDigest(ctx context.Context, q querier) (t total, err error) {
	var b row
	for _, table := range []struct {
		sql string
		row func(*sql.Rows) (row, error)
	}{
		{"SELECT id, name, created_ms, removed_ms FROM unit_row", func(r *sql.Rows) (row, error) {
			var id, created, removed int64
			var name string
			err := r.Scan(&id, &name, &created, &removed)
			return rowUnit(b, id, name, created, removed), err
		}},
		{"SELECT unit, hash FROM secret_unit", func(r *sql.Rows) (row, error) {
			var unit int64
			var hash []byte
			err := r.Scan(&unit, &hash)
			return rowUnitSecret(b, unit, hash), err
		}},
		{"SELECT name, generation FROM user_row", func(r *sql.Rows) (row, error) {
			var name string
			var generation int64
			err := r.Scan(&name, &generation)
			return rowUser(b, name, generation), err
		}},
		{"SELECT name, hash FROM secret_user", func(r *sql.Rows) (row, error) {
			var name, hash string
			err := r.Scan(&name, &hash)
			return rowUserSecret(b, name, hash), err
		}},
		{"SELECT key, value FROM setting_row", func(r *sql.Rows) (row, error) {
			var key, value string
			err := r.Scan(&key, &value)
			return rowSetting(b, key, value), err
		}},
		{"SELECT id, unit, node, grp, tag FROM series", func(r *sql.Rows) (row, error) {
			var id, unit int64
			var node, group, tag string
			err := r.Scan(&id, &unit, &node, &group, &tag)
			return rowSeries(b, id, unit, node, group, tag), err
		}},
		{"SELECT id, unit, boot FROM stream", func(r *sql.Rows) (row, error) {
			var id, unit int64
			var boot string
			err := r.Scan(&id, &unit, &boot)
			return rowStream(b, id, unit, boot), err
		}},
		{"SELECT stream, seq, hash, received_ms FROM message", func(r *sql.Rows) (row, error) {
			var m messageRow
			err := r.Scan(&m.stream, &m.seq, &m.hash, &m.received)
			return rowMessage(b, m.stream, m.seq, m.hash, m.received), err
		}},
		{"SELECT " + sampleColumns + " FROM sample_row", func(r *sql.Rows) (row, error) {
			s, err := scanSample(r)
			return rowSample(b, &s), err
		}},
		{"SELECT proposed_ms, " + eventColumns + " FROM event_row", func(r *sql.Rows) (row, error) {
			var proposed int64
			var e Event
			err := r.Scan(append([]any{&proposed}, e.fields()...)...)
			return rowEvent(b, proposed, &e), err
		}},
		{"SELECT id, at_ms, key, record FROM changeover_row", func(r *sql.Rows) (row, error) {
			var id, at int64
			var key, record string
			err := r.Scan(&id, &at, &key, &record)
			return rowReport(b, ReportChangeover, id, at, key, record), err
		}},
		{"SELECT id, at_ms, key, record FROM drill_row", func(r *sql.Rows) (row, error) {
			var id, at int64
			var key, record string
			err := r.Scan(&id, &at, &key, &record)
			return rowReport(b, ReportDrill, id, at, key, record), err
		}},
		{keptQuery, func(r *sql.Rows) (row, error) {
			var k Kept
			err := k.scan(r.Scan)
			return rowKept(b, &k), err
		}},
		{"SELECT " + noticeColumns + " FROM notice_row", func(r *sql.Rows) (row, error) {
			var n Notice
			err := n.scan(r.Scan)
			return rowNotice(b, &n), err
		}},
		{"SELECT key, value FROM secret_setting", func(r *sql.Rows) (row, error) {
			var key, value string
			err := r.Scan(&key, &value)
			return rowSecretSetting(b, key, value), err
		}},
		{"SELECT id, name FROM client", func(r *sql.Rows) (row, error) {
			var id int64
			var name string
			err := r.Scan(&id, &name)
			return rowClient(b, id, name), err
		}},
		{"SELECT client, slot, seq, idx, result FROM client_result", func(r *sql.Rows) (row, error) {
			var client, slot, seq, idx int64
			var result []byte
			err := r.Scan(&client, &slot, &seq, &idx, &result)
			return rowClientResult(b, client, slot, seq, idx, result), err
		}},
		{"SELECT canary, canary_ms FROM state WHERE canary > 0", func(r *sql.Rows) (row, error) {
			var count, ms int64
			err := r.Scan(&count, &ms)
			return rowCanary(b, count, ms), err
		}},
		{"SELECT pool FROM state WHERE pool != ''", func(r *sql.Rows) (row, error) {
			var pool string
			err := r.Scan(&pool)
			return rowPool(b, pool), err
		}},
	} {
		rows, err := q.QueryContext(ctx, table.sql)
		if err != nil {
			return t, err
		}
		for rows.Next() {
			r, err := table.row(rows)
			if err != nil {
				return t, firstError(err, rows.Close())
			}
			t.add(r)
			b = r[:0]
		}
		if err := firstError(rows.Err(), rows.Close()); err != nil {
			return t, err
		}
	}
	return t, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
