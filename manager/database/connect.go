package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"modernc.org/sqlite"
)

// dsn names path as a URI, so that no character of a folder's name is taken for an option.
func dsn(path, options string) string {
	u := url.URL{Path: path}
	return "file:" + u.EscapedPath() + "?" + options
}

// writerOptions: checkpoints are ours (wal_autocheckpoint would run one inside a commit);
// synchronous NORMAL keeps the file whole through a power cut (SQLite, "PRAGMA synchronous").
//
// The VFS unix-excl keeps the WAL's index in this process' memory instead of a mapped file, and the
// file to this process: a disk that hangs then stops the statement that touches it and not, through
// a page fault that no scheduler sees, the whole process (SQLite, "VFSes", 2.1).
const writerOptions = "vfs=unix-excl&_txlock=immediate&_dqs=0&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)" +
	"&_pragma=wal_autocheckpoint(0)&_pragma=journal_size_limit(67108864)&_pragma=cache_size(-16000)&_pragma=temp_store(MEMORY)"

const readerOptions = "vfs=unix-excl&mode=ro&_dqs=0&_pragma=busy_timeout(5000)&_pragma=query_only(1)&_pragma=cache_size(-4000)&_pragma=temp_store(MEMORY)"

// files are the open connections to one file; they are closed and opened as one when the
// file is replaced.
type files struct {
	writer  *sql.DB
	conn    *sql.Conn // the writer's only connection
	check   *sql.DB   // checkpoints
	readers *sql.DB
	views   *sql.DB
	queries *sql.DB
	applier *applier
}

// openFiles opens path, creating and migrating it.
func openFiles(ctx context.Context, path string, readers int) (f *files, from int, err error) {
	f = &files{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close())
		}
	}()
	pool := func(options string, most int) (*sql.DB, error) {
		c, err := sqlite.NewConnector(dsn(path, options))
		if err != nil {
			return nil, err
		}
		db := sql.OpenDB(c)
		db.SetMaxOpenConns(most)
		db.SetMaxIdleConns(most)
		return db, nil
	}
	if f.writer, err = pool(writerOptions, 1); err != nil {
		return f, 0, err
	}
	if f.conn, err = f.writer.Conn(ctx); err != nil {
		return f, 0, classify(err)
	}
	from, to, err := migrate(ctx, f.conn)
	if err != nil {
		return f, from, err
	}
	if from != to {
		if _, err = f.conn.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
			return f, from, classify(err)
		}
	}
	if f.applier, err = newApplier(ctx, f.conn); err != nil {
		return f, from, err
	}
	if f.check, err = pool(writerOptions, 1); err != nil {
		return f, from, err
	}
	if f.readers, err = pool(readerOptions, readers); err != nil {
		return f, from, err
	}
	if f.views, err = pool(readerOptions, 8); err != nil {
		return f, from, err
	}
	f.queries, err = pool(readerOptions, 2)
	return f, from, err
}

// close ends all connections; the last one folds the WAL into the file and removes it.
func (f *files) close() error {
	var errs []error
	for _, db := range []*sql.DB{f.queries, f.views, f.readers, f.check} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if f.applier != nil {
		f.applier.close()
	}
	if f.conn != nil {
		errs = append(errs, f.conn.Close())
	}
	if f.writer != nil {
		errs = append(errs, f.writer.Close())
	}
	return errors.Join(errs...)
}

// quickCheck reads the whole file once. ErrCorrupt names the first finding.
func quickCheck(ctx context.Context, c execer) error {
	var verdict string
	if err := c.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return classify(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", ErrCorrupt, verdict)
	}
	return nil
}

// syncDir makes renames in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncFile makes the content of path durable.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
