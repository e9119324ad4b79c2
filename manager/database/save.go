package database

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
)

// scratchOptions are for a file that nobody else has open and that counts only once it is
// complete and synced by us: no journal on the disk, no sync in between.
const scratchOptions = "_dqs=0&_pragma=journal_mode(MEMORY)&_pragma=synchronous(OFF)&_pragma=temp_store(MEMORY)"

// Save writes a consistent copy of the content to file: without the hashes of passwords and of
// units' secrets, without API tokens (nobody and nothing can log in with it), no private keys,
// nothing of what was deleted before. It is complete and synced when it gets its name.
// An existing file is refused (fs.ErrExist) unless overwrite is set. Apply goes on meanwhile;
// the folder of file needs room for the content twice.
func (s *Store) Save(ctx context.Context, file string, overwrite bool) error {
	if !overwrite {
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("save database: %s: %w: choose another name", file, fs.ErrExist)
		}
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return fmt.Errorf("save database: %w", osError(err))
	}
	defer func() {
		for _, suffix := range []string{"", "-journal", "-wal", "-shm"} {
			_ = os.Remove(tmp.Name() + suffix) // renamed by now, or worth nothing
		}
	}()
	if err := s.saveTo(ctx, tmp); err != nil {
		return fmt.Errorf("save database to %s: %w", file, err)
	}
	if err := publishFile(tmp.Name(), file, overwrite); err != nil {
		return fmt.Errorf("save database to %s: %w", file, err)
	}
	return nil
}

func (s *Store) saveTo(ctx context.Context, tmp *os.File) error {
	if err := s.copyView(ctx, tmp); err != nil {
		return err
	}
	if err := stripLogins(ctx, tmp.Name()); err != nil {
		return classify(err)
	}
	return osError(syncFile(tmp.Name()))
}

// copyView writes a view to tmp and closes it.
func (s *Store) copyView(ctx context.Context, tmp *os.File) (err error) {
	defer func() { err = errors.Join(err, tmp.Close()) }()
	v, err := s.View(ctx)
	if err != nil {
		return err
	}
	defer v.Close()
	w := bufio.NewWriterSize(tmp, 1<<20)
	if _, err := io.Copy(w, contextReader{ctx, v}); err != nil {
		return err
	}
	return w.Flush()
}

// contextReader ends a copy with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

// TokenPrefix begins the keys of the replicated settings that programs log in with. They are in no
// saved copy, and a restored one brings none back.
const TokenPrefix = "token."

const isToken = "substr(key, 1, 6) = '" + TokenPrefix + "'"

// login is a part of a table that somebody can log in with, or that tells how.
type login struct {
	table, where string
	row          func([]any) row // as it counts for the digest
}

// logins are in no saved copy. Whoever adds a table decides whether it belongs here: a test asks.
var logins = []login{
	{"secret_user", "true", func(c []any) row { return rowUserSecret(nil, text(c[0]), text(c[1])) }},
	{"secret_unit", "true", func(c []any) row { return rowUnitSecret(nil, c[0].(int64), c[1].([]byte)) }},
	{"secret_setting", "true", func(c []any) row { return rowSecretSetting(nil, text(c[0]), text(c[1])) }},
	{"notice_row", "true", func(c []any) row { return rowNotice(nil, &Notice{text(c[0]), c[1].(int64), text(c[2]), text(c[3])}) }},
	{"setting_row", isToken, func(c []any) row { return rowSetting(nil, text(c[0]), text(c[1])) }},
	// Answers to keyed requests may show a secret once more, and are about the data of then.
	{"secret_answer", "true", func(c []any) row {
		k := Kept{Scope: text(c[0]), Key: text(c[1]), ExpiresMS: c[3].(int64), Answer: text(c[4])}
		copy(k.Fingerprint[:], c[2].([]byte))
		return rowKept(nil, &k)
	}},
}

// stripLogins removes all logins, and with VACUUM all traces of deleted rows.
func stripLogins(ctx context.Context, path string) (err error) {
	db, err := openScratch(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := readPosition(ctx, db)
	if err != nil {
		return err
	}
	for _, l := range logins {
		if err := eachRow(ctx, db, "SELECT * FROM "+l.table+" WHERE "+l.where, func(cells []any) error {
			p.digest.sub(l.row(cells))
			return nil
		}); err != nil {
			return err
		}
	}
	sum := p.digest.bytes()
	if _, err := db.ExecContext(ctx, "UPDATE state SET digest = ?", sum[:]); err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, deleteLogins()+"VACUUM")
	return err
}

// deleteLogins are the statements that remove all logins.
func deleteLogins() string {
	var b strings.Builder
	for _, l := range logins {
		b.WriteString("DELETE FROM " + l.table + " WHERE " + l.where + "; ")
	}
	return b.String()
}

// eachRow calls do with the cells of each row; they are not kept.
func eachRow(ctx context.Context, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, query string, do func(cells []any) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	cells, into := make([]any, len(names)), make([]any, len(names))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := do(cells); err != nil {
			return err
		}
	}
	return rows.Err()
}

// openScratch opens a file with one connection.
func openScratch(path string) (*sql.DB, error) {
	c, err := sqlite.NewConnector(dsn(path, scratchOptions))
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	return db, nil
}

// publishFile gives tmp its name, without displacing another file unless told to.
func publishFile(tmp, file string, overwrite bool) error {
	var err error
	if overwrite {
		err = os.Rename(tmp, file)
	} else {
		err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, file, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without it
			if err = os.Link(tmp, file); err == nil {
				err = os.Remove(tmp)
			}
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: choose another name", err)
	}
	if err != nil {
		return osError(err)
	}
	return osError(syncDir(filepath.Dir(file)))
}
