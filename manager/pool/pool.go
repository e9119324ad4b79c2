package pool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"redundancypool/manager/pool/transport"
)

// Event is something that an operator may want to know later.
type Event struct {
	Code     string
	Severity string // info, warning, error
	Member   MemberID
	Term     uint64
	From, To Status
	Cause    string
	Details  map[string]any
}

// Reign is the extent in which this node is Primary.
type Reign struct {
	Term uint64
	// Until returns the end of the right as it stands now; it moves forward while renewed and
	// never blocks. 1<<63-1: a pool of one.
	Until func() Instant
	// Farewell is what the guard sends to Heirs once this process is dead and the VIP gone.
	Farewell []byte
	Heirs    []string // host:port
	// Vacant: whoever was Primary before is known to have given the VIP up.
	Vacant bool
	// Changeover collects the times of this change; the Serve function fills in its own part
	// through Pool.Note.
	Changeover Changeover
}

// Config describes one member of one pool.
type Config struct {
	Dir    string // the member's folder: raft.db, pool.json, snapshot.json
	Record Record
	Port   *transport.Port
	Dialer *transport.Dialer
	// Machine is the Manager's database; nil on an Arbiter.
	Machine Machine
	// Serve is called when this node becomes Primary and must return soon after its context
	// ended, having laid everything down; being Primary is the extent of this call. The cause of
	// the context says why it ended. Not called on an Arbiter.
	Serve func(ctx context.Context, r Reign)
	// Canary proposes a write through the whole path; nil: only the disk is watched.
	Canary func(ctx context.Context) error
	// Fit, if set, says why this Manager could not serve now apart from its disk, such as an
	// interface without carrier; nil: it could. It must not block.
	Fit func() error
	// Facts, if set, are shown of this member by every other one. It must not block.
	Facts func() Facts
	// Event gets events; it must not block.
	Event func(Event)
	// Maintenance: this member votes but takes no Primary.
	Maintenance bool
	Version     string
	Log         *slog.Logger
	// Expelled, if set, is called when another member refuses this one for good: by a code of Gone,
	// or "incarnation" when the pool was formed anew.
	Expelled func(why transport.Refusal)
	// OnRecord is called after the record changed on disk.
	OnRecord func(Record)

	tune func(*raft.Config)      // by tests: smaller thresholds; nil: none
	disk func(kind string) error // by tests: called before each write to the store; nil: none
}

// Pool is this node's membership in one pool. Open it, and Close it; it is safe for concurrent use.
type Pool struct {
	cfg    Config
	self   MemberID
	timing Timing
	log    *slog.Logger

	raft    *raft.Raft
	trans   *transport.RaftTransport
	store   *store
	snaps   *snapshots
	stream  *stream
	gate    *transport.Gate
	lease   *lease
	promise *promise
	watch   *watch

	ctx     context.Context // ends at Close
	cancel  context.CancelCauseFunc
	wg      sync.WaitGroup
	gone    chan struct{} // closed once the transport is
	rested  chan struct{} // closed once Raft has ended
	changes broadcast
	kicks   broadcast
	links   broadcast // a link came up
	started Instant
	boot    string // new at each Open
	backlog backlog
	doubt   string // owned by detect
	notify  chan bool

	probing     atomic.Bool
	recording   sync.Mutex // orders what is written to pool.json; taken before mu
	mu          sync.Mutex
	record      Record
	peers       map[MemberID]*peer
	linkStops   map[MemberID]linkStop
	runsOld     bool
	expelled    *transport.Refusal
	view        View
	viewAt      Instant
	lasting     Health // of the last picture that was no Failure: a new leader is not Primary at once
	status      Status
	term        uint64
	reign       *reign
	cause       takeoverCause
	vacant      uint64 // term at whose beginning the VIP was known to be free
	askSeq      uint64
	stale       map[MemberID]bool // who says that our log is behind where it was
	laid        *release          // what this node, leading on in Raft, laid down
	pending     []MemberID        // who is about to vote: the lease counts on them already
	recordDirty bool
	maintenance bool
	heardLead   bool
	changeover  *Changeover
	extra       map[string]any
	handing     bool
	sickness    string
	sickAt      Instant
	cutOff      Instant // since when this Primary is cut off on the first path
	stable      Instant // since when the Master could take Primary back
	backOff     time.Duration
	noteworthy  map[string]Instant
	digest      digestCheck

	committed    atomic.Int64 // Unix ms of this node's last committed write as leader
	witness      witness
	witnessing   bool // a goroutine writes it
	witnessDirty bool
	looked       string  // the last doubt that look has seen
	handCode     string  // cause code of the hand over under way; empty: by its kind
	backOffAt    Instant // when the wait before taking back grew last
}

