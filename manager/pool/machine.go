package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Entry is one committed entry as a Machine gets it.
type Entry struct {
	Index, Term   uint64
	Data          []byte
	Configuration []byte // not nil: a membership entry, to be kept verbatim
}

// Machine is the state that the log builds: a Manager's database. Apply, Receive and Replace are
// called from one goroutine at a time; the others may run beside them.
type Machine interface {
	// Apply stores a batch in one transaction together with the last entry's index and term, and
	// skips entries that are stored already. An error means that nothing of the batch is stored;
	// the same batch comes again.
	Apply(ctx context.Context, batch []Entry) ([]any, error)
	// Applied returns the last stored position.
	Applied() Position
	// Sync makes everything applied so far survive a power cut.
	Sync(ctx context.Context) error
	// View pins a consistent image.
	View(ctx context.Context) (Image, error)
	// Receive takes in another Manager's image.
	Receive(ctx context.Context) (Receiver, error)
	// Digest returns a position and the content's digest there; equal content has equal digests.
	Digest() (index uint64, sum string)
	// DigestAt returns the digest at an earlier index, if it is still known.
	DigestAt(index uint64) (sum string, ok bool)
}

// Image is a consistent picture of a Machine: exactly Size bytes can be read from it.
type Image interface {
	io.ReadCloser
	Position() Position
	Configuration() (data []byte, index uint64)
	Size() int64
}

// Receiver collects an image. Commit makes it durable but not yet effective, Install swaps it
// in, Abort forgets it.
type Receiver interface {
	io.Writer
	Commit(ctx context.Context) error
	Install(ctx context.Context) error
	Abort() error
}

// fsm feeds a Machine from Raft. A batch that cannot be stored is tried again until it can or the
// member closes, so Raft's main loop is never told something false.
type fsm struct {
	machine Machine
	ctx     context.Context // ends when the member closes
	watch   *watch          // told how long the disk takes
	log     func(msg string, args ...any)
	applied func(Position)
}

var errClosing = errors.New("this member is closing")

// ApplyBatch implements raft.BatchingFSM.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	last := logs[len(logs)-1]
	defer func() { f.applied(Position{last.Term, last.Index}) }()
	if f.machine == nil {
		return out
	}
	batch := make([]Entry, len(logs))
	for i, l := range logs {
		batch[i] = Entry{Index: l.Index, Term: l.Term}
		if l.Type == raft.LogConfiguration {
			batch[i].Configuration = l.Data
		} else {
			batch[i].Data = l.Data
		}
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		done := f.watch.begin("database")
		res, err := f.machine.Apply(f.ctx, batch)
		done(err)
		if err == nil {
			copy(out, res)
			return out
		}
		f.log("cannot store in the database, trying again", "index", batch[0].Index, "error", err)
		select {
		case <-f.ctx.Done():
			for i := range out {
				out[i] = errClosing
			}
			return out
		case <-time.After(wait):
		}
	}
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// Snapshot implements raft.FSM. The database is the snapshot; what is kept is a marker.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.machine == nil {
		return marking{}, nil
	}
	if err := f.machine.Sync(f.ctx); err != nil {
		return nil, fmt.Errorf("sync database: %w", err)
	}
	return marking{}, nil
}

// Restore implements raft.FSM.
func (f *fsm) Restore(rc io.ReadCloser) error {
	if w, ok := rc.(raft.ReadCloserWrapper); ok {
		rc = w.WrappedReadCloser()
	}
	h, ok := rc.(*incomingHandle)
	if !ok {
		return nil // the marker: the database is where it is
	}
	return h.install(f.ctx)
}

type marking struct{}

func (marking) Persist(into raft.SnapshotSink) error {
	s, ok := into.(*sink)
	if !ok {
		return fmt.Errorf("foreign snapshot sink %T", into)
	}
	s.marked = true
	return nil
}

func (marking) Release() {}

// snapshots is a raft.SnapshotStore that keeps no copies: a marker says up to where the database
// is durable, and the database itself is streamed, consistent at one index, when another Manager
// needs it.
type snapshots struct {
	dir     string
	machine Machine
	ctx     context.Context

	mu       sync.Mutex
	incoming *sink    // complete, not yet installed
	last     Position // of the marker
}

const markerFile = "snapshot.json"

func (s *snapshots) marker() (*raft.SnapshotMeta, error) {
	path := filepath.Join(s.dir, markerFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m := &raft.SnapshotMeta{}
	if err := json.Unmarshal(b, m); err == nil {
		s.note(*m)
	} else {
		return nil, fmt.Errorf("%s is damaged (%w): reset this member and let the pool fill it again", path, err)
	}
	return m, nil
}

func (s *snapshots) mark(m raft.SnapshotMeta) error {
	m.ID, m.Size = markerID, 0
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(s.dir, markerFile), b); err != nil {
		return err
	}
	s.note(m)
	return nil
}

