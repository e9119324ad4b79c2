package database

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redundancypool/fieldunit"
)

func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// smallDisk mounts a file system of the given size for the test.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// bulk is a command with about size bytes of content.
func bulk(sequence uint64, size int) Command {
	r := record("u", sequence, int64(sequence))
	r.Readings = []fieldunit.Reading{{Tag: "t", Value: fieldunit.TextValue(strings.Repeat("x", size))}}
	return cmd(sequence, batch(r))
}

func TestOnAFullDiskNothingOfABatchIsStored(t *testing.T) {
	dir := smallDisk(t, "size=6m")
	s, err := Open(t.Context(), Config{Dir: dir, CheckpointEvery: time.Hour, CheckpointBytes: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	ballast := filepath.Join(dir, "ballast")
	write(t, ballast, make([]byte, 3<<20))
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	var failed []Entry
	for n := uint64(2); failed == nil; n += 2 {
		entries := []Entry{entry(t, n, bulk(n, 40_000)), entry(t, n+1, bulk(n+1, 40_000))}
		_, before := s.Digest()
		_, err := s.Apply(t.Context(), entries)
		if err == nil {
			if n > 1000 {
				t.Fatal("the disk does not get full")
			}
			continue
		}
		if !errors.Is(err, ErrFull) {
			t.Fatalf("full disk: %v", err)
		}
		failed = entries
		if i, _ := s.Applied(); i != n-1 {
			t.Errorf("index %d, want %d", i, n-1)
		}
		if _, d := s.Digest(); d != before {
			t.Error("the digest moved")
		}
	}
	if err := s.Probe(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("probe of a full disk: %v", err)
	}
	sound(t, s)
	if _, err := s.Apply(t.Context(), failed); !errors.Is(err, ErrFull) {
		t.Errorf("again: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	results, err := s.Apply(t.Context(), failed)
	if err != nil || results[0].Records[0] != Stored || results[1].Records[0] != Stored {
		t.Fatalf("with room again: %+v, %v", results, err)
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Errorf("probe with room again: %v", err)
	}
	sound(t, s)
}

func TestAReadOnlyDiskIsNamed(t *testing.T) {
	dir := smallDisk(t, "size=6m")
	s, err := Open(t.Context(), Config{Dir: dir, CheckpointEvery: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skipf("remount read-only: %v", err)
	}
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, unix.EROFS) && !errors.Is(err, ErrReadOnly) {
		t.Errorf("open: %v", err)
	}
}

func TestProbeReturnsWithItsContextAndDoesNotPileUp(t *testing.T) {
	s := openStore(t, "")
	if err := s.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A pipe nobody reads stands for a disk that hangs.
	path := filepath.Join(s.cfg.Dir, probeName)
	if err := errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := s.Probe(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrProbeHung) != (i > 0) {
			t.Errorf("probe %d: %v", i, err)
		}
	}
	r, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	s.probe.wait()
	if err := errors.Join(r.Close(), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
	if err := s.Probe(t.Context()); err != nil {
		t.Errorf("after it went on: %v", err)
	}
}

func TestTheWALDoesNotGrowForEver(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Config{Dir: dir, CheckpointEvery: time.Hour, CheckpointBytes: 1 << 40, walPages: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	largest := int64(0)
	for n := range uint64(400) {
		must(t, s, bulk(n+2, 10_000))
		if n%20 != 0 {
			continue
		}
		if err := s.checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
		st, err := s.Stats(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		largest = max(largest, st.WALBytes)
	}
	if largest > 3<<20 {
		t.Errorf("the WAL grew to %d bytes", largest)
	}
	sound(t, s)
}

func TestAFailedSyncIsNotForgotten(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	if i, term, err := s.Sync(t.Context()); i != 1 || term != 1 || err != nil {
		t.Fatalf("sync: %d %d %v", i, term, err)
	}
	if err := s.failedSync(osError(unix.EIO)); !errors.Is(err, ErrIO) {
		t.Fatal(err)
	}
	if _, _, err := s.Sync(t.Context()); !errors.Is(err, ErrIO) || !errors.Is(err, unix.EIO) {
		t.Errorf("sync after a failed one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openStore(t, dir).Sync(t.Context()); err != nil {
		t.Errorf("opened anew: %v", err)
	}
}

func TestReadersWritersAndReplaceAtOnce(t *testing.T) {
	a, b := openStore(t, ""), openStore(t, "")
	must(t, a, cmd(1, UnitAdd{Name: "u"}), cmd(2, batch(record("u", 1, 1, 1))))
	must(t, b, cmd(1, UnitAdd{Name: "u"}))
	ctx, cancel := context.WithCancel(t.Context())
	var g sync.WaitGroup
	for _, work := range []func() error{
		func() error { _, err := b.Units(ctx); return err },
		func() error { _, err := b.Events(ctx, EventFilter{}); return err },
		func() error { _, _, err := b.Sync(ctx); return err },
		func() error { b.Digest(); b.DigestAt(2); b.Applied(); b.Configuration(); return b.Probe(ctx) },
		func() error {
			v, err := b.View(ctx)
			if err != nil {
				return err
			}
			_, err = v.Read(make([]byte, 5000))
			return errors.Join(err, v.Close())
		},
		func() error {
			rows, err := b.Query(ctx, "SELECT * FROM sample", 0)
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return errors.Join(rows.Err(), rows.Close())
		},
		func() error {
			i, _ := b.Applied()
			_, err := b.Apply(ctx, []Entry{{Index: i + 1, Term: 1}})
			return err
		},
	} {
		g.Go(func() {
			for ctx.Err() == nil {
				if err := work(); err != nil && ctx.Err() == nil && !errors.Is(err, ErrReplaced) {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 15 {
		clone(t, a, b)
	}
	cancel()
	g.Wait()
	sound(t, b)
}