// broadcast wakes everyone who waits; it holds no state, so waiters look for themselves.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) wake() {
	b.mu.Lock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
	b.mu.Unlock()
}

func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

// ErrLostStore is returned by Open when the record says that this member has a log and the store
// has none: voting from an empty store could elect a Manager that lacks acknowledged records.
var ErrLostStore = errors.New("this member's Raft store is gone although it belongs to a pool")

// Create makes the folder of a new pool of one: a fresh identity and a Raft store in which it is
// the only voter. It returns the record written.
func Create(dir string, self Member, timing Timing) (Record, error) {
	self.ID = MemberID(NewID())
	self.Role = Standalone
	rec := Record{Pool: NewID(), Incarnation: NewID(), Self: self.ID, Phase: PhaseSingle, Members: []Member{self}, Timing: timing}
	return rec, found(dir, rec)
}

// Join makes the folder of a member that will be filled by others: an identity and an empty store.
func Join(dir string, rec Record) error {
	st, err := openStore(dir, newWatch(Now, time.Minute), nil)
	if err != nil {
		return err
	}
	if last, err := st.LastIndex(); err != nil || last != 0 {
		return errors.Join(fmt.Errorf("folder %s already has a Raft log of %d entries: it belongs to a pool; reset it first", dir, last), err, st.Close())
	}
	if err := st.Close(); err != nil {
		return err
	}
	return WriteRecord(dir, rec)
}

func found(dir string, rec Record) error {
	st, err := openStore(dir, newWatch(Now, time.Minute), nil)
	if err != nil {
		return err
	}
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(rec.Self)
	conf.LogOutput = discard{}
	err = raft.BootstrapCluster(conf, st, st, &snapshots{dir: dir}, nowhere(rec.Self), raft.Configuration{Servers: []raft.Server{{
		Suffrage: raft.Voter, ID: raft.ServerID(rec.Self), Address: raft.ServerAddress(rec.Self),
	}}})
	if err := errors.Join(err, st.Close()); err != nil {
		return fmt.Errorf("found pool in %s: %w", dir, err)
	}
	return WriteRecord(dir, rec)
}

// Open starts this member. The Port and Dialer stay the caller's.
func Open(cfg Config) (*Pool, error) {
	rec := cfg.Record
	if err := rec.Timing.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{
		cfg: cfg, self: rec.Self, timing: rec.Timing, log: cfg.Log, record: rec, started: Now(),
		peers: map[MemberID]*peer{}, linkStops: map[MemberID]linkStop{}, gone: make(chan struct{}), rested: make(chan struct{}),
		notify: make(chan bool, 16), stale: map[MemberID]bool{}, maintenance: cfg.Maintenance, status: Online,
		noteworthy: map[string]Instant{}, boot: NewID()[:8],
	}
	p.ctx, p.cancel = context.WithCancelCause(context.Background())
	p.watch = newWatch(Now, p.timing.DiskTimeout)
	p.lease = newLease(p.timing.Lease(), p.wake)
	st, err := openStore(cfg.Dir, p.watch, p.gone)
	if err != nil {
		return nil, err
	}
	p.store, st.fault = st, cfg.disk
	fail := func(err error) (*Pool, error) {
		p.cancel(err)
		return nil, errors.Join(err, st.Close())
	}
	term, err := st.GetUint64([]byte("CurrentTerm"))
	if err != nil && err.Error() != "not found" {
		return fail(fmt.Errorf("read term: %w", err))
	}
	last := st.end().Index
	p.snaps = &snapshots{dir: cfg.Dir, machine: cfg.Machine, ctx: p.ctx}
	if marker, err := p.snaps.marker(); err != nil {
		return fail(err)
	} else if had := rec.Highest[rec.Self]; last == 0 && marker == nil && had.Index > 0 {
		return fail(fmt.Errorf("%w: it held entry %d of term %d; reset this member and let it join anew", ErrLostStore, had.Index, had.Term))
	}
	grace := p.timing.startGrace()
	if len(rec.Members) == 1 || last == 0 && term == 0 {
		grace = 0 // nobody to promise anything, or nothing was ever said
	}
	p.promise = newPromise(Now, term, grace)
	if !p.arbiter() {
		p.gate = transport.NewGate(transport.GateConfig{
			Silence: p.timing.Lease(), MaxHold: p.timing.HoldTimeout, Settle: 5, BackOff: 2 * time.Second,
			Heard: p.whoIsHeard, Changed: p.wake,
		})
	}
	p.recall()
	if err := p.startRaft(); err != nil {
		return fail(err)
	}
	p.syncPeers()
	removals := []func(){
		cfg.Port.Handle(transport.KindRaft, rec.Pool, p.admit, p.stream.serve),
		cfg.Port.Handle(transport.KindLink, rec.Pool, p.admit, p.serveLink),
		cfg.Port.HandleFarewell(p.onFarewell),
	}
	p.wg.Go(func() {
		<-p.ctx.Done()
		for _, r := range removals {
			r()
		}
	})
	p.wg.Go(p.pumpNotify)
	p.wg.Go(func() { p.housekeep(p.ctx) })
	if !p.arbiter() {
		p.wg.Go(func() { p.detect(p.ctx) })
		p.wg.Go(func() { p.reigns(p.ctx) })
	}
	return p, nil
}

