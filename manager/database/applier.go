package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
)

// applier owns the writer's connection: its prepared statements, the state that the file
// holds in table state, and what it remembers of the rows so that most need no look-up. It is
// used by one goroutine at a time.
type applier struct {
	conn *sql.Conn
	stmt statements

	at          position
	configDirty bool
	canaryCount int64
	canaryMS    int64
	pruneSeries int64 // where the next Prune goes on
	pruneStream int64
	stale       bool // a batch failed: read the position from the file first

	units   map[string]unitID
	series  map[seriesKey]*seriesID
	streams map[streamKey]*streamID
	clients map[string]*clientResults

	samples  []sampleRow  // not written yet
	messages []messageRow // not written yet
	scratch  []byte
	args     []any
}

// maxCached bounds each map; a full one is emptied, which costs look-ups only.
const maxCached = 200_000

type unitID struct {
	id      int64
	removed bool
}

type seriesKey struct {
	unit             int64
	node, group, tag string
}

// seriesID has the newest source time of the series: whatever is newer cannot be there yet.
type seriesID struct{ id, newest int64 }

type streamKey struct {
	unit int64
	boot string
}

// streamID has the highest sequence of the stream: whatever is higher cannot be there yet.
type streamID struct{ id, highest int64 }

type sampleRow struct {
	series, sourceMS, hash int64
	origin                 int64 // > 0: stream; else originTimed or originUntimed
	seq                    int64 // -1: none
	delayMS                int64 // received by the proposer minus source time
	kind                   int64
	value                  any // nil, int64, float64 or string
	err                    int64
}

type messageRow struct{ stream, seq, hash, received int64 }

// chunk is the number of rows per INSERT; measured: more gains nothing.
const chunk = 50

type statements struct {
	position                          *sql.Stmt
	samples, sample                   *sql.Stmt // chunk rows, one row
	messages, message                 *sql.Stmt
	unit, seriesID, seriesNewest      *sql.Stmt
	seriesAdd, stream, streamHighest  *sql.Stmt
	streamAdd, messageHas, sampleHas  *sql.Stmt
	result, event                     *sql.Stmt
	pruneSamples, pruneFuture, unSave *sql.Stmt
}

func newApplier(ctx context.Context, conn *sql.Conn) (*applier, error) {
	a := &applier{conn: conn}
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	rows := func(n int, head, one string) string {
		return head + strings.TrimSuffix(strings.Repeat(one+",", n), ",")
	}
	const sampleHead, sampleOne = "INSERT INTO sample_row VALUES ", "(?,?,?,?,?,?,?,?,?)"
	const messageHead, messageOne = "INSERT INTO message VALUES ", "(?,?,?,?)"
	for _, p := range []struct {
		to  **sql.Stmt
		sql string
	}{
		{&a.stmt.position, "UPDATE state SET idx = ?, term = ?, digest = ?, pool = ?, canary = ?, canary_ms = ?, prune_series = ?, prune_stream = ?"},
		{&a.stmt.samples, rows(chunk, sampleHead, sampleOne)},
		{&a.stmt.sample, rows(1, sampleHead, sampleOne)},
		{&a.stmt.messages, rows(chunk, messageHead, messageOne)},
		{&a.stmt.message, rows(1, messageHead, messageOne)},
		{&a.stmt.unit, "SELECT id, removed_ms FROM unit_row WHERE name = ?"},
		{&a.stmt.seriesID, "SELECT id FROM series WHERE unit = ? AND node = ? AND grp = ? AND tag = ?"},
		{&a.stmt.seriesNewest, "SELECT max(source_ms) FROM sample_row WHERE series = ?"},
		{&a.stmt.seriesAdd, "INSERT INTO series (unit, node, grp, tag) VALUES (?, ?, ?, ?)"},
		{&a.stmt.stream, "SELECT id FROM stream WHERE unit = ? AND boot = ?"},
		{&a.stmt.streamHighest, "SELECT max(seq) FROM message WHERE stream = ?"},
		{&a.stmt.streamAdd, "INSERT INTO stream (unit, boot) VALUES (?, ?)"},
		{&a.stmt.messageHas, "SELECT count(*), coalesce(sum(hash = ?3), 0) FROM message WHERE stream = ?1 AND seq = ?2"},
		{&a.stmt.sampleHas, "SELECT coalesce(sum(origin = ?4), 0), coalesce(sum(hash = ?3), 0) FROM sample_row WHERE series = ?1 AND source_ms = ?2"},
		{&a.stmt.result, "INSERT OR REPLACE INTO client_result VALUES (?, ?, ?, ?, ?)"},
		{&a.stmt.event, "INSERT INTO event_row (proposed_ms, time_ms, node, severity, category, code, message, cause, details) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"},
		{&a.stmt.pruneSamples, "SELECT " + sampleColumns + " FROM sample_row WHERE series = ?1 AND source_ms < ?2 AND source_ms + delay_ms < ?2 LIMIT ?3"},
		{&a.stmt.pruneFuture, "SELECT " + sampleColumns + " FROM sample_row WHERE series = ?1 AND source_ms > ?4 AND source_ms + delay_ms < ?2 LIMIT ?3"},
		{&a.stmt.unSave, "DELETE FROM sample_row WHERE series = ? AND source_ms = ? AND hash = ?"},
	} {
		st, err := conn.PrepareContext(ctx, p.sql)
		if err != nil {
			a.close()
			return nil, fmt.Errorf("prepare %.60q: %w", p.sql, classify(err))
		}
		*p.to = st
	}
	return a, nil
}

