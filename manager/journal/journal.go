// Package journal keeps this node's own events: what changed, why, and on what evidence. It is
// there when the database cannot be written, because a lost quorum, a full disk and a fall back
// are just what an operator wants to read about.
//
// Events stand in memory (the newest few thousand) and in files of JSON lines that are bounded in
// size: the oldest file is removed. Appending never waits for the disk and never fails; what the
// disk refuses stays readable in memory, and is written once the disk takes it again.
//
// It does not replicate, filter by permission or notify; the composer does that with Follow. Page
// reads further back than memory, and Merge puts the pages of several journals together.
package journal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Severity says who should look at an event. The zero value is Info.
type Severity string

// The severities.
const (
	Info    Severity = "info"
	Warning Severity = "warning"
	Error   Severity = "error"
)

// Event is one thing that happened on this node. Details must not be changed after Append.
type Event struct {
	// Seq counts the events of this node since its journal began; set by Append.
	Seq uint64 `json:"seq"`
	// ID names the event among those of all nodes: the same event in two places has the same ID.
	// Within one run of a node IDs grow as texts. Set by Append.
	ID string `json:"id"`
	// TimeMS is Unix milliseconds; Append sets it when it is 0.
	TimeMS   int64          `json:"time_ms"`
	Node     string         `json:"node"`
	Severity Severity       `json:"severity"`
	Category string         `json:"category"` // status, pool, vip, unit, database, trust, ...
	Code     string         `json:"code"`     // stable, for programs
	Message  string         `json:"message"`  // for people
	Cause    string         `json:"cause,omitempty"`
	Term     uint64         `json:"term,omitempty"`
	From     string         `json:"from,omitempty"` // a status, in a change of status
	To       string         `json:"to,omitempty"`
	Details  map[string]any `json:"details,omitempty"`
}

// Config is what Open needs; zero values take the defaults.
type Config struct {
	Dir      string // the folder for the files, made when missing
	Node     string // put into events that name no node
	MaxBytes int64  // of all files together; default 16 MiB, 64 KiB at least
	Keep     int    // events in memory; default 4096
	// Log gets a line when the disk begins to refuse events and when it takes them again; nil: none.
	Log *slog.Logger
}

const (
	defaultMaxBytes = 16 << 20
	leastMaxBytes   = 64 << 10
	defaultKeep     = 4096
	// batch is how many events one write and sync takes at most, to keep files near their size.
	batch = 64
	// retryAfter is how long a disk that refused is left alone.
	retryAfter = time.Second
	// closeWait is how long Close gives a hung disk.
	closeWait = 2 * time.Second
)

// disk is where events are kept; one goroutine uses it at a time. An error means that none of the
// events given is kept.
type disk interface {
	append([]Event) error
	close()
}

// Journal is this node's events. All methods are safe for concurrent use.
type Journal struct {
	cfg   Config
	files disk
	old   archive
	run   string // begins the IDs of this run
	stop  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	ring    []Event // the newest events in order, at most cfg.Keep
	next    uint64  // Seq of the next event
	grown   chan struct{}
	closed  bool
	stored  uint64 // Seq after the last event that is on disk
	skipped uint64 // events that left memory before the disk took them
	diskErr error
}

// Open reads the newest events from the files in cfg.Dir and starts the one goroutine that
// writes; Close ends it. A damaged line is skipped. When the folder cannot be used, the journal
// works in memory alone: Err tells why.
func Open(cfg Config) *Journal {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = defaultMaxBytes
	}
	cfg.MaxBytes = max(cfg.MaxBytes, leastMaxBytes)
	if cfg.Keep <= 0 {
		cfg.Keep = defaultKeep
	}
	fl := newFiles(cfg.Dir, cfg.MaxBytes)
	var kept []Event
	err := os.MkdirAll(cfg.Dir, 0o700)
	if err != nil {
		err = fmt.Errorf("journal: create folder: %w", err)
	} else {
		kept, err = fl.tail(cfg.Keep)
	}
	return start(cfg, fl, kept, err)
}

// start continues after the events that are kept on d already; err is what the disk said so far.
func start(cfg Config, d disk, kept []Event, err error) *Journal {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	j := &Journal{
		cfg:   cfg,
		files: d,
		old:   archive{dir: cfg.Dir},
		run:   newRun(),
		stop:  make(chan struct{}),
		done:  make(chan struct{}),
		grown: make(chan struct{}),
		ring:  kept,
		next:  1,

		diskErr: err,
	}
	if err != nil {
		cfg.Log.Warn("events are kept in memory only", "error", err)
	}
	if n := len(kept); n > 0 {
		j.next = kept[n-1].Seq + 1
	}
	j.stored = j.next
	go j.write()
	return j
}