func (s *snapshots) note(m raft.SnapshotMeta) {
	s.mu.Lock()
	s.last = Position{m.Term, m.Index}
	s.mu.Unlock()
}

// end returns the position of the marker; zero when there is none.
func (s *snapshots) end() Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

const (
	markerID   = "marker"
	incomingID = "incoming"
)

// Create implements raft.SnapshotStore. It cannot know yet whether Raft wants a marker of our own
// state or takes in another's; the sink finds out by what happens to it.
func (s *snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &sink{store: s, meta: raft.SnapshotMeta{
		Version: v, ID: incomingID, Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}}, nil
}

// List implements raft.SnapshotStore.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	s.mu.Lock()
	in := s.incoming
	s.mu.Unlock()
	var out []*raft.SnapshotMeta
	if in != nil {
		m := in.meta
		out = append(out, &m)
	}
	m, err := s.marker()
	if err != nil {
		return nil, err
	}
	if m != nil {
		out = append(out, m)
	}
	return out, nil
}

// Open implements raft.SnapshotStore. For the marker it describes what the database holds now,
// from the same read transaction that is streamed, and never less than the marker says.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id == incomingID && s.machine != nil {
		s.mu.Lock()
		in := s.incoming
		s.mu.Unlock()
		if in == nil {
			return nil, nil, errors.New("no incoming snapshot")
		}
		m := in.meta
		return &m, &incomingHandle{in}, nil
	}
	m, err := s.marker()
	if err != nil {
		return nil, nil, err
	}
	if m == nil {
		return nil, nil, errors.New("no snapshot")
	}
	if s.machine == nil {
		return m, io.NopCloser(emptyReader{}), nil
	}
	img, err := s.machine.View(s.ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("view database: %w", err)
	}
	if pos := img.Position(); pos.Index >= m.Index {
		m.Index, m.Term = pos.Index, pos.Term
	}
	if data, index := img.Configuration(); index >= m.ConfigurationIndex && len(data) > 0 {
		m.Configuration, m.ConfigurationIndex = raft.DecodeConfiguration(data), index
	}
	m.Size = img.Size()
	return m, img, nil
}

type emptyReader struct{}

func (emptyReader) Read([]byte) (int, error) { return 0, io.EOF }

// sink is either a marker in the making (marked) or an image coming in.
type sink struct {
	store  *snapshots
	meta   raft.SnapshotMeta
	marked bool
	recv   Receiver
	size   int64
	closed bool
}

func (k *sink) ID() string { return k.meta.ID }

func (k *sink) Write(b []byte) (int, error) {
	if k.store.machine == nil {
		return 0, errors.New("an Arbiter takes no snapshot content")
	}
	if k.recv == nil {
		r, err := k.store.machine.Receive(k.store.ctx)
		if err != nil {
			return 0, fmt.Errorf("receive database: %w", err)
		}
		k.recv = r
	}
	n, err := k.recv.Write(b)
	k.size += int64(n)
	return n, err
}

// Close implements io.Closer.
func (k *sink) Close() error {
	if k.closed {
		return nil
	}
	k.closed = true
	if k.marked || k.recv == nil {
		return k.store.mark(k.meta)
	}
	if err := k.recv.Commit(k.store.ctx); err != nil {
		return errors.Join(fmt.Errorf("keep received database: %w", err), k.recv.Abort())
	}
	k.meta.Size = k.size
	k.store.mu.Lock()
	k.store.incoming = k
	k.store.mu.Unlock()
	return nil
}

// Cancel implements raft.SnapshotSink.
func (k *sink) Cancel() error {
	if k.closed || k.recv == nil {
		k.closed = true
		return nil
	}
	k.closed = true
	return k.recv.Abort()
}

// incomingHandle is what Raft opens to restore an image that has just come in.
type incomingHandle struct{ in *sink }

func (h *incomingHandle) Read([]byte) (int, error) { return 0, io.EOF }
func (h *incomingHandle) Close() error             { return nil }

func (h *incomingHandle) install(ctx context.Context) error {
	if err := h.in.recv.Install(ctx); err != nil {
		return fmt.Errorf("install received database: %w", err)
	}
	s := h.in.store
	s.mu.Lock()
	s.incoming = nil
	s.mu.Unlock()
	return s.mark(h.in.meta)
}