const sampleColumns = "series, source_ms, hash, origin, seq, delay_ms, kind, value, error"

// close frees the statements before their connection is closed.
func (a *applier) close() {
	s := &a.stmt
	for _, st := range []*sql.Stmt{s.position, s.samples, s.sample, s.messages, s.message, s.unit, s.seriesID, s.seriesNewest, s.seriesAdd,
		s.stream, s.streamHighest, s.streamAdd, s.messageHas, s.sampleHas, s.result, s.event, s.pruneSamples, s.pruneFuture, s.unSave} {
		if st != nil {
			_ = st.Close() // only memory; the connection is closed next
		}
	}
}

// load reads the state from the file and forgets everything remembered of rows.
func (a *applier) load(ctx context.Context) error {
	p, err := readPosition(ctx, a.conn)
	if err != nil {
		return err
	}
	err = a.conn.QueryRowContext(ctx, "SELECT canary, canary_ms, prune_series, prune_stream FROM state").
		Scan(&a.canaryCount, &a.canaryMS, &a.pruneSeries, &a.pruneStream)
	if err != nil {
		return classify(err)
	}
	a.at, a.stale, a.configDirty = p, false, false
	a.units, a.series, a.streams, a.clients = map[string]unitID{}, map[seriesKey]*seriesID{}, map[streamKey]*streamID{}, map[string]*clientResults{}
	a.samples, a.messages = a.samples[:0], a.messages[:0]
	return nil
}

// readPosition reads the position from table state.
func readPosition(ctx context.Context, c execer) (position, error) {
	var p position
	var index, term, configIndex int64
	var sum []byte
	err := c.QueryRowContext(ctx, "SELECT idx, term, config_idx, config, digest, pool FROM state").
		Scan(&index, &term, &configIndex, &p.config, &sum, &p.pool)
	if err != nil {
		return p, fmt.Errorf("read position: %w", classify(err))
	}
	if len(sum) != 32 {
		return p, fmt.Errorf("read position: %w: digest of %d bytes", ErrCorrupt, len(sum))
	}
	p.index, p.term, p.configIndex, p.digest = uint64(index), uint64(term), uint64(configIndex), totalOf(sum)
	return p, nil
}

func (a *applier) position() position { return a.at }

// count adds a new row to the digest, uncount takes a removed one out.
func (a *applier) count(r row)   { a.at.digest.add(r); a.scratch = r }
func (a *applier) uncount(r row) { a.at.digest.sub(r); a.scratch = r }

// row returns an empty row to fill for count and uncount.
func (a *applier) row() row { return a.scratch[:0] }

// unit looks a unit up by name, removed ones included.
func (a *applier) unit(ctx context.Context, name string) (unitID, bool, error) {
	if u, ok := a.units[name]; ok {
		return u, true, nil
	}
	var u unitID
	var removed int64
	err := a.stmt.unit.QueryRowContext(ctx, name).Scan(&u.id, &removed)
	if errors.Is(err, sql.ErrNoRows) {
		return u, false, nil
	}
	if err != nil {
		return u, false, fmt.Errorf("look up unit %q: %w", name, err)
	}
	u.removed = removed != 0
	if len(a.units) >= maxCached {
		clear(a.units)
	}
	a.units[name] = u
	return u, true, nil
}