func (p *Pool) startRaft() error {
	p.stream = newStream(p)
	logger := hclog.New(&hclog.LoggerOptions{Name: "raft", Level: hclog.Warn, Output: logWriter{p.log}, DisableTime: true})
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: p.stream, MaxPool: 4, MaxRPCsInFlight: 1, Timeout: p.timing.LongLivedTimeout,
		MsgpackUseNewTimeFormat: true, Logger: logger,
	})
	inner.TimeoutScale = 64 << 10
	p.trans = transport.NewRaftTransport(inner, rules{p}, p.gate)

	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(p.self)
	c.HeartbeatTimeout, c.ElectionTimeout = p.timing.managerElection(), p.timing.managerElection()
	if p.arbiter() {
		c.HeartbeatTimeout, c.ElectionTimeout = p.timing.arbiterElection(), p.timing.managerElection()*2
	}
	// The library's lease proves nothing (a late answer renews it); the right to be Primary is our
	// own. This one only ends leading without a quorum, so it may be long, but not as long as a
	// silent link stands: the others then still learn of it where they hear this node.
	c.LeaderLeaseTimeout = min(c.HeartbeatTimeout, p.timing.arbiterElection())
	c.CommitTimeout = 20 * time.Millisecond
	c.MaxAppendEntries = 256
	c.BatchApplyCh = true
	c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 100_000, 16_384, 20*time.Second
	if p.arbiter() { // its log is never sent to anyone; what remains only has to bridge a Manager's walk back
		c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 10_240, 8_192, 5*time.Second
	}
	c.NoSnapshotRestoreOnStart = true
	c.ShutdownOnRemove = false
	c.NoLegacyTelemetry = true
	c.NotifyCh = p.notify
	c.Logger = logger
	if p.cfg.tune != nil {
		p.cfg.tune(c)
	}
	f := &fsm{machine: p.cfg.Machine, ctx: p.ctx, watch: p.watch, log: p.log.Warn, applied: func(Position) { p.wake() }}
	r, err := raft.NewRaft(c, f, p.store, p.store, p.snaps, p.trans)
	if err != nil {
		return errors.Join(fmt.Errorf("start Raft: %w", err), p.trans.Close())
	}
	p.raft = r
	return nil
}

// ErrClosed is the cause of everything that Close ends.
var ErrClosed = errors.New("this member is being closed")

// closeLimit bounds how long Close waits for each thing that may hang with a disk.
const closeLimit = 5 * time.Second

// Close lays Primary down if this node has it, leaves the network and closes the store. Other
// members see a member that is gone, not one that left. It does not wait for ever on a disk that
// hangs: its error then says what was left running, and the folder must not be opened again by
// this process.
func (p *Pool) Close() error { return p.end(true) }

