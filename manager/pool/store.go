package pool

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// store is the Raft log and the votes on this node's disk, in raft-boltdb. Every write is timed,
// because the library never replaces a leader whose disk hangs.
type store struct {
	*raftboltdb.BoltStore
	watch *watch
	gone  <-chan struct{} // closed once nothing of this member can reach another one any more

	fault func(kind string) error // by tests; nil: none

	mu     sync.Mutex
	last   Position  // of the last entry stored, as Raft keeps it in memory
	lastAt time.Time // when that entry was written by its leader, as found at the opening
}

const storeFile = "raft.db"

// openStore opens the Raft store in dir. A second process on the same folder is an error after a
// second, not a wait for ever.
func openStore(dir string, w *watch, gone <-chan struct{}) (*store, error) {
	path := filepath.Join(dir, storeFile)
	b, err := raftboltdb.New(raftboltdb.Options{
		Path:                    path,
		MsgpackUseNewTimeFormat: true,
		BoltOptions: &bbolt.Options{
			NoFreelistSync: true, // after truncation an append is some 20 times cheaper
			FreelistType:   bbolt.FreelistMapType,
			Timeout:        time.Second,
		},
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("store %s of the Raft log is in use: another process runs on this data folder; stop it first", path)
	case err != nil:
		return nil, fmt.Errorf("store %s of the Raft log cannot be opened (%w): if the file is damaged, remove this member from the pool and let it join anew; the others have the data", path, err)
	}
	s := &store{BoltStore: b, watch: w, gone: gone}
	if err := s.readEnd(); err != nil {
		return nil, errors.Join(fmt.Errorf("store %s of the Raft log: read its end: %w", path, err), b.Close())
	}
	return s, nil
}

func (s *store) readEnd() error {
	i, err := s.LastIndex()
	if err != nil || i == 0 {
		return err
	}
	var l raft.Log
	if err := s.GetLog(i, &l); err != nil {
		return err
	}
	s.last, s.lastAt = Position{l.Term, l.Index}, l.AppendedAt
	return nil
}

// end returns where the log ends. Cutting entries off does not take it back: Raft does that only
// just before it stores newer ones in their place.
func (s *store) end() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *store) StoreLogs(ls []*raft.Log) error {
	done := s.watch.begin("log")
	err := s.faulty("log", func() error { return s.BoltStore.StoreLogs(ls) })
	done(err)
	if n := len(ls); err == nil && n > 0 {
		s.mu.Lock()
		s.last = Position{ls[n-1].Term, ls[n-1].Index}
		s.mu.Unlock()
	}
	return err
}

// probe writes a little to learn whether the disk takes writes again: a leader whose write failed
// leads no more, and nobody else would find out.
func (s *store) probe() {
	done := s.watch.begin("log")
	done(s.faulty("log", func() error { return s.BoltStore.SetUint64([]byte("Probe"), uint64(s.watch.now())) }))
}

func (s *store) Set(k, v []byte) error {
	return s.vote(func() error { return s.BoltStore.Set(k, v) })
}

func (s *store) SetUint64(k []byte, v uint64) error {
	return s.vote(func() error { return s.BoltStore.SetUint64(k, v) })
}

func (s *store) faulty(kind string, write func() error) error {
	if s.fault != nil {
		if err := s.fault(kind); err != nil {
			return err
		}
	}
	return write()
}

// vote stores a term or a vote, trying until the disk takes it: the library ends the process when
// this fails, and a full disk must not end a Manager. Nothing is answered meanwhile, and once the
// transport is closed nothing can be.
func (s *store) vote(write func() error) error {
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		done := s.watch.begin("votes")
		err := s.faulty("votes", write)
		done(err)
		if err == nil {
			return nil
		}
		select {
		case <-s.gone:
			return nil
		case <-time.After(wait):
		}
	}
}

// watch knows which writes to this node's disk are under way and since when. Health means: a
// write gets through within the limit, and the last one did not fail.
type watch struct {
	now   func() Instant
	limit time.Duration

	mu      sync.Mutex
	seq     int
	pending map[int]op
	failed  map[string]error // by kind, until one of that kind succeeds
	took    time.Duration    // smoothed duration of a write
}

type op struct {
	kind  string
	since Instant
}

func newWatch(now func() Instant, limit time.Duration) *watch {
	return &watch{now: now, limit: limit, pending: map[int]op{}, failed: map[string]error{}}
}

// begin notes that a write of that kind has started; call what it returns with its outcome.
func (w *watch) begin(kind string) func(error) {
	w.mu.Lock()
	w.seq++
	n, start := w.seq, w.now()
	w.pending[n] = op{kind, start}
	w.mu.Unlock()
	return func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.pending, n)
		w.took += (w.now().Sub(start) - w.took) / 8
		if err != nil {
			w.failed[kind] = err
		} else {
			delete(w.failed, kind)
		}
	}
}

// failing reports whether the last write of that kind failed.
func (w *watch) failing(kind string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed[kind] != nil
}

// sick returns why this node's disk cannot be trusted with being Primary, or nil.
func (w *watch) sick() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for kind, err := range w.failed {
		return fmt.Errorf("disk: writing the %s failed: %w", kind, err)
	}
	now := w.now()
	for _, o := range w.pending {
		if d := now.Sub(o.since); d > w.limit {
			return fmt.Errorf("disk: a write to the %s has been under way for %v, more than %v", o.kind, d.Round(time.Millisecond), w.limit)
		}
	}
	return nil
}

// commitTime returns the smoothed duration of this node's writes.
func (w *watch) commitTime() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.took
}
