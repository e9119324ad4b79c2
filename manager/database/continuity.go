package database

import (
	"context"
	"database/sql"
	"fmt"
)

// Mark is how far one unit had come at one moment, such as a change of Primary.
type Mark struct {
	Unit    string
	id      int64
	Boot    string // the newest one
	stream  int64  // 0: the unit has never numbered what it sends
	LastSeq uint64 // the highest number of that boot
}

// Numbered reports whether the unit numbers its telemetry, so that a loss would show.
func (m Mark) Numbered() bool { return m.stream != 0 }

// Marks returns the Mark of every unit. It costs some seeks per unit, however much is stored.
func (s *Store) Marks(ctx context.Context) (all []Mark, err error) {
	err = s.read(ctx, "marks of the units", func(db *sql.DB) error {
		all, err = list(ctx, db, func(r *sql.Rows, m *Mark) error {
			var last int64
			err := r.Scan(&m.Unit, &m.id, &m.Boot, &m.stream, &last)
			m.LastSeq = uint64(last)
			return err
		}, `SELECT u.name, u.id, coalesce(t.boot, ''), coalesce(t.id, 0), coalesce((SELECT max(seq) FROM message m WHERE m.stream = t.id), 0)
			FROM unit_row u LEFT JOIN stream t ON t.id = (SELECT max(id) FROM stream x WHERE x.unit = u.id)
			WHERE u.removed_ms = 0 ORDER BY u.name`)
		return err
	})
	return all, err
}

// boundary is how many numbers before a mark belong to the check as well: what a unit may have had
// on its way when Primary changed.
const boundary = 64

// Continuity is what a check of one unit around its mark found.
type Continuity struct {
	Numbered bool  // numbers were compared, so a loss would show
	Records  int64 // looked at
	After    int64 // of them, stored after the mark
	Before   int64 // stored in the time before the mark that was asked for
	Lost     int64 // numbers that are missing between others
	Twice    int64 // numbers, or times at the source, that came with two contents
	// Findings name the first gaps and doubles.
	Findings []string
}

const mostFindings = 5

// Continuity checks what is stored of a unit around a mark: its numbers for gaps and doubles or,
// when it does not number what it sends, its readings since sourceMS for two values at one time.
// Records received from beforeMS until the mark are counted as Before.
func (s *Store) Continuity(ctx context.Context, m Mark, beforeMS, sourceMS int64) (c Continuity, err error) {
	err = s.read(ctx, "records around a mark", func(db *sql.DB) error {
		streams, err := list(ctx, db, func(r *sql.Rows, id *int64) error { return r.Scan(id) },
			"SELECT id FROM stream WHERE unit = ? AND id >= ? ORDER BY id", m.id, max(m.stream, 1))
		if err != nil {
			return err
		}
		for _, id := range streams {
			from := int64(0)
			if id == m.stream {
				from = max(0, int64(m.LastSeq)-boundary+1)
				err := db.QueryRowContext(ctx, "SELECT count(*) FROM message WHERE stream = ? AND seq BETWEEN ? AND ? AND received_ms >= ?",
					id, max(0, int64(m.LastSeq)-100*boundary), int64(m.LastSeq), beforeMS).Scan(&c.Before)
				if err != nil {
					return err
				}
			}
			if err := c.stream(ctx, db, m, id, from); err != nil {
				return err
			}
		}
		if len(streams) > 0 {
			return nil
		}
		return c.times(ctx, db, m, sourceMS)
	})
	return c, err
}

// stream checks the numbers of one boot from a number on.
func (c *Continuity) stream(ctx context.Context, db *sql.DB, m Mark, id, from int64) error {
	var least, most, numbers, messages, after int64
	err := db.QueryRowContext(ctx, `SELECT coalesce(min(seq), 0), coalesce(max(seq), -1), count(DISTINCT seq), count(*), coalesce(sum(seq > ?3 OR stream > ?4), 0)
		FROM message WHERE stream = ?1 AND seq >= ?2`, id, from, int64(m.LastSeq), m.stream).Scan(&least, &most, &numbers, &messages, &after)
	if err != nil || messages == 0 {
		return err
	}
	c.Numbered = true
	c.Records += messages
	c.After += after
	lost, twice := most-least+1-numbers, messages-numbers
	c.Lost += lost
	c.Twice += twice
	if lost > 0 {
		gaps, err := list(ctx, db, func(r *sql.Rows, g *[2]int64) error { return r.Scan(&g[0], &g[1]) },
			`SELECT before + 1, seq - 1 FROM (SELECT seq, lag(seq) OVER (ORDER BY seq) AS before FROM message WHERE stream = ? AND seq >= ?)
			WHERE seq > before + 1 LIMIT ?`, id, from, mostFindings)
		if err != nil {
			return err
		}
		for _, g := range gaps {
			c.find("%s: number %d to %d is missing", m.Unit, g[0], g[1])
		}
	}
	if twice > 0 {
		doubles, err := list(ctx, db, func(r *sql.Rows, seq *int64) error { return r.Scan(seq) },
			"SELECT seq FROM message WHERE stream = ? AND seq >= ? GROUP BY seq HAVING count(*) > 1 LIMIT ?", id, from, mostFindings)
		if err != nil {
			return err
		}
		for _, seq := range doubles {
			c.find("%s: number %d is stored with two contents", m.Unit, seq)
		}
	}
	return nil
}

// times looks for two values of one tag at one time.
func (c *Continuity) times(ctx context.Context, db *sql.DB, m Mark, sourceMS int64) error {
	var at, doubled, rows int64
	err := db.QueryRowContext(ctx, `SELECT coalesce(min(source_ms), 0), count(*), coalesce(sum(n), 0) FROM (
		SELECT r.source_ms, count(*) AS n FROM series s CROSS JOIN sample_row r ON r.series = s.id AND r.source_ms >= ?2 AND r.origin = 0
		WHERE s.unit = ?1 GROUP BY r.series, r.source_ms) WHERE n > 1`, m.id, sourceMS).Scan(&at, &doubled, &rows)
	if err != nil {
		return err
	}
	c.Twice += rows - doubled
	if doubled > 0 {
		c.find("%s: a tag has two values at its time %d", m.Unit, at)
	}
	return db.QueryRowContext(ctx, `SELECT count(DISTINCT r.source_ms) FROM series s CROSS JOIN sample_row r ON r.series = s.id AND r.source_ms >= ?2 AND r.seq IS NULL
		WHERE s.unit = ?1`, m.id, sourceMS).Scan(&c.Records)
}

func (c *Continuity) find(format string, args ...any) {
	if len(c.Findings) < mostFindings {
		c.Findings = append(c.Findings, fmt.Sprintf(format, args...))
	}
}