// seriesOf returns the series of a tag, creating it.
func (a *applier) seriesOf(ctx context.Context, k seriesKey) (*seriesID, error) {
	if s, ok := a.series[k]; ok {
		return s, nil
	}
	s := &seriesID{newest: math.MinInt64}
	err := a.stmt.seriesID.QueryRowContext(ctx, k.unit, k.node, k.group, k.tag).Scan(&s.id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		res, err := a.stmt.seriesAdd.ExecContext(ctx, k.unit, k.node, k.group, k.tag)
		if err != nil {
			return nil, fmt.Errorf("add tag %q: %w", k.tag, err)
		}
		if s.id, err = res.LastInsertId(); err != nil {
			return nil, err
		}
		a.count(rowSeries(a.row(), s.id, k.unit, k.node, k.group, k.tag))
	case err != nil:
		return nil, fmt.Errorf("look up tag %q: %w", k.tag, err)
	default:
		if err := a.flush(ctx); err != nil { // its rows may be among those not written yet
			return nil, err
		}
		var newest sql.NullInt64
		if err := a.stmt.seriesNewest.QueryRowContext(ctx, s.id).Scan(&newest); err != nil {
			return nil, fmt.Errorf("look up tag %q: %w", k.tag, err)
		}
		if newest.Valid {
			s.newest = newest.Int64
		}
	}
	if len(a.series) >= maxCached {
		clear(a.series)
	}
	a.series[k] = s
	return s, nil
}

// streamOf returns the stream of sequences of one boot of a unit, creating it.
func (a *applier) streamOf(ctx context.Context, k streamKey) (*streamID, error) {
	if s, ok := a.streams[k]; ok {
		return s, nil
	}
	s := &streamID{highest: -1}
	err := a.stmt.stream.QueryRowContext(ctx, k.unit, k.boot).Scan(&s.id)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		res, err := a.stmt.streamAdd.ExecContext(ctx, k.unit, k.boot)
		if err != nil {
			return nil, fmt.Errorf("add boot %q: %w", k.boot, err)
		}
		if s.id, err = res.LastInsertId(); err != nil {
			return nil, err
		}
		a.count(rowStream(a.row(), s.id, k.unit, k.boot))
	case err != nil:
		return nil, fmt.Errorf("look up boot %q: %w", k.boot, err)
	default:
		if err := a.flush(ctx); err != nil {
			return nil, err
		}
		var highest sql.NullInt64
		if err := a.stmt.streamHighest.QueryRowContext(ctx, s.id).Scan(&highest); err != nil {
			return nil, fmt.Errorf("look up boot %q: %w", k.boot, err)
		}
		if highest.Valid {
			s.highest = highest.Int64
		}
	}
	if len(a.streams) >= maxCached {
		clear(a.streams)
	}
	a.streams[k] = s
	return s, nil
}

// flush writes the pending rows.
func (a *applier) flush(ctx context.Context) error {
	for m := a.messages; len(m) > 0; {
		st, n := a.stmt.message, 1
		if len(m) >= chunk {
			st, n = a.stmt.messages, chunk
		}
		args := a.args[:0]
		for i := range m[:n] {
			args = append(args, m[i].stream, m[i].seq, m[i].hash, m[i].received)
		}
		if _, err := st.ExecContext(ctx, args...); err != nil {
			return fmt.Errorf("store %d messages: %w", n, err)
		}
		a.args, m = args, m[n:]
	}
	a.messages = a.messages[:0]
	for r := a.samples; len(r) > 0; {
		st, n := a.stmt.sample, 1
		if len(r) >= chunk {
			st, n = a.stmt.samples, chunk
		}
		args := a.args[:0]
		for i := range r[:n] {
			args = append(args, r[i].series, r[i].sourceMS, r[i].hash, r[i].origin, orNull(r[i].seq, -1), r[i].delayMS, r[i].kind, r[i].value, orNull(r[i].err, 0))
		}
		if _, err := st.ExecContext(ctx, args...); err != nil {
			return fmt.Errorf("store %d readings: %w", n, err)
		}
		a.args, r = args, r[n:]
	}
	a.samples = a.samples[:0]
	return nil
}

// orNull returns nil for the value that means "none".
func orNull(v, none int64) any {
	if v == none {
		return nil
	}
	return v
}
