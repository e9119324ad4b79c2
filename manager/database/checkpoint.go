package database

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// maxWAL is the number of pages in the WAL (64 MiB) beyond which it is begun anew; that needs
// a moment without a writer.
const maxWAL = 16384

// dirty counts what was written since the last checkpoint.
func (s *Store) dirty(n int64) {
	if s.unsaved.Add(n) >= s.cfg.CheckpointBytes {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// runCheckpoints brings the WAL back into the file, beside the path of Apply.
func (s *Store) runCheckpoints() {
	defer close(s.done)
	tick := time.NewTicker(s.cfg.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.wake:
		case <-tick.C:
		}
		if s.unsaved.Load() == 0 {
			continue
		}
		if err := s.checkpoint(context.Background()); err != nil && !errors.Is(err, ErrClosed) {
			s.log.Warn("database checkpoint failed", "err", err)
		}
	}
}

// checkpoint copies what no reader holds back. A WAL that has become long although all of it
// was copied is begun anew while no batch is applied; a reader that is in the way postpones that.
func (s *Store) checkpoint(ctx context.Context) error {
	v, err := s.gate.enter(ctx, nil)
	if err != nil {
		return err
	}
	defer v.leave()
	before := s.unsaved.Load()
	pages, err := s.walCheckpoint(ctx, "PASSIVE")
	if err != nil {
		return err
	}
	s.unsaved.Add(-before)
	if pages < s.cfg.walPages {
		return nil
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	_, err = s.walCheckpoint(ctx, "RESTART")
	return err
}

// walCheckpoint returns the number of pages that the WAL holds. SQLite syncs the WAL before,
// and the file after it copied pages (synchronous NORMAL).
func (s *Store) walCheckpoint(ctx context.Context, mode string) (pages int, err error) {
	conn, err := s.files.check.Conn(ctx)
	if err != nil {
		return 0, classify(err)
	}
	defer conn.Close()
	if mode == "RESTART" { // do not wait for readers, they may stay for minutes
		if _, err := conn.ExecContext(ctx, "PRAGMA busy_timeout = 0"); err != nil {
			return 0, classify(err)
		}
		defer func() {
			_, back := conn.ExecContext(ctx, "PRAGMA busy_timeout = 5000")
			err = errors.Join(err, back)
		}()
	}
	var busy, copied int
	if err := conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &copied); err != nil {
		return 0, s.failedSync(fmt.Errorf("checkpoint: %w", classify(err)))
	}
	return pages, nil
}

// failedSync remembers an error of the disk: fsync(2) reports it once, and a later success
// would say nothing about what was lost then.
func (s *Store) failedSync(err error) error {
	if errors.Is(err, ErrIO) {
		s.syncError.CompareAndSwap(nil, &err)
	}
	return err
}

// Sync returns once everything up to index is on this node's disk and survives a power cut.
// It does not hold up Apply, beyond what the disk does. After ErrIO it fails until the
// database is opened anew: the kernel may have dropped what could not be written.
func (s *Store) Sync(ctx context.Context) (index, term uint64, err error) {
	v, err := s.gate.enter(ctx, nil)
	if err != nil {
		return 0, 0, fmt.Errorf("sync database: %w", err)
	}
	defer v.leave()
	if failed := s.syncError.Load(); failed != nil {
		return 0, 0, fmt.Errorf("sync database: %w", *failed)
	}
	p := s.now.Load()
	before := s.unsaved.Load()
	if _, err := s.walCheckpoint(ctx, "PASSIVE"); err != nil {
		return 0, 0, fmt.Errorf("sync database: %w", err)
	}
	// The checkpoint may have been held back by a reader: then the rest is in the WAL. The
	// file itself is not opened here: closing it would drop SQLite's locks (fcntl(2)).
	if err := syncFile(s.path(fileName + "-wal")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, fmt.Errorf("sync database: %w", s.failedSync(osError(err)))
	}
	s.unsaved.Add(-before)
	return p.index, p.term, nil
}
