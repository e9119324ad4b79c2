package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"redundancypool/fieldunit"
)

// Unit is a field unit that may log in.
type Unit struct {
	Name      string
	Secret    [32]byte // SHA-256 of its secret
	NoSecret  bool     // it came from a saved copy and cannot log in
	CreatedMS int64
}

// User is a person that may log in. After Restore on another node Hash may be empty: no login.
type User struct {
	Name       string
	Hash       string // argon2 string
	Generation uint64
}

// Sample is one reading as it is stored.
type Sample struct {
	Unit, Node, Group, Tag string
	SourceMS               int64
	ReceivedMS             int64 // clock of the Primary of that time
	HasSeq                 bool
	Seq                    uint64
	Value                  fieldunit.Value
	Error                  int64
}

// Changeover is one change of Primary.
type Changeover struct {
	ID   int64
	AtMS int64
	JSON string
}

// read runs f on a read-only connection. It ends when ctx ends.
func (s *Store) read(ctx context.Context, what string, f func(*sql.DB) error) error {
	v, err := s.gate.enter(ctx, nil)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	defer v.leave()
	err = f(s.files.readers)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", what, classify(err))
	}
	return nil
}

// list runs a query and scans each row.
func list[T any](ctx context.Context, db *sql.DB, scan func(*sql.Rows, *T) error, query string, args ...any) (all []T, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var t T
		if err := scan(rows, &t); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

const unitQuery = "SELECT u.name, s.hash, u.created_ms FROM unit_row u LEFT JOIN secret_unit s ON s.unit = u.id WHERE u.removed_ms = 0"

func (u *Unit) scan(scan func(...any) error) error {
	var hash []byte
	if err := scan(&u.Name, &hash, &u.CreatedMS); err != nil {
		return err
	}
	if u.NoSecret = hash == nil; u.NoSecret {
		return nil
	}
	if len(hash) != len(u.Secret) {
		return fmt.Errorf("%w: secret of unit %q has %d bytes", ErrCorrupt, u.Name, len(hash))
	}
	copy(u.Secret[:], hash)
	return nil
}

// Unit returns the field unit of this name. ErrNotFound.
func (s *Store) Unit(ctx context.Context, name string) (u Unit, err error) {
	err = s.read(ctx, "unit", func(db *sql.DB) error {
		return u.scan(db.QueryRowContext(ctx, unitQuery+" AND u.name = ?", name).Scan)
	})
	return u, err
}

// Units returns all field units by name.
func (s *Store) Units(ctx context.Context) (all []Unit, err error) {
	err = s.read(ctx, "units", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, func(r *sql.Rows, u *Unit) error { return u.scan(r.Scan) }, unitQuery+" ORDER BY u.name")
		return err
	})
	return all, err
}

// Setting returns a replicated setting. ErrNotFound.
func (s *Store) Setting(ctx context.Context, key string) (value string, err error) {
	err = s.read(ctx, "setting "+key, func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT value FROM setting_row WHERE key = ?", key).Scan(&value)
	})
	return value, err
}

// Settings returns the replicated settings whose key begins with prefix.
func (s *Store) Settings(ctx context.Context, prefix string) (map[string]string, error) {
	all := map[string]string{}
	err := s.read(ctx, "settings", func(db *sql.DB) error {
		pairs, err := list(ctx, db, func(r *sql.Rows, kv *[2]string) error { return r.Scan(&kv[0], &kv[1]) },
			"SELECT key, value FROM setting_row WHERE substr(key, 1, length(?1)) = ?1", prefix)
		for _, kv := range pairs {
			all[kv[0]] = kv[1]
		}
		return err
	})
	return all, err
}

const userQuery = "SELECT u.name, coalesce(s.hash, ''), u.generation FROM user_row u LEFT JOIN secret_user s ON s.name = u.name"

func (u *User) scan(scan func(...any) error) error {
	var generation int64
	err := scan(&u.Name, &u.Hash, &generation)
	u.Generation = uint64(generation)
	return err
}

// User returns the user of this name. ErrNotFound.
func (s *Store) User(ctx context.Context, name string) (u User, err error) {
	err = s.read(ctx, "user", func(db *sql.DB) error {
		return u.scan(db.QueryRowContext(ctx, userQuery+" WHERE u.name = ?", name).Scan)
	})
	return u, err
}

// Users returns all users by name.
func (s *Store) Users(ctx context.Context) (all []User, err error) {
	err = s.read(ctx, "users", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, func(r *sql.Rows, u *User) error { return u.scan(r.Scan) }, userQuery+" ORDER BY u.name")
		return err
	})
	return all, err
}

// EventFilter selects events; zero fields select all.
type EventFilter struct {
	AfterID                        int64 // only later ones: to follow
	SinceMS, UntilMS               int64 // time_ms from SinceMS on, before UntilMS
	Severity, Category, Code, Node string
	Text                           string // contained in message or cause
	Oldest                         bool   // oldest first; else newest first
	Limit                          int    // 0: 1,000
}

// Events returns the events that f selects.
func (s *Store) Events(ctx context.Context, f EventFilter) (all []Event, err error) {
	where, args := []string{"id > ?"}, []any{f.AfterID}
	add := func(use bool, cond string, arg any) {
		if use {
			where, args = append(where, cond), append(args, arg)
		}
	}
	add(f.SinceMS != 0, "time_ms >= ?", f.SinceMS)
	add(f.UntilMS != 0, "time_ms < ?", f.UntilMS)
	add(f.Severity != "", "severity = ?", f.Severity)
	add(f.Category != "", "category = ?", f.Category)
	add(f.Code != "", "code = ?", f.Code)
	add(f.Node != "", "node = ?", f.Node)
	add(f.Text != "", "instr(message || char(10) || cause, ?) > 0", f.Text)
	order := "DESC"
	if f.Oldest {
		order = "ASC"
	}
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	err = s.read(ctx, "events", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, func(r *sql.Rows, e *Event) error { return r.Scan(e.fields()...) },
			"SELECT "+eventColumns+" FROM event_row WHERE "+strings.Join(where, " AND ")+" ORDER BY id "+order+" LIMIT ?", append(args, f.Limit)...)
		return err
	})
	return all, err
}

