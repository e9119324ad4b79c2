package transport

import (
	"context"
	"math"
	"sync"
	"time"
)

// GateState says whether the Arbiter may get ahead of the other Manager.
type GateState uint8

// The states of a Gate.
const (
	// GateShut: an entry goes to the Arbiter only once the other Manager has it. What is
	// acknowledged then has two copies.
	GateShut GateState = iota
	// GateOpen: the other Manager is away; entries are acknowledged with one copy only.
	GateOpen
)

func (s GateState) String() string {
	if s == GateOpen {
		return "open"
	}
	return "shut"
}

// GateConfig are the limits of a Gate.
type GateConfig struct {
	// Silence is how long the other Manager may give no sign of life before the Gate may open.
	Silence time.Duration
	// MaxHold is how long one entry is held at most while the other Manager lives but does not
	// store.
	MaxHold time.Duration
	// Settle is how many good answers in a row, with nothing behind, shut an open Gate.
	Settle int
	// BackOff keeps the Gate open at least this long after it opened because of MaxHold.
	BackOff time.Duration
	// Heard tells of whom this node has heard. Nil: nothing is known of the other Manager beside
	// its answers, and the Arbiter answers. It is called without locks and must not wait.
	Heard func() Heard
	// Changed, if set, is called without locks whenever State or InStep may have changed.
	Changed func()
}

// Heard is of whom a leader has heard.
type Heard struct {
	// Other is how long ago anything came from the other Manager. Its disk may stand still for
	// longer than its heartbeats.
	Other time.Duration
	// Arbiter is how long ago the last question was asked that the Arbiter consented to. Fresh:
	// that keeps the lease valid. The Gate never opens otherwise: a Primary that hears nobody would
	// feed the Arbiter past the other Manager and leave a pool that one fault has stopped.
	Arbiter time.Duration
	Fresh   bool
}

// Gate delays entries to the Arbiter behind the other Manager's acknowledgement. It only ever
// delays, so Raft's safety is untouched; what it adds is that the Manager that is in step can
// always be elected. It is safe for concurrent use.
type Gate struct {
	cfg GateConfig

	mu       sync.Mutex
	term     uint64
	state    GateState
	match    uint64 // what the other Manager is known to have stored, this term
	sent     uint64 // the highest index that the Arbiter may have, this term
	last     uint64 // the highest index seen on its way to either
	good     time.Time
	goodRun  int
	openedAt time.Time
	backOff  time.Duration // this opening lasts at least that long
	slowAt   time.Time     // when the other Manager was last found alive but slow
	slowFor  time.Duration // and the back-off then
	down     bool          // the other Manager's process is known to be dead
	away     bool          // no other Manager at all: a pool that is being left
	wake     chan struct{}
}

// NewGate returns a shut Gate.
func NewGate(cfg GateConfig) *Gate {
	return &Gate{cfg: cfg, wake: make(chan struct{})}
}

// Begin starts a term in which this node leads; lastIndex is the last index of its own log,
// which the Arbiter may have already.
func (g *Gate) Begin(term, lastIndex uint64) {
	g.mu.Lock()
	if term > g.term {
		g.beginLocked(term, lastIndex)
	} else if term == g.term {
		g.sent = max(g.sent, lastIndex)
		g.last = max(g.last, lastIndex)
	}
	g.mu.Unlock()
	g.changed()
}

func (g *Gate) beginLocked(term, lastIndex uint64) {
	g.term, g.state, g.match = term, GateShut, 0
	g.sent, g.last = lastIndex, lastIndex
	g.good, g.goodRun, g.openedAt = time.Now(), 0, time.Time{}
	g.broadcastLocked()
}

// Quiet says that the other Manager has been silent for long enough already when this term began,
// so that the Gate need not wait for its silence again. Its next good answer ends that.
func (g *Gate) Quiet(term uint64) {
	g.set(func() {
		if g.term == term {
			g.good = time.Time{}
		}
	})
}

// PeerDown reports that the other Manager's process is dead, PeerUp that it is back.
func (g *Gate) PeerDown() { g.set(func() { g.down, g.goodRun = true, 0 }) }

// PeerUp clears PeerDown. Only a new connection from the peer's process may report it: a late
// answer of the dead process must not.
func (g *Gate) PeerUp() { g.set(func() { g.down, g.goodRun = false, 0 }) }

// NewPeer says that another Manager has taken the place of the one before: what that one had stored
// says nothing about this one, which has to be filled first.
func (g *Gate) NewPeer() {
	g.set(func() {
		g.match, g.good, g.goodRun, g.down = 0, time.Time{}, 0, false
		g.state, g.backOff, g.openedAt = GateOpen, 0, time.Now()
	})
}

// NoPeer says that there is no other Manager to wait for (away true), or that there is again.
func (g *Gate) NoPeer(away bool) { g.set(func() { g.away = away }) }

func (g *Gate) set(f func()) {
	g.mu.Lock()
	f()
	g.broadcastLocked()
	g.mu.Unlock()
	g.changed()
}

