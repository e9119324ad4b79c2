package database

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"modernc.org/sqlite"
)

// Replace puts the complete copy in the place of the database. It checks the copy first, while
// the database stays in use; then views and queries are ended (ErrReplaced), other callers wait
// for the moment of the swap and go on with the new content. A crash in the middle is finished
// by the next Open. ErrNoCopy when there is none; ErrCorrupt, ErrForeign, ErrNewer,
// ErrMismatch, ErrOtherPool when it is not fit: it is then discarded.
func (s *Store) Replace(ctx context.Context) error {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	m, err := s.readMarker()
	if err != nil {
		return fmt.Errorf("replace database: %w", err)
	}
	if !m.Checked {
		if err := s.checkCopy(ctx, &m, false); err != nil {
			if unfit(err) {
				err = errors.Join(err, s.discardPending())
			}
			return fmt.Errorf("replace database: %w", err)
		}
	}
	if err := s.swap(m); err != nil {
		return fmt.Errorf("replace database: %w", err)
	}
	return nil
}

// unfit tells errors of the copy from errors of the disk.
func unfit(err error) bool {
	for _, e := range []error{ErrCorrupt, ErrForeign, ErrNewer, ErrMismatch, ErrOtherPool} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// checkCopy compares the copy with its description and notes that in the marker. With sum its
// bytes are read again: after a crash the disk may not hold what was written.
func (s *Store) checkCopy(ctx context.Context, m *marker, sum bool) error {
	path := s.path(m.From)
	if sum && m.SHA256 != "" {
		if err := checkSum(path, m); err != nil {
			return err
		}
	}
	p, _, err := inspect(ctx, path, true)
	if err != nil {
		return fmt.Errorf("received copy: %w", err)
	}
	if m.From == inName {
		if p.index != m.Index || p.term != m.Term {
			return fmt.Errorf("received copy: %w: it is at index %d of term %d, described as %d of %d", ErrMismatch, p.index, p.term, m.Index, m.Term)
		}
		if m.Pool != "" && p.pool != m.Pool {
			return fmt.Errorf("received copy: %w: %q, expected %q", ErrOtherPool, p.pool, m.Pool)
		}
	}
	m.Checked = true
	return s.writeMarker(*m)
}

func checkSum(path string, m *marker) error {
	f, err := os.Open(path)
	if err != nil {
		return osError(err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return osError(err)
	}
	if n != m.Size || hex.EncodeToString(h.Sum(nil)) != m.SHA256 {
		return fmt.Errorf("received copy: %w: content changed on the disk", ErrMismatch)
	}
	return nil
}

// swap closes the file, exchanges it and opens the new one. When opening fails the Store is as
// good as closed, and the next Open finishes the work.
func (s *Store) swap(m marker) error {
	s.gate.shut(ErrReplaced, false)
	if s.gate.isClosed() {
		return ErrClosed
	}
	return s.swapShut(m)
}

// swapShut is swap behind a gate that is shut already.
func (s *Store) swapShut(m marker) error {
	if err := s.files.close(); err != nil {
		s.log.Warn("closing the replaced database", "err", err)
	}
	s.files = &files{}
	ctx := context.Background() // past the point of return
	err := errors.Join(s.exchange(ctx, m), s.reopen(ctx))
	if s.files.applier == nil {
		s.gate.fail(fmt.Errorf("%w: its file could not be exchanged: %w", ErrClosed, err))
	}
	return err
}

// reopen opens what has the name of the database now; it never starts an empty one.
func (s *Store) reopen(ctx context.Context) error {
	if _, err := os.Stat(s.path(fileName)); err != nil {
		return osError(err)
	}
	if err := s.openFile(ctx); err != nil {
		return err
	}
	s.gate.reopen()
	return nil
}

// exchange does the renames that a checked marker asks for. Each step may be the last before
// a crash; doing all of them again leads to the same end.
func (s *Store) exchange(ctx context.Context, m marker) error {
	from := s.path(m.From)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return s.removeMarker() // renamed already: the database is the new one
	} else if err != nil {
		return osError(err)
	}
	if m.KeepOld {
		if err := s.moveAside(ctx); err != nil {
			return fmt.Errorf("move present database aside: %w", err)
		}
	}
	// The old WAL must be gone before the new file gets its name, or SQLite would mix them.
	for _, name := range []string{fileName + "-wal", fileName + "-shm"} {
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return osError(err)
		}
	}
	if err := osError(syncDir(s.cfg.Dir)); err != nil {
		return err
	}
	if err := os.Rename(from, s.path(fileName)); err != nil {
		return osError(err)
	}
	if err := osError(syncDir(s.cfg.Dir)); err != nil {
		return err
	}
	return s.removeMarker()
}

