package database

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Names inside Config.Dir.
const (
	fileName   = "manager.db"    // with -wal and -shm beside it while open
	partName   = "incoming.part" // a copy that is being received
	inName     = "incoming.db"   // a copy that is complete; worth nothing without its marker
	markerName = "incoming.json" // the copy's description; its presence means "complete"
	asideName  = "aside.db"      // the content before the first Replace that was told to keep it
	probeName  = "probe"
	lockName   = "lock"
)

// Config says where the database is and how it treats the disk.
type Config struct {
	// Dir is this node's folder for the database alone; it is created.
	Dir string
	// Log is for operators; nil: nothing is logged.
	Log *slog.Logger
	// Readers is the number of read-only connections for typed readers; 0: 4.
	Readers int
	// CheckpointBytes of commands, or CheckpointEvery, bring the WAL back into the file, off
	// the path of Apply. 0: 4 MiB and 5 s.
	CheckpointBytes int64
	CheckpointEvery time.Duration
	// QueryTime bounds one Query from its start to its last row; 0: 30 s.
	QueryTime time.Duration
	// CheckBytes is the size up to which Open reads the whole file to see that it is sound; a
	// larger one would make the start long (see Check). 0: 64 MiB; negative: never.
	CheckBytes int64

	walPages int // 0: maxWAL
}

// Store is an open database. All methods are safe for concurrent use.
type Store struct {
	cfg  Config
	log  *slog.Logger
	lock *os.File
	gate *gate

	swapping sync.Mutex // one Replace, Restore, Close, Incoming at a time
	applying sync.Mutex // one batch, or one exclusive checkpoint, at a time
	files    *files     // changes only while the gate is shut

	now  atomic.Pointer[position]
	past struct {
		sync.Mutex
		history
	}

	unsaved   atomic.Int64 // bytes of commands since the last checkpoint
	syncError atomic.Pointer[error]
	wake      chan struct{} // tells the checkpointer that unsaved is large
	stop      chan struct{}
	done      chan struct{}
	closeOnce sync.Once
	closeErr  error

	probe prober
}

// Open creates or opens the database in cfg.Dir, finishes or discards what a crash during
// Replace left behind, and brings the schema up to date. It waits for the disk.
//
// Errors: ErrLocked, ErrForeign, ErrNewer, ErrCorrupt, ErrFull, ErrReadOnly, ErrIO.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Dir == "" {
		return nil, errors.New("open database: Dir is empty: name a folder")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Readers <= 0 {
		cfg.Readers = 4
	}
	if cfg.CheckpointBytes <= 0 {
		cfg.CheckpointBytes = 4 << 20
	}
	if cfg.CheckpointEvery <= 0 {
		cfg.CheckpointEvery = 5 * time.Second
	}
	if cfg.CheckBytes == 0 {
		cfg.CheckBytes = 64 << 20
	}
	if cfg.walPages == 0 {
		cfg.walPages = maxWAL
	}
	if cfg.QueryTime <= 0 {
		cfg.QueryTime = 30 * time.Second
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	cfg.Dir = dir
	s := &Store{cfg: cfg, log: cfg.Log, gate: newGate(), wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	if err := s.open(ctx); err != nil {
		return nil, fmt.Errorf("open database in %s: %w", dir, errors.Join(err, s.unlock()))
	}
	go s.runCheckpoints()
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	if err := s.finishPending(ctx); err != nil {
		return err
	}
	if err := s.openFile(ctx); err != nil {
		return err
	}
	if st, err := os.Stat(s.path(fileName)); err != nil {
		return errors.Join(osError(err), s.files.close())
	} else if st.Size() > s.cfg.CheckBytes {
		return nil
	}
	if err := quickCheck(ctx, s.files.conn); err != nil {
		return errors.Join(err, s.files.close())
	}
	return nil
}

// openFile opens the file and publishes its position.
func (s *Store) openFile(ctx context.Context) error {
	path := s.path(fileName)
	if err := checkHeader(path); err != nil {
		return fmt.Errorf("%s: %w", fileName, err)
	}
	// SQLite would create it readable for others, and gives its own mode to the WAL.
	empty, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return osError(err)
	}
	if err := empty.Close(); err != nil {
		return osError(err)
	}
	f, from, err := openFiles(ctx, path, s.cfg.Readers)
	if err != nil {
		return fmt.Errorf("%s: %w", fileName, err)
	}
	if from != len(migrations) {
		s.log.Info("database schema brought up to date", "from", from, "to", len(migrations))
	}
	if err := syncDir(s.cfg.Dir); err != nil {
		return errors.Join(err, f.close())
	}
	s.files = f
	s.syncError.Store(nil)
	p := f.applier.position()
	s.publish(p)
	s.past.Lock()
	s.past.reset()
	s.past.push(point{index: p.index, sum: p.digest})
	s.past.Unlock()
	return nil
}

func (s *Store) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

// takeLock keeps a second process out. The kernel releases it when the process ends.
func (s *Store) takeLock() error {
	f, err := os.OpenFile(s.path(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%w: stop it first", ErrLocked)
		}
		return errors.Join(err, f.Close())
	}
	s.lock = f
	return nil
}

func (s *Store) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// checkHeader refuses what SQLite would otherwise take for an empty or a damaged database.
func checkHeader(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	const magic = "SQLite format 3\x00"
	head := make([]byte, len(magic))
	switch n, err := f.Read(head); {
	case n == 0 && err != nil:
		return nil // empty: SQLite starts it
	case string(head[:n]) != magic:
		return fmt.Errorf("%w: it does not begin like a SQLite file", ErrForeign)
	}
	return nil
}

// Check reads the whole file and returns ErrCorrupt with the first finding. It takes time in
// proportion to the file and does not hold up Apply.
func (s *Store) Check(ctx context.Context) error {
	v, err := s.gate.enter(ctx, nil)
	if err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	defer v.leave()
	if err := quickCheck(ctx, s.files.readers); err != nil {
		return fmt.Errorf("check database: %w", err)
	}
	return nil
}

// Close waits for what is under way, a hung disk included, ends open views and queries, folds the WAL into the
// file and releases the folder. Closing again returns the same.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.swapping.Lock()
		defer s.swapping.Unlock()
		s.gate.shut(ErrClosed, true)
		close(s.stop)
		<-s.done
		s.probe.wait()
		s.closeErr = errors.Join(s.files.close(), s.unlock())
		if s.closeErr != nil {
			s.closeErr = fmt.Errorf("close database: %w", classify(s.closeErr))
		}
	})
	return s.closeErr
}
