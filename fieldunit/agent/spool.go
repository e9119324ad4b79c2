package agent

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"redundancypool/fieldunit"
)

// ErrFull is returned by Spool.Append when the spool holds MaxBytes and may not drop anything.
var ErrFull = errors.New("spool is full")

// DefaultSpoolBytes bounds a spool unless SpoolConfig says otherwise.
const DefaultSpoolBytes = 32 << 20

// minSpoolBytes lets the largest message in.
const minSpoolBytes = 1 << 20

// SpoolConfig says where a Spool lives and what it does when full.
type SpoolConfig struct {
	Dir        string // empty: in memory only, nothing survives the process
	Unit       string // whose records they are; a spool of another unit is refused
	MaxBytes   int64  // 0: DefaultSpoolBytes; at least 1 MiB. Memory in use is about the same
	DropOldest bool   // when full: drop the oldest records and count them; else Append returns ErrFull
	Log        *slog.Logger
}

// Record is one message on its way. Boot and Seq are fixed when it enters the spool, so that it
// has the same key however often it is sent, by whichever process.
type Record struct {
	Boot    string
	Seq     uint64
	Payload []byte // native payload
	SentNS  int64  // when this process sent it first, Unix nanoseconds; 0: not yet
	Sends   int    // how often this process has sent it

	pos   uint64 // index since OpenSpool
	place uint64 // position on disk, counted over the spool's whole life
	done  bool
}

// Spool keeps what the Manager has not acknowledged, in order.
//
// With a Dir each record is written to a segment file before Append returns, so it survives the
// end of the process (kill -9 too); the files are synced about ten times a second, so a power cut can
// cost the last 100 ms or so. What is acknowledged is noted without syncing: after a crash some
// records are sent again, which their key makes harmless. All methods are safe for concurrent use.
type Spool struct {
	cfg  SpoolConfig
	disk *segments // nil: in memory

	mu      sync.Mutex
	boot    string
	seq     uint64    // last given
	list    []*Record // not acknowledged, by position, without gaps
	first   uint64    // position of list[0], or of the next record when empty
	bytes   int64
	dropped uint64
	news    chan struct{} // closed and renewed at each change
	closed  bool

	stop chan struct{}
	wg   sync.WaitGroup
}

// OpenSpool opens or creates a spool and reads what is left in it. Damaged ends of files are
// cut off and logged. Close must follow.
func OpenSpool(cfg SpoolConfig) (*Spool, error) {
	if err := fieldunit.ValidateName(cfg.Unit); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultSpoolBytes
	}
	if cfg.MaxBytes < minSpoolBytes {
		return nil, fmt.Errorf("spool: size %d bytes is less than %d: a single message may need that", cfg.MaxBytes, minSpoolBytes)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, fmt.Errorf("spool: random boot name: %w", err)
	}
	s := &Spool{cfg: cfg, boot: hex.EncodeToString(id[:]), news: make(chan struct{}), stop: make(chan struct{})}
	if cfg.Dir == "" {
		return s, nil
	}
	disk, list, err := openSegments(cfg.Dir, cfg.Unit, segmentSize(cfg.MaxBytes), cfg.Log)
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", cfg.Dir, err)
	}
	s.disk, s.list = disk, list
	for i, r := range list {
		r.pos = uint64(i)
		s.bytes += r.size()
	}
	s.wg.Go(s.syncLoop)
	return s, nil
}

func (r *Record) size() int64 { return int64(len(r.Payload) + len(r.Boot) + frameOverhead) }

// Boot is the name of this start of the unit; Seq counts from 1 within it.
func (s *Spool) Boot() string { return s.boot }

// Append gives t its boot and sequence and keeps it until it is acknowledged. A missing source
// time is set to now. Errors: ErrFull; a *fieldunit.PayloadError for what the Manager would
// refuse; else the disk's.
func (s *Spool) Append(t fieldunit.Telemetry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("spool: closed")
	}
	t.Unit, t.Boot, t.Seq, t.HasSeq = s.cfg.Unit, s.boot, s.seq+1, true
	if t.SourceMS == 0 {
		t.SourceMS = time.Now().UnixMilli()
	}
	payload, err := fieldunit.Encode(t)
	if err != nil {
		return err
	}
	r := &Record{Boot: t.Boot, Seq: t.Seq, Payload: payload, pos: s.first + uint64(len(s.list))}
	if err := s.makeRoom(r.size()); err != nil {
		return err
	}
	if s.disk != nil {
		if err := s.disk.append(r); err != nil {
			return fmt.Errorf("spool %s: %w", s.cfg.Dir, err)
		}
	}
	s.seq++
	s.bytes += r.size()
	s.list = append(s.list, r)
	s.changed()
	return nil
}

func (s *Spool) makeRoom(n int64) error {
	for s.bytes+n > s.cfg.MaxBytes {
		if !s.cfg.DropOldest {
			return fmt.Errorf("%w: %d records wait in %d bytes: bring the Manager back, or allow more bytes", ErrFull, len(s.list), s.bytes)
		}
		s.dropped++
		s.pop()
	}
	s.forget()
	return nil
}

// forget tells the disk what is not needed any more.
func (s *Spool) forget() {
	switch {
	case s.disk == nil:
	case len(s.list) == 0:
		s.disk.forget(s.disk.next)
	default:
		s.disk.forget(s.list[0].place)
	}
}

// pop removes the oldest record from memory.
func (s *Spool) pop() {
	s.bytes -= s.list[0].size()
	s.list[0] = nil
	s.list = s.list[1:]
	s.first++
	if len(s.list) == 0 {
		s.list = nil // lets the old array go
	}
}

// Done removes a record: the Manager has stored it, or will never accept it.
func (s *Spool) Done(r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.done = true
	for len(s.list) > 0 && s.list[0].done {
		s.pop()
	}
	s.forget()
	s.changed()
}

// at returns the first record at or after pos that is not done; nil when there is none yet.
// news is closed at the next change; oldest is the position of the oldest record.
func (s *Spool) at(pos uint64) (r *Record, oldest uint64, news <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pos < s.first {
		pos = s.first
	}
	for i := pos - s.first; i < uint64(len(s.list)); i++ {
		if !s.list[i].done {
			return s.list[i], s.first, s.news
		}
	}
	return nil, s.first, s.news
}

// sent notes the time of the first sending, for whoever measures.
func (s *Spool) sent(r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Sends++
	if r.SentNS == 0 {
		r.SentNS = time.Now().UnixNano()
	}
}

func (s *Spool) changed() {
	close(s.news)
	s.news = make(chan struct{})
}

// Len returns how many records wait and how many were dropped since OpenSpool.
func (s *Spool) Len() (waiting int, dropped uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list), s.dropped
}

// syncLoop brings appended records to the disk. It holds no lock while it does.
func (s *Spool) syncLoop() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if err := s.disk.sync(); err != nil && !failed {
			failed = true // once is enough: it may last
			s.cfg.Log.Error("spool is not safe against a power cut: sync failed", "dir", s.cfg.Dir, "error", err)
		}
	}
}

// Close syncs and closes the files. Nothing is lost: what waits is there at the next OpenSpool.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.mu.Unlock()
	s.wg.Wait()
	if s.disk == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	return s.disk.close()
}