// moveAside keeps the present database, WAL folded in, unless something is kept already.
func (s *Store) moveAside(ctx context.Context) error {
	path := s.path(fileName)
	if _, err := os.Stat(s.path(asideName)); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return osError(err)
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return osError(err)
	}
	if err := fold(ctx, path); err != nil {
		return err
	}
	return osError(os.Rename(path, s.path(asideName)))
}

// fold brings the WAL that a crash left behind back into its file.
func fold(ctx context.Context, path string) (err error) {
	if _, err := os.Stat(path + "-wal"); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	c, err := sqlite.NewConnector(dsn(path, writerOptions))
	if err != nil {
		return err
	}
	db := sql.OpenDB(c)
	defer func() { err = errors.Join(err, db.Close()) }()
	_, err = db.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
	return classify(err)
}

// finishPending is the part of Open that finishes a Replace, or discards what cannot be one.
func (s *Store) finishPending(ctx context.Context) error {
	m, err := s.readMarker()
	switch {
	case errors.Is(err, ErrNoCopy):
		return s.discardPending()
	case errors.Is(err, ErrCorrupt):
		s.log.Warn("description of an incoming copy is damaged: copy discarded", "err", err)
		return s.discardPending()
	case err != nil:
		return fmt.Errorf("finish pending copy: %w", err)
	}
	if _, err := os.Stat(s.path(m.From)); !m.Checked && err == nil {
		if err := s.checkCopy(ctx, &m, true); unfit(err) {
			s.log.Warn("incoming copy is not fit: discarded", "err", err)
			return s.discardPending()
		} else if err != nil {
			return fmt.Errorf("finish pending copy: %w", err)
		}
	}
	if err := s.exchange(ctx, m); err != nil {
		return fmt.Errorf("finish pending copy: %w", err)
	}
	s.log.Info("pending copy has taken the place of the database", "index", m.Index, "term", m.Term)
	return s.discardPending()
}

// discardPending removes copies, complete or not. What is kept aside stays.
func (s *Store) discardPending() error {
	if err := s.removeMarker(); err != nil {
		return fmt.Errorf("discard copy: %w", err)
	}
	for _, name := range []string{partName, inName, inName + "-wal", inName + "-shm", inName + "-journal", markerName + ".tmp"} {
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("discard copy: %w", osError(err))
		}
	}
	return nil
}

// DiscardPending removes a complete copy that has not taken its place.
func (s *Store) DiscardPending() error {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	return s.discardPending()
}

// Aside reports whether earlier content is kept aside.
func (s *Store) Aside() bool {
	_, err := os.Stat(s.path(asideName))
	return err == nil
}

// RestoreAside puts the content that was kept aside back in the place of the database, with
// the position that it had. ErrNotFound when nothing is kept.
func (s *Store) RestoreAside(ctx context.Context) error {
	s.swapping.Lock()
	defer s.swapping.Unlock()
	if !s.Aside() {
		return fmt.Errorf("restore database kept aside: %w", ErrNotFound)
	}
	if err := s.discardPending(); err != nil {
		return fmt.Errorf("restore database kept aside: %w", err)
	}
	m := marker{From: asideName}
	if err := s.checkCopy(ctx, &m, false); err != nil {
		return fmt.Errorf("restore database kept aside: %w", err)
	}
	if err := s.swap(m); err != nil {
		return fmt.Errorf("restore database kept aside: %w", err)
	}
	return nil
}

// DropAside removes the content that was kept aside; it does nothing when there is none.
func (s *Store) DropAside() error {
	if err := os.Remove(s.path(asideName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove database kept aside: %w", osError(err))
	}
	return nil
}
