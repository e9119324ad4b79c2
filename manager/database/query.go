package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Rows are the rows of a Query. Used by one goroutine; Close is always due.
type Rows struct {
	Columns []string

	visit  *visit
	end    context.CancelCauseFunc
	cancel context.CancelFunc
	ctx    context.Context
	limit  int

	mu     sync.Mutex
	conn   *sql.Conn
	rows   *sql.Rows
	values []any
	n      int
	more   bool
	err    error
}

// Query runs one SELECT (or WITH, VALUES) on a read-only connection and returns at most limit
// rows (0: all), within Config.QueryTime from start to last row. It sees one consistent state.
// Password hashes, secrets and raw pages cannot be read. ErrRefusedSQL; a mistake in the
// statement is SQLite's own message; ErrReplaced when a Replace ends it.
func (s *Store) Query(ctx context.Context, statement string, limit int) (*Rows, error) {
	if err := checkSelect(statement); err != nil {
		return nil, fmt.Errorf("query: %w", err)
	}
	qctx, end := context.WithCancelCause(ctx)
	qctx, cancel := context.WithTimeoutCause(qctx, s.cfg.QueryTime, fmt.Errorf("query took longer than %v: narrow it with WHERE or LIMIT", s.cfg.QueryTime))
	r := &Rows{end: end, cancel: cancel, ctx: qctx, limit: limit}
	visit, err := s.gate.enter(ctx, func(reason error) { end(reason); _ = r.Close() })
	if err != nil {
		cancel()
		end(err)
		return nil, fmt.Errorf("query: %w", err)
	}
	if err := r.start(visit, s.files.queries, statement); err != nil {
		err = r.cause(err)
		return nil, fmt.Errorf("query: %w", errors.Join(err, r.Close()))
	}
	return r, nil
}

func (r *Rows) start(visit *visit, db *sql.DB, statement string) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.visit = visit
	if r.conn, err = db.Conn(r.ctx); err != nil {
		return err
	}
	// query_only keeps from writing; without ATTACH there is no other file to write or read.
	if _, err = sqlite.Limit(r.conn, sqlite3.SQLITE_LIMIT_ATTACHED, 0); err != nil {
		return err
	}
	if r.rows, err = r.conn.QueryContext(r.ctx, statement); err != nil {
		return err
	}
	r.Columns, err = r.rows.Columns()
	return err
}

// cause returns why r was ended, if it was, else err.
func (r *Rows) cause(err error) error {
	if cause := context.Cause(r.ctx); err != nil && cause != nil {
		return cause
	}
	return classify(err)
}

// Next moves to the next row; false at the end, at the limit and after an error (see Err).
func (r *Rows) Next() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rows == nil || r.err != nil || r.more {
		return false
	}
	if !r.rows.Next() {
		r.err = r.cause(r.rows.Err())
		return false
	}
	if r.limit > 0 && r.n == r.limit {
		r.more = true
		return false
	}
	values, into := make([]any, len(r.Columns)), make([]any, len(r.Columns))
	for i := range values {
		into[i] = &values[i]
	}
	if err := r.rows.Scan(into...); err != nil {
		r.err = r.cause(err)
		return false
	}
	r.values = values
	r.n++
	return true
}

// Values returns the row: nil, int64, float64, string or []byte per column. The caller owns it.
func (r *Rows) Values() []any { return r.values }

// More reports that the limit cut rows off.
func (r *Rows) More() bool { return r.more }

// Err returns what ended Next early.
func (r *Rows) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return fmt.Errorf("query: %w", r.err)
	}
	return nil
}

// Close releases the rows. Closing again does nothing.
func (r *Rows) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && r.rows != nil {
		if cause := context.Cause(r.ctx); cause != nil {
			r.err = cause
		}
	}
	var errs []error
	if r.rows != nil {
		errs = append(errs, r.rows.Close())
		r.rows = nil
	}
	if r.conn != nil {
		errs = append(errs, r.conn.Close())
		r.conn = nil
	}
	r.cancel()
	r.end(ErrClosed)
	if r.visit != nil {
		r.visit.leave()
	}
	if err := errors.Join(errs...); err != nil && r.err == nil {
		return fmt.Errorf("close query: %w", err)
	}
	return nil
}

// checkSelect refuses what is not one SELECT, and what names a secret table. The connection is read-only as well; this is for what reading alone must not do.
func checkSelect(statement string) error {
	if strings.ContainsRune(statement, 0) {
		return fmt.Errorf("%w: it contains NUL", ErrRefusedSQL)
	}
	// Anywhere, also in a text: so it does not matter how SQLite would divide the statement.
	for _, table := range secretTables {
		if strings.Contains(strings.ToLower(statement), table) {
			return fmt.Errorf("%w: %s may not be read", ErrRefusedSQL, table)
		}
	}
	first, ended := "", false
	for rest := statement; ; {
		token, quoted, after := nextToken(rest)
		if token == "" && !quoted && after == "" {
			break
		}
		rest = after
		switch {
		case ended:
			return fmt.Errorf("%w: there is more after the ';'", ErrRefusedSQL)
		case token == ";" && !quoted:
			ended = true
			continue
		case first == "":
			first = strings.ToUpper(token)
		}
	}
	switch first {
	case "SELECT", "WITH", "VALUES":
		return nil
	}
	return fmt.Errorf("%w: it begins with %q", ErrRefusedSQL, first)
}

// nextToken returns the next token of SQL without its quotes, and the rest. Words and quoted
// texts are whole, other characters single; comments and blanks are skipped.
func nextToken(s string) (token string, quoted bool, rest string) {
	for {
		s = strings.TrimLeft(s, " \t\r\n\f")
		switch {
		case strings.HasPrefix(s, "--"):
			_, s, _ = strings.Cut(s, "\n")
		case strings.HasPrefix(s, "/*"):
			_, s, _ = strings.Cut(s[2:], "*/")
		case s == "":
			return "", false, ""
		default:
			return oneToken(s)
		}
	}
}

func oneToken(s string) (token string, quoted bool, rest string) {
	quote := s[0]
	switch quote {
	case '[':
		token, rest, _ = strings.Cut(s[1:], "]")
		return token, true, rest
	case '\'', '"', '`':
		var b strings.Builder
		for i := 1; i < len(s); i++ {
			if s[i] != quote {
				b.WriteByte(s[i])
				continue
			}
			if i+1 < len(s) && s[i+1] == quote { // doubled: one of it, inside
				b.WriteByte(quote)
				i++
				continue
			}
			return b.String(), true, s[i+1:]
		}
		return b.String(), true, ""
	}
	n := strings.IndexFunc(s, func(r rune) bool { return !isWord(r) })
	switch n {
	case -1:
		return s, false, ""
	case 0:
		return s[:1], false, s[1:]
	}
	return s[:n], false, s[n:]
}

// isWord follows SQLite: letters, digits, _ and $, and everything beyond ASCII.
func isWord(r rune) bool {
	return r == '_' || r == '$' || r >= 0x80 || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