// Ack records that the other Manager has stored everything up to index in that term.
func (g *Gate) Ack(term, index uint64) {
	g.mu.Lock()
	if term < g.term {
		g.mu.Unlock()
		return
	}
	if term > g.term {
		g.beginLocked(term, index)
	}
	g.good = time.Now()
	moved := false
	if index > 0 { // 0: a heartbeat, which says nothing about the log
		moved = index > g.match
		g.match = max(g.match, index)
		g.last = max(g.last, index)
		if g.down {
			g.goodRun = 0 // a late answer of the process that died
		} else if g.match >= g.sent && g.match >= g.last {
			g.goodRun++
		} else if g.state == GateOpen && g.match+uint64(g.cfg.Settle) < g.sent {
			g.goodRun = 0
		}
	}
	shut := g.state == GateOpen && !g.down && !g.away && g.goodRun >= g.cfg.Settle &&
		time.Since(g.openedAt) >= g.backOff
	if shut {
		// From here on nothing more goes to the Arbiter; InStep waits for match to pass sent.
		g.state = GateShut
	}
	if moved || shut {
		g.broadcastLocked()
	}
	g.mu.Unlock()
	if moved || shut {
		g.changed()
	}
}

// Wait blocks until entries first..last of term may go to the Arbiter and returns the last one
// that may, at least first. It counts them as sent. It returns 0 when ctx ended or the term did.
func (g *Gate) Wait(ctx context.Context, term, first, last uint64) uint64 {
	var hold *time.Timer
	start := time.Now()
	for {
		h := g.heard()
		g.mu.Lock()
		if term > g.term {
			g.beginLocked(term, last)
		}
		g.last = max(g.last, last)
		if term < g.term {
			g.mu.Unlock()
			return 0
		}
		if g.state == GateShut && g.match < first && g.mayOpenLocked(start, h) {
			g.openLocked(h)
			defer g.changed()
		}
		if allowed := g.allowedLocked(first, last); allowed > 0 {
			g.sent = max(g.sent, allowed)
			g.mu.Unlock()
			return allowed
		}
		wake := g.wake
		g.mu.Unlock()

		if hold == nil {
			hold = time.NewTimer(gatePoll)
			defer hold.Stop()
		} else {
			hold.Reset(gatePoll)
		}
		select {
		case <-ctx.Done():
			return 0
		case <-wake:
		case <-hold.C:
		}
	}
}

// gatePoll is how often a held entry looks whether the Gate may open by time alone.
const gatePoll = 5 * time.Millisecond

func (g *Gate) allowedLocked(first, last uint64) uint64 {
	if g.state == GateOpen {
		return last
	}
	if g.match >= first {
		return min(g.match, last)
	}
	return 0
}

// heard asks without the lock: whoever answers may be about to tell the Gate something.
func (g *Gate) heard() Heard {
	if g.cfg.Heard == nil {
		return Heard{Other: math.MaxInt64, Fresh: true}
	}
	return g.cfg.Heard()
}

// quietLocked is how long the other Manager has given no sign of life.
func (g *Gate) quietLocked(h Heard) time.Duration { return min(time.Since(g.good), h.Other) }

func (g *Gate) mayOpenLocked(heldSince time.Time, h Heard) bool {
	switch quiet := g.quietLocked(h); {
	case !h.Fresh:
		return false
	case g.down, g.away:
		return true
	case quiet > g.cfg.Silence:
		// Who fell silent together with the Arbiter may be well: then it is this node that hears
		// nobody. So the Arbiter must have answered since, well into the silence.
		return h.Arbiter < quiet-g.cfg.Silence/2
	}
	return time.Since(heldSince) > g.cfg.MaxHold
}

func (g *Gate) openLocked(h Heard) {
	g.state, g.goodRun = GateOpen, 0
	switch slow := !g.down && !g.away && g.quietLocked(h) <= g.cfg.Silence; {
	case !slow:
		g.backOff = 0 // who was away and is back has no reason to wait
	case !g.slowAt.IsZero() && time.Since(g.slowAt) < 10*g.slowFor:
		g.slowFor = min(2*g.slowFor, time.Minute) // alive but slow, again: do not flap
		g.backOff, g.slowAt = g.slowFor, time.Now()
	default:
		g.slowFor, g.slowAt = g.cfg.BackOff, time.Now()
		g.backOff = g.slowFor
	}
	g.openedAt = time.Now()
	g.broadcastLocked()
}

// GateView is what a Gate knows.
type GateView struct {
	State  GateState
	InStep bool   // shut, and the other Manager has all that the Arbiter may have
	Match  uint64 // the other Manager's last known index in this term; 0: not heard yet
	Term   uint64
}

// View returns the present view for the term; for another term it is not in step.
func (g *Gate) View(term uint64) GateView {
	g.mu.Lock()
	defer g.mu.Unlock()
	if term != g.term {
		return GateView{State: g.state, Term: g.term}
	}
	return GateView{
		State: g.state, Match: g.match, Term: g.term,
		InStep: g.state == GateShut && !g.down && !g.away && g.match >= g.sent && g.match > 0 && time.Since(g.good) <= g.cfg.Silence,
	}
}

func (g *Gate) broadcastLocked() {
	close(g.wake)
	g.wake = make(chan struct{})
}

func (g *Gate) changed() {
	if g.cfg.Changed != nil {
		g.cfg.Changed()
	}
}
