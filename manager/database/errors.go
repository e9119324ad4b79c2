package database

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors of opening and of taking in a file.
var (
	// ErrForeign: the file is SQLite or something else, but not a database of this product.
	ErrForeign = errors.New("not a database of this product")
	// ErrNewer: the file was written by a newer version, whose schema is unknown here.
	ErrNewer = errors.New("written by a newer version: upgrade this node first")
	// ErrCorrupt: SQLite found the file damaged.
	ErrCorrupt = errors.New("database file is damaged")
	// ErrLocked: another process has this folder open.
	ErrLocked = errors.New("folder is in use by another process")
	// ErrMismatch: the content of a copy is not what its description says.
	ErrMismatch = errors.New("copy does not match its description")
	// ErrOtherPool: a copy belongs to another pool than expected.
	ErrOtherPool = errors.New("copy belongs to another pool")
)

// Errors of using a Store.
var (
	// ErrClosed: the Store was closed.
	ErrClosed = errors.New("database is closed")
	// ErrReplaced: the file was replaced while this reader was open; read again.
	ErrReplaced = errors.New("database was replaced by a newer copy while it was read")
	// ErrNotFound: there is no such row.
	ErrNotFound = errors.New("not found")
	// ErrFull: the disk or the quota is full; nothing of the call was stored.
	ErrFull = errors.New("disk is full")
	// ErrReadOnly: the file system is read-only; nothing of the call was stored.
	ErrReadOnly = errors.New("file system is read-only")
	// ErrIO: the disk reported an error; nothing of the call was stored.
	ErrIO = errors.New("disk reported an error")
	// ErrNoCopy: there is no complete incoming copy.
	ErrNoCopy = errors.New("no complete copy has been received")
	// ErrProbeHung: an earlier probe of this disk has not returned yet.
	ErrProbeHung = errors.New("an earlier write to this disk has not returned")
	// ErrRefusedSQL: the statement is not a single SELECT, or names what may not be read.
	ErrRefusedSQL = errors.New("only one SELECT on the public views and tables is allowed")
)

// Errors of commands. They are part of the replicated state: a repeated command gets the same
// one again, on every node.
var (
	// ErrUnknownUnit: no such unit, or it was removed.
	ErrUnknownUnit = errors.New("no such field unit")
	// ErrUnitExists: a unit of this name exists already.
	ErrUnitExists = errors.New("field unit exists already")
	// ErrUnknownUser: no such user.
	ErrUnknownUser = errors.New("no such user")
	// ErrUnknownSetting: no such setting.
	ErrUnknownSetting = errors.New("no such setting")
	// ErrStale: the sequence is older than the results that are kept for its client; whether
	// it was applied is not known any more.
	ErrStale = errors.New("command is too old: its result is no longer kept")
	// ErrPoolSet: the database belongs to a pool already, and it is another one.
	ErrPoolSet = errors.New("database belongs to another pool already")
	// ErrKeyReused: the key of a Once was used for another request.
	ErrKeyReused = errors.New("key was used for another request")
)

// Errors of Encode and Decode.
var (
	// ErrInvalid: a field of the command is outside its range.
	ErrInvalid = errors.New("invalid command")
	// ErrVersion: the encoding is of a version unknown here.
	ErrVersion = errors.New("unknown command version")
	// ErrKind: the kind of the command is unknown here.
	ErrKind = errors.New("unknown command kind")
	// ErrChecksum: the bytes of the command are damaged.
	ErrChecksum = errors.New("command checksum does not match")
)

// EntryError says that a committed entry cannot be applied. It is fatal: skipping the entry
// would let this node's content differ from the others'.
type EntryError struct {
	Index uint64
	Err   error
}

func (e *EntryError) Error() string {
	return fmt.Sprintf("log entry %d: %v: this node must not go on; replace its database by a copy", e.Index, e.Err)
}

func (e *EntryError) Unwrap() error { return e.Err }

// classify wraps an error of the driver with the sentinel that callers test for.
func classify(err error) error {
	var se *sqlite.Error
	if err == nil || !errors.As(err, &se) {
		return err
	}
	switch se.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w: %w", ErrFull, err)
	case sqlite3.SQLITE_READONLY:
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%w: %w", ErrIO, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// osError does the same for an error of the operating system.
func osError(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, ErrReplaced), errors.Is(err, ErrClosed):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return fmt.Errorf("%w: %w", ErrIO, err)
}

// errBadConn makes the pool throw a connection away.
var errBadConn = driver.ErrBadConn
