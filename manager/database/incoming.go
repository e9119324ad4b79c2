package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	"modernc.org/sqlite"
)

// Copy describes a copy that was received.
type Copy struct {
	Index              uint64 `json:"index"`
	Term               uint64 `json:"term"`
	ConfigurationIndex uint64 `json:"configuration_index"`
	Configuration      []byte `json:"configuration,omitempty"`
	// Size in bytes; 0: whatever came.
	Size int64 `json:"size"`
	// Pool that the content must belong to; empty: any.
	Pool string `json:"pool,omitempty"`
	// KeepOld moves the present content aside when the copy takes its place, unless something
	// is kept aside already: for a node that must be able to return to its own data.
	KeepOld bool `json:"keep_old,omitempty"`
}

// marker is the file that makes a copy complete. A crash after it was written is finished by Open.
type marker struct {
	Copy
	SHA256 string `json:"sha256,omitempty"`
	// From is the file that takes the place of the database.
	From string `json:"from"`
	// Checked: the content was found good; only the renames are left.
	Checked bool `json:"checked"`
}

// Incoming receives a copy. It is used by one goroutine.
type Incoming struct {
	s    *Store
	f    *os.File
	hash hash.Hash
	size int64
	err  error // of a write; Commit then refuses
}

// Incoming starts to receive a copy; an unfinished earlier one is discarded, a complete one
// stays until Commit. The database stays in use meanwhile.
func (s *Store) Incoming(ctx context.Context) (*Incoming, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("receive copy: %w", context.Cause(ctx))
	}
	if s.gate.isClosed() {
		return nil, fmt.Errorf("receive copy: %w", ErrClosed)
	}
	// A new file, not the old one truncated: an abandoned receiver may still hold that open.
	if err := os.Remove(s.path(partName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("receive copy: %w", osError(err))
	}
	f, err := os.OpenFile(s.path(partName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("receive copy: %w", osError(err))
	}
	return &Incoming{s: s, f: f, hash: sha256.New()}, nil
}

// Write appends to the copy.
func (in *Incoming) Write(b []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	n, err := in.f.Write(b)
	in.hash.Write(b[:n])
	in.size += int64(n)
	if err != nil {
		in.err = fmt.Errorf("receive copy: %w", osError(err))
	}
	return n, in.err
}

// Commit makes the copy complete and durable: from now on Replace, or the next Open, puts it
// in the place of the database. ErrMismatch when fewer or more bytes came than c.Size.
func (in *Incoming) Commit(c Copy) error {
	if in.err != nil {
		return errors.Join(in.err, in.Abort())
	}
	if c.Size != 0 && c.Size != in.size {
		return errors.Join(fmt.Errorf("receive copy: %w: %d bytes came, %d were announced", ErrMismatch, in.size, c.Size), in.Abort())
	}
	c.Size = in.size
	if err := in.f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("receive copy: %w", osError(err)), in.Abort())
	}
	if err := in.f.Close(); err != nil {
		return errors.Join(fmt.Errorf("receive copy: %w", osError(err)), in.Abort())
	}
	in.err = fmt.Errorf("receive copy: %w: committed already", ErrInvalid)
	s := in.s
	s.swapping.Lock()
	defer s.swapping.Unlock()
	if err := s.removeMarker(); err != nil { // of an earlier copy: its content goes now
		return fmt.Errorf("receive copy: %w", err)
	}
	if err := os.Rename(s.path(partName), s.path(inName)); err != nil {
		return fmt.Errorf("receive copy: %w", osError(err))
	}
	m := marker{Copy: c, SHA256: hex.EncodeToString(in.hash.Sum(nil)), From: inName}
	if err := s.writeMarker(m); err != nil {
		return fmt.Errorf("receive copy: %w", err)
	}
	return nil
}

// Abort discards the copy. After Commit it does nothing.
func (in *Incoming) Abort() error {
	if err := in.f.Close(); errors.Is(err, os.ErrClosed) && in.err != nil && errors.Is(in.err, ErrInvalid) {
		return nil
	}
	in.err = fmt.Errorf("receive copy: %w: aborted", ErrInvalid)
	mine, err := os.Stat(in.s.path(partName))
	if err != nil || mine.Size() != in.size {
		return nil // gone, or a newer receiver's
	}
	if err := os.Remove(in.s.path(partName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("discard copy: %w", osError(err))
	}
	return nil
}

// Pending returns the description of a complete copy that has not taken its place yet.
func (s *Store) Pending() (Copy, bool, error) {
	m, err := s.readMarker()
	if errors.Is(err, ErrNoCopy) {
		return Copy{}, false, nil
	}
	return m.Copy, err == nil, err
}

// OpenPending opens the bytes of the complete copy that has not taken its place yet; the
// caller closes it. ErrNoCopy.
func (s *Store) OpenPending() (io.ReadCloser, Copy, error) {
	m, err := s.readMarker()
	if err != nil {
		return nil, Copy{}, fmt.Errorf("open pending copy: %w", err)
	}
	f, err := os.Open(s.path(m.From))
	if err != nil {
		return nil, Copy{}, fmt.Errorf("open pending copy: %w", osError(err))
	}
	return f, m.Copy, nil
}

func (s *Store) readMarker() (m marker, err error) {
	b, err := os.ReadFile(s.path(markerName))
	if errors.Is(err, fs.ErrNotExist) {
		return m, ErrNoCopy
	}
	if err != nil {
		return m, osError(err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w: %w", markerName, ErrCorrupt, err)
	}
	if m.From != inName && m.From != asideName {
		return m, fmt.Errorf("%s: %w: unknown file %q", markerName, ErrCorrupt, m.From)
	}
	return m, nil
}

// writeMarker replaces the marker in one step, durably.
func (s *Store) writeMarker(m marker) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	tmp := s.path(markerName + ".tmp")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return osError(err)
	}
	if err := syncFile(tmp); err != nil {
		return osError(err)
	}
	if err := os.Rename(tmp, s.path(markerName)); err != nil {
		return osError(err)
	}
	return osError(syncDir(s.cfg.Dir))
}

func (s *Store) removeMarker() error {
	if err := os.Remove(s.path(markerName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return osError(err)
	}
	return osError(syncDir(s.cfg.Dir))
}

// inspect opens a file that nobody writes, without creating anything beside it, and returns
// its position. It checks that it is ours, readable, not newer, and not damaged.
func inspect(ctx context.Context, path string, check bool) (p position, version int, err error) {
	if _, err := os.Stat(path); err != nil {
		return p, 0, osError(err)
	}
	if err := checkHeader(path); err != nil {
		return p, 0, err
	}
	c, err := sqlite.NewConnector(dsn(path, "mode=ro&immutable=1&_pragma=query_only(1)"))
	if err != nil {
		return p, 0, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(1)
	defer func() { err = errors.Join(err, db.Close()) }()
	if check {
		if err := quickCheck(ctx, db); err != nil {
			return p, version, err
		}
	}
	version, err = schemaVersion(ctx, db)
	if err != nil {
		return p, version, err
	}
	if version == 0 {
		return p, 0, fmt.Errorf("%w: it is empty", ErrForeign)
	}
	p, err = readPosition(ctx, db)
	return p, version, err
}
