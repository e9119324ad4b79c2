package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"sync"
)

// View is the whole content at one index. It costs next to nothing until it is read; while
// it is open the WAL cannot be begun anew, so close it soon.
type View struct {
	Index, Term        uint64
	ConfigurationIndex uint64
	Configuration      []byte
	Pool               string
	Digest             [32]byte
	// Size is the exact number of bytes that Read yields.
	Size int64

	visit *visit
	end   context.CancelCauseFunc

	mu    sync.Mutex // one Read or Close at a time
	ctx   context.Context
	conn  *sql.Conn
	rows  *sql.Rows
	rest  []byte // of the page read last
	pages int64  // read so far
	err   error  // once set, for ever
}

// View pins the content as it is now. ctx bounds only the call itself. A Replace ends the
// view: Read then returns ErrReplaced.
func (s *Store) View(ctx context.Context) (*View, error) {
	vctx, end := context.WithCancelCause(context.Background())
	v := &View{ctx: vctx, end: end}
	visit, err := s.gate.enter(ctx, v.evict)
	if err != nil {
		end(err)
		return nil, fmt.Errorf("view database: %w", err)
	}
	if err := v.pin(ctx, visit, s.files.views); err != nil {
		return nil, fmt.Errorf("view database: %w", errors.Join(classify(err), v.Close()))
	}
	return v, nil
}

func (v *View) pin(ctx context.Context, visit *visit, db *sql.DB) (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.visit = visit
	if v.err != nil {
		return v.err
	}
	if v.conn, err = db.Conn(ctx); err != nil {
		return err
	}
	// BEGIN alone pins nothing; the first read does.
	if _, err := v.conn.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	p, err := readPosition(ctx, v.conn)
	if err != nil {
		return err
	}
	var count, size int64
	if err := v.conn.QueryRowContext(ctx, "PRAGMA page_count").Scan(&count); err != nil {
		return err
	}
	if err := v.conn.QueryRowContext(ctx, "PRAGMA page_size").Scan(&size); err != nil {
		return err
	}
	v.Index, v.Term, v.ConfigurationIndex, v.Configuration = p.index, p.term, p.configIndex, p.config
	v.Pool, v.Digest, v.Size = p.pool, p.digest.bytes(), count*size
	return nil
}

// Read yields the pages of the view, Size bytes in all: a SQLite file.
func (v *View) Read(b []byte) (n int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil {
		return 0, v.err
	}
	if len(v.rest) == 0 {
		if err := v.page(); err != nil {
			if cause := context.Cause(v.ctx); cause != nil {
				err = cause
			}
			v.err = err
			return 0, err
		}
	}
	n = copy(b, v.rest)
	v.rest = v.rest[n:]
	return n, nil
}

// page reads the next page as the pinned transaction sees it, the WAL included.
func (v *View) page() (err error) {
	if v.rows == nil {
		if v.rows, err = v.conn.QueryContext(v.ctx, "SELECT data FROM sqlite_dbpage ORDER BY pgno"); err != nil {
			return fmt.Errorf("read view: %w", classify(err))
		}
	}
	if !v.rows.Next() {
		if err := v.rows.Err(); err != nil {
			return fmt.Errorf("read view: %w", classify(err))
		}
		if v.pages != v.Size {
			return fmt.Errorf("read view: %w: %d of %d bytes", ErrCorrupt, v.pages, v.Size)
		}
		return io.EOF
	}
	var data []byte
	if err := v.rows.Scan(&data); err != nil {
		return fmt.Errorf("read view: %w", classify(err))
	}
	v.rest = data
	v.pages += int64(len(data))
	if len(data) == 0 || v.pages > v.Size {
		return fmt.Errorf("read view: %w: more than %d bytes", ErrCorrupt, v.Size)
	}
	return nil
}

// Close releases the view. Closing again does nothing.
func (v *View) Close() error { return v.close(ErrClosed) }

// evict is Close for the one who replaces the file.
func (v *View) evict(reason error) { _ = v.close(reason) }

func (v *View) close(reason error) error {
	v.end(reason) // a Read under way ends
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.visit == nil {
		v.err = reason // evicted between entering and pinning
		return nil
	}
	var errs []error
	if v.rows != nil {
		errs = append(errs, v.rows.Close())
		v.rows = nil
	}
	if v.conn != nil {
		_, err := v.conn.ExecContext(context.Background(), "ROLLBACK")
		if err != nil { // do not give a connection back that still holds the view
			_ = v.conn.Raw(func(any) error { return errBadConn })
		}
		errs = append(errs, v.conn.Close())
		v.conn = nil
	}
	if v.err == nil || errors.Is(v.err, io.EOF) {
		v.err = reason
	}
	v.visit.leave()
	if err := errors.Join(errs...); err != nil && errors.Is(reason, ErrClosed) && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close view: %w", err)
	}
	return nil
}
