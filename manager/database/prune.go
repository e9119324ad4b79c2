package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// One Prune looks at this many series and streams at most, so that it never holds the writer
// for long; the next one goes on where it stopped.
const pruneVisits = 256

// farAhead: a source clock that is further ahead than this (ms) does not protect its readings
// from being removed by age of receipt.
const farAhead = 24 * 3600 * 1000

// prune removes the oldest rows within the limits of b. All of it is decided by what is
// in the file and in b, so every node removes the same rows.
func (a *applier) prune(ctx context.Context, proposed int64, b Prune) (r Result, err error) {
	if err := a.flush(ctx); err != nil {
		return r, err
	}
	left := int(b.Limit)
	if b.SamplesBeforeMS > 0 {
		if err := a.pruneSeriesRows(ctx, proposed, b.SamplesBeforeMS, &left); err != nil {
			return r, fmt.Errorf("prune readings: %w", err)
		}
		if err := a.pruneStreamRows(ctx, b.SamplesBeforeMS, &left); err != nil {
			return r, fmt.Errorf("prune sequences: %w", err)
		}
	}
	more := left == 0 || a.pruneSeries != 0 || a.pruneStream != 0
	if b.EventsBeforeMS > 0 {
		full, err := a.pruneEvents(ctx, b.EventsBeforeMS, &left)
		if err != nil {
			return r, fmt.Errorf("prune events: %w", err)
		}
		more = more || full
	}
	return Result{Removed: int(b.Limit) - left, More: more}, nil
}

// ids returns the next ids of table after the given one.
func (a *applier) ids(ctx context.Context, table string, after int64) (ids []int64, err error) {
	rows, err := a.conn.QueryContext(ctx, "SELECT id FROM "+table+" WHERE id > ? ORDER BY id LIMIT ?", after, pruneVisits)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func (a *applier) pruneSeriesRows(ctx context.Context, proposed, before int64, left *int) error {
	ids, err := a.ids(ctx, "series", a.pruneSeries)
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, st := range []*sql.Stmt{a.stmt.pruneSamples, a.stmt.pruneFuture} {
			if *left == 0 {
				return nil // the cursor stays before this series
			}
			args := []any{id, before, *left}
			if st == a.stmt.pruneFuture {
				args = append(args, max(proposed+farAhead, before))
			}
			found, err := scanSamples(ctx, st, args...)
			if err != nil {
				return err
			}
			for i := range found {
				s := &found[i]
				if _, err := a.stmt.unSave.ExecContext(ctx, s.series, s.sourceMS, s.hash); err != nil {
					return err
				}
				a.uncount(rowSample(a.row(), s))
			}
			*left -= len(found)
		}
		a.pruneSeries = id
	}
	if len(ids) < pruneVisits {
		a.pruneSeries = 0
	}
	return nil
}

// scanSamples runs a statement that selects sampleColumns.
func scanSamples(ctx context.Context, st *sql.Stmt, args ...any) (found []sampleRow, err error) {
	rows, err := st.QueryContext(ctx, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		s, err := scanSample(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, rows.Err()
}

func scanSample(rows *sql.Rows) (s sampleRow, err error) {
	var seq, code sql.NullInt64
	if err = rows.Scan(&s.series, &s.sourceMS, &s.hash, &s.origin, &seq, &s.delayMS, &s.kind, &s.value, &code); err != nil {
		return s, err
	}
	s.seq, s.err = -1, code.Int64
	if seq.Valid {
		s.seq = seq.Int64
	}
	if b, ok := s.value.([]byte); ok {
		s.value = string(b)
	}
	return s, nil
}

// pruneStreamRows removes sequences from the lowest on, up to the first that is still young,
// and streams that have none left.
func (a *applier) pruneStreamRows(ctx context.Context, before int64, left *int) error {
	ids, err := a.ids(ctx, "stream", a.pruneStream)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if *left == 0 {
			return nil
		}
		old, err := a.oldMessages(ctx, id, before, *left)
		if err != nil {
			return err
		}
		for _, m := range old {
			if _, err := a.conn.ExecContext(ctx, "DELETE FROM message WHERE stream = ? AND seq = ? AND hash = ?", m.stream, m.seq, m.hash); err != nil {
				return err
			}
			a.uncount(rowMessage(a.row(), m.stream, m.seq, m.hash, m.received))
		}
		*left -= len(old)
		if len(old) > 0 {
			if err := a.dropEmptyStream(ctx, id); err != nil {
				return err
			}
		}
		a.pruneStream = id
	}
	if len(ids) < pruneVisits {
		a.pruneStream = 0
	}
	return nil
}

func (a *applier) oldMessages(ctx context.Context, stream, before int64, most int) (old []messageRow, err error) {
	rows, err := a.conn.QueryContext(ctx, "SELECT stream, seq, hash, received_ms FROM message WHERE stream = ? ORDER BY seq, hash LIMIT ?", stream, most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var m messageRow
		if err := rows.Scan(&m.stream, &m.seq, &m.hash, &m.received); err != nil {
			return nil, err
		}
		if m.received >= before {
			break
		}
		old = append(old, m)
	}
	return old, rows.Err()
}

func (a *applier) dropEmptyStream(ctx context.Context, id int64) error {
	var unit int64
	var boot string
	err := a.conn.QueryRowContext(ctx, "SELECT unit, boot FROM stream WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM message WHERE stream = ?1)", id).Scan(&unit, &boot)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := a.conn.ExecContext(ctx, "DELETE FROM stream WHERE id = ?", id); err != nil {
		return err
	}
	a.uncount(rowStream(a.row(), id, unit, boot))
	delete(a.streams, streamKey{unit, boot})
	return nil
}

// pruneEvents removes events from the oldest on, up to the first that is still young. It
// returns whether it stopped for the limit.
func (a *applier) pruneEvents(ctx context.Context, before int64, left *int) (full bool, err error) {
	if *left == 0 {
		return true, nil
	}
	rows, err := a.conn.QueryContext(ctx, "SELECT proposed_ms, "+eventColumns+" FROM event_row ORDER BY id LIMIT ?", *left)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var last int64
	for rows.Next() {
		var proposed int64
		var e Event
		if err := rows.Scan(append([]any{&proposed}, e.fields()...)...); err != nil {
			return false, err
		}
		if proposed >= before {
			break
		}
		a.uncount(rowEvent(a.row(), proposed, &e))
		last = e.ID
		*left--
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil || last == 0 {
		return false, err
	}
	_, err = a.conn.ExecContext(ctx, "DELETE FROM event_row WHERE id <= ?", last)
	return *left == 0, err
}

const eventColumns = "id, time_ms, node, severity, category, code, message, cause, details"

func (e *Event) fields() []any {
	return []any{&e.ID, &e.TimeMS, &e.Node, &e.Severity, &e.Category, &e.Code, &e.Message, &e.Cause, &e.Details}
}