// end closes this member; without farewell it does so as a process does that is killed.
func (p *Pool) end(farewell bool) error {
	if !farewell {
		p.cancel(ErrClosed)
	}
	left := within(closeLimit, "Serve", func() error { p.endReign(ErrClosed, true); return nil })
	if farewell && p.raft.State() == raft.Leader && !p.arbiter() {
		p.releaseAll(p.raft.CurrentTerm(), "", "", "shutting down")
	}
	if farewell && !p.arbiter() {
		for _, m := range p.Record().Members {
			if m.ID != p.self {
				p.tell(m.ID, linkMessage{Bye: true})
			}
		}
	}
	p.cancel(ErrClosed)
	p.trans.EndTerm()
	if p.gate != nil {
		p.gate.NoPeer(true)
	}
	terr := p.trans.Close()
	serr := p.stream.Close()
	close(p.gone)
	left = errors.Join(left, within(closeLimit, "Raft", p.raft.Shutdown().Error))
	close(p.rested)
	left = errors.Join(left,
		within(closeLimit, "a part of this member", func() error { p.wg.Wait(); return nil }))
	if left != nil { // the store is in use, and closing it would hang too
		return errors.Join(left, terr, serr)
	}
	return errors.Join(terr, serr, within(closeLimit, "the store", func() error {
		p.saveRecord()
		return p.store.Close()
	}))
}

// within returns f's error, or one that names what when f has not returned in time; f then runs on.
func within(d time.Duration, what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("close: %s has not ended within %v: is the disk hanging? End the process", what, d)
	}
}

func (p *Pool) arbiter() bool { return p.cfg.Record.me().Role == Arbiter }

// Record returns what this member knows of its pool. Its slices and maps must not be changed.
func (p *Pool) Record() Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.record
}

// Barrier waits until everything committed before is applied here.
func (p *Pool) Barrier(ctx context.Context) error {
	d := p.timing.LongLivedTimeout
	if t, ok := ctx.Deadline(); ok {
		d = time.Until(t)
	}
	return await(ctx, p.raft.Barrier(d))
}

func (p *Pool) wake() { p.changes.wake() }

func (p *Pool) woken() <-chan struct{} { return p.changes.wait() }

func (p *Pool) beatKick() <-chan struct{} { return p.kicks.wait() }

func (p *Pool) event(e Event) {
	if p.cfg.Event != nil {
		e.Term = max(e.Term, p.raftTerm())
		p.cfg.Event(e)
	}
}

func (p *Pool) raftTerm() uint64 {
	if p.raft == nil {
		return 0
	}
	return p.raft.CurrentTerm()
}

func (p *Pool) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.wg.Add(1)
	return true
}

func (p *Pool) leave() { p.wg.Done() }

// leader returns whom Raft takes for the leader, and the term.
func (p *Pool) leader() (MemberID, uint64) {
	_, id := p.raft.LeaderWithID()
	return MemberID(id), p.raft.CurrentTerm()
}

func (p *Pool) lastPosition() Position {
	l, m := p.store.end(), p.snaps.end()
	if m.Index > l.Index {
		return m
	}
	return l
}

func (p *Pool) isArbiter(id MemberID) bool {
	m, ok := p.Record().Member(id)
	return ok && m.Role == Arbiter
}

func (p *Pool) name(id MemberID) string {
	i := slices.IndexFunc(p.record.Members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return string(id)
	}
	return p.record.Members[i].Name
}

// third returns the voter that is neither this node nor that one.
func (p *Pool) third(other MemberID) (MemberID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.thirdLocked(other)
	return id, id != ""
}

func (p *Pool) thirdLocked(other MemberID) MemberID {
	for _, m := range p.record.Members {
		if m.ID != other && m.ID != p.self {
			return m.ID
		}
	}
	return ""
}

// livePath returns the path on which a member was heard last, the first one in doubt.
func (p *Pool) livePath(id MemberID) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[id]
	if pr == nil {
		return 0
	}
	m, _ := p.record.Member(id)
	if m.Second.IsValid() && pr.out[0] == nil && pr.out[1] != nil {
		return 1
	}
	if m.Second.IsValid() && Since(pr.heard[0]) > p.timing.Detect() && Since(pr.heard[1]) <= p.timing.Detect() {
		return 1
	}
	return 0
}

// whoIsHeard tells the gate of whom this member has heard.
func (p *Pool) whoIsHeard() transport.Heard {
	now := Now()
	h := transport.Heard{Other: math.MaxInt64}
	p.mu.Lock()
	m, ok := p.record.ByRole(Arbiter)
	for _, o := range p.record.Members {
		if pr := p.peers[o.ID]; pr != nil && o.ID != p.self && o.Role != Arbiter && pr.lastHeard() != 0 {
			h.Other = now.Sub(pr.lastHeard())
		}
	}
	p.mu.Unlock()
	if ok {
		h.Arbiter, h.Fresh = p.lease.fresh(m.ID, now)
	}
	return h
}