// Append records e and returns it as it is kept. It fills in Seq and ID, and TimeMS, Node and
// Severity where they are empty, and returns at once whatever the disk does. After Close the event
// is kept in memory only.
func (j *Journal) Append(e Event) Event {
	if e.TimeMS == 0 {
		e.TimeMS = time.Now().UnixMilli()
	}
	if e.Node == "" {
		e.Node = j.cfg.Node
	}
	if e.Severity == "" {
		e.Severity = Info
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Seq = j.next
	e.ID = fmt.Sprintf("%s-%010x", j.run, e.Seq)
	j.next++
	if len(j.ring) >= j.cfg.Keep {
		j.ring = append(j.ring[:0:0], j.ring[len(j.ring)-j.cfg.Keep+1+j.cfg.Keep/8:]...) // an eighth at once: copying is rare
	}
	j.ring = append(j.ring, e)
	close(j.grown)
	j.grown = make(chan struct{})
	return e
}

// newRun returns what the IDs of one run begin with: 40 random bits.
func newRun() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Recent returns the newest n events that match, oldest first. It reads memory only.
func (j *Journal) Recent(n int, f Filter) []Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Event
	for i := len(j.ring) - 1; i >= 0 && len(found) < n; i-- {
		if f.Match(j.ring[i]) {
			found = append(found, j.ring[i])
		}
	}
	for a, b := 0, len(found)-1; a < b; a, b = a+1, b-1 {
		found[a], found[b] = found[b], found[a]
	}
	return found
}

// Follow yields the events with Seq greater than after that match, as they come, until ctx ends
// or the loop is left. A reader that is slower than the events loses the oldest; it sees the gap
// in Seq. Zero for after starts with all that memory holds; so does a number that this journal has
// not reached, which is one of an earlier journal on this node.
func (j *Journal) Follow(ctx context.Context, after uint64, f Filter) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		if after >= j.Next() {
			after = 0
		}
		for {
			fresh, grown := j.since(after)
			for _, e := range fresh {
				after = e.Seq
				if ctx.Err() != nil || f.Match(e) && !yield(e) {
					return
				}
			}
			if len(fresh) > 0 {
				continue
			}
			select {
			case <-grown:
			case <-ctx.Done():
				return
			}
		}
	}
}

// Next returns the Seq that the next event will have.
func (j *Journal) Next() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.next
}

// Err returns why the newest events are not on disk, nil when they are (or will be at once).
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.diskErr
}

// Sync waits until all events appended before the call are on disk, or ctx ends. For tests and an
// orderly end.
func (j *Journal) Sync(ctx context.Context) error {
	j.mu.Lock()
	want := j.next
	j.mu.Unlock()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		j.mu.Lock()
		stored, err := j.stored, j.diskErr
		j.mu.Unlock()
		if stored >= want {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// Close writes what is still in memory only and ends the writer. A disk that hangs is waited for
// no longer than two seconds; its writer then ends when the disk lets go.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	j.mu.Unlock()
	close(j.stop)
	select {
	case <-j.done:
		return j.Err()
	case <-time.After(closeWait):
		return errors.New("journal: close: the disk does not answer; the newest events are not on it")
	}
}

// since returns the events after seq, and a channel that closes when there are more.
func (j *Journal) since(seq uint64) ([]Event, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := len(j.ring)
	for i > 0 && j.ring[i-1].Seq > seq {
		i--
	}
	return append([]Event(nil), j.ring[i:]...), j.grown
}

// write is the one goroutine that touches the disk.
func (j *Journal) write() {
	defer close(j.done)
	defer j.files.close()
	for {
		waiting, grown := j.since(j.storedSeq() - 1)
		var retry <-chan time.Time
		if len(waiting) > 0 {
			if j.flush(waiting[:min(len(waiting), batch)]) {
				continue
			}
			retry, grown = time.After(retryAfter), nil // new events change nothing for a disk that refuses
		}
		select {
		case <-grown:
		case <-retry:
		case <-j.stop:
			for waiting, _ := j.since(j.storedSeq() - 1); len(waiting) > 0; waiting, _ = j.since(j.storedSeq() - 1) {
				if !j.flush(waiting[:min(len(waiting), batch)]) {
					return
				}
			}
			return
		}
	}
}

func (j *Journal) storedSeq() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stored
}

// flush writes events and reports whether the disk took them.
func (j *Journal) flush(events []Event) bool {
	err := j.files.append(events)
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case err != nil && j.diskErr == nil:
		j.cfg.Log.Warn("events are kept in memory only", "error", err)
	case err == nil && j.diskErr != nil:
		j.cfg.Log.Info("events are on disk again")
	}
	j.diskErr = err
	if err != nil {
		return false
	}
	if first := events[0].Seq; first > j.stored {
		j.skipped += first - j.stored
	}
	j.stored = events[len(events)-1].Seq + 1
	return true
}

// Skipped returns how many events the disk never got, because they left memory while it refused.
func (j *Journal) Skipped() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.skipped
}