// EventsBack returns the newest events by time before (timeMS, id), newest first; among those of one
// millisecond the higher id is the newer. It reads limit rows at most.
func (s *Store) EventsBack(ctx context.Context, timeMS, id int64, limit int) (all []Event, err error) {
	err = s.read(ctx, "events", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, func(r *sql.Rows, e *Event) error { return r.Scan(e.fields()...) },
			"SELECT "+eventColumns+" FROM event_row WHERE (time_ms, id) < (?, ?) ORDER BY time_ms DESC, id DESC LIMIT ?", timeMS, id, limit)
		return err
	})
	return all, err
}

// Changeovers returns the newest changes of Primary, newest first; limit 0: 100.
func (s *Store) Changeovers(ctx context.Context, limit int) (all []Changeover, err error) {
	if limit <= 0 {
		limit = 100
	}
	err = s.read(ctx, "changeovers", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, func(r *sql.Rows, c *Changeover) error { return r.Scan(&c.ID, &c.AtMS, &c.JSON) },
			"SELECT id, at_ms, record FROM changeover_row ORDER BY id DESC LIMIT ?", limit)
		return err
	})
	return all, err
}

// SampleFilter selects readings of one tag, or with empty fields of more; Unit is needed.
type SampleFilter struct {
	Unit             string
	Node, Group, Tag *string // nil: any
	SinceMS, UntilMS int64   // source time from SinceMS on, before UntilMS; 0: open
	Limit            int     // 0: 1,000
}

const sampleQuery = `SELECT u.name, s.node, s.grp, s.tag, r.source_ms, r.source_ms + r.delay_ms, r.seq, r.kind, r.value, r.error
	FROM unit_row u JOIN series s ON s.unit = u.id JOIN sample_row r ON r.series = s.id`

func scanReading(r *sql.Rows, s *Sample) error {
	var seq, code sql.NullInt64
	var kind int64
	var value any
	if err := r.Scan(&s.Unit, &s.Node, &s.Group, &s.Tag, &s.SourceMS, &s.ReceivedMS, &seq, &kind, &value, &code); err != nil {
		return err
	}
	if b, ok := value.([]byte); ok {
		value = string(b)
	}
	s.HasSeq, s.Seq, s.Error = seq.Valid, uint64(seq.Int64), code.Int64
	s.Value = valueOf(kind, value)
	return nil
}

// Samples returns the newest readings that f selects, newest first within a tag.
func (s *Store) Samples(ctx context.Context, f SampleFilter) (all []Sample, err error) {
	where, args := []string{"u.name = ?"}, []any{f.Unit}
	for _, c := range []struct {
		column string
		value  *string
	}{{"s.node", f.Node}, {"s.grp", f.Group}, {"s.tag", f.Tag}} {
		if c.value != nil {
			where, args = append(where, c.column+" = ?"), append(args, *c.value)
		}
	}
	if f.SinceMS != 0 {
		where, args = append(where, "r.source_ms >= ?"), append(args, f.SinceMS)
	}
	if f.UntilMS != 0 {
		where, args = append(where, "r.source_ms < ?"), append(args, f.UntilMS)
	}
	if f.Limit <= 0 {
		f.Limit = 1000
	}
	err = s.read(ctx, "samples", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, scanReading, sampleQuery+" WHERE "+strings.Join(where, " AND ")+
			" ORDER BY s.id, r.source_ms DESC, r.hash DESC LIMIT ?", append(args, f.Limit)...)
		return err
	})
	return all, err
}

// Tags returns the last reading of each tag of a unit.
func (s *Store) Tags(ctx context.Context, unit string) (all []Sample, err error) {
	err = s.read(ctx, "tags", func(db *sql.DB) (err error) {
		all, err = list(ctx, db, scanReading, sampleQuery+` WHERE u.name = ? AND (r.source_ms, r.hash) =
			(SELECT m.source_ms, m.hash FROM sample_row m WHERE m.series = s.id ORDER BY m.source_ms DESC, m.hash DESC LIMIT 1) ORDER BY s.id`, unit)
		return err
	})
	return all, err
}

// Stats are figures for operators.
type Stats struct {
	FileBytes, WALBytes int64
	Units, Tags         int64
	Events, Changeovers int64
	LastEventID         int64
	Canary              int64 // counter
	CanaryMS            int64 // when it was raised last, by the proposer's clock
}

// Stats counts what is cheap to count.
func (s *Store) Stats(ctx context.Context) (st Stats, err error) {
	err = s.read(ctx, "figures", func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM unit_row WHERE removed_ms = 0), (SELECT count(*) FROM series),
			(SELECT count(*) FROM event_row), (SELECT count(*) FROM changeover_row), (SELECT coalesce(max(id), 0) FROM event_row), canary, canary_ms FROM state`).
			Scan(&st.Units, &st.Tags, &st.Events, &st.Changeovers, &st.LastEventID, &st.Canary, &st.CanaryMS)
	})
	for name, to := range map[string]*int64{fileName: &st.FileBytes, fileName + "-wal": &st.WALBytes} {
		if info, statErr := os.Stat(s.path(name)); statErr == nil {
			*to = info.Size()
		}
	}
	return st, err
}
