package vip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// pingPeriod is how often the guard has to answer even if the right does not move.
	pingPeriod = 100 * time.Millisecond
	// releaseBudget is how long the guard may take to remove the address before it is killed
	// and the Keeper does it; it covers destroyBudget.
	releaseBudget = 400 * time.Millisecond
	// peerDefendInterval takes the place of DefendInterval towards the other Manager, which
	// gives way: only clients' caches have to be put right.
	peerDefendInterval = time.Second
)

// Lease is the address being held. Its methods are safe for concurrent use.
type Lease struct {
	k     *Keeper
	right Right
	id    uint64
	wire  wire
	ifi   net.Interface
	bind  binding

	held    chan struct{} // closed when the address is bound and announced for the first time
	done    chan struct{} // closed when it is decided that it is lost or released
	gone    chan struct{} // closed when it is removed
	release chan struct{} // closed by Release
	once    sync.Once     // closes release
	// preparing ends when ctx of Acquire does, or by Release.
	preparing     context.Context
	stopPreparing context.CancelCauseFunc

	poked    chan struct{} // look at guard, link and address again
	announce chan struct{}
	reports  chan guardReport

	mu     sync.Mutex
	err    error // why done is closed
	errOut error // of the removal
	since  time.Time

	// The rest belongs to run.
	guard      *guardProcess
	deaf       bool // the guard does not take orders and was killed
	bound      bool
	retried    bool     // the rules were mended and the hold ordered again
	looked     Instant  // when renew ran last
	unguarded  patience // no guard is known to hold
	missing    patience // the address is not there
	unanswered patience // the guard owes an answer
	sent       Instant  // the deadline that the guard was told last, or would have been if there were one
	sentAt     Instant
	strangers  defence
	peers      defence
	burst      int // announcements done of the present burst
	timer      *time.Timer
}

type guardReport struct {
	from *guardProcess
	report
}

// Done returns a channel that is closed when the address is lost for good or released; Err
// tells why. The address is being removed at that moment; Release waits until it is gone.
func (l *Lease) Done() <-chan struct{} { return l.done }

// Err returns nil while the address is held, and afterwards an error that wraps ErrReleased,
// ErrRightEnded, ErrLinkDown, ErrGuard or ErrAddress.
func (l *Lease) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Announce asks for one more burst of announcements, beginning now. It does not wait.
func (l *Lease) Announce() { notify(l.announce) }

// Release removes the address: its connections are destroyed first, so that their peers learn
// it. It returns when the address is gone, and at once if it is gone already; the error is
// that of the removal.
func (l *Lease) Release() error {
	l.once.Do(func() {
		close(l.release)
		l.stopPreparing(ErrReleased)
	})
	<-l.gone
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.errOut
}

func (l *Lease) over() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

func (l *Lease) holding() (bool, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && !l.since.IsZero(), l.since
}

func (l *Lease) wake() { notify(l.poked) }

func (l *Lease) deliver(g *guardProcess, r report) {
	select {
	case l.reports <- guardReport{g, r}:
	default: // run is far behind: it will see the guard as silent
	}
}

// notify leaves one token in a channel of capacity one.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run holds the address until it is lost or released.
func (l *Lease) run() {
	tick := time.NewTicker(l.k.cfg.RenewInterval)
	defer tick.Stop()
	l.timer = time.NewTimer(time.Hour)
	defer l.timer.Stop()
	l.looked = Now()
	l.unguarded.begin()
	err := l.adopt()
	for err == nil {
		select {
		case <-l.release:
			err = ErrReleased
			continue
		case <-tick.C:
		case <-l.poked:
			if err = l.look(); err != nil {
				continue
			}
		case r := <-l.reports:
			if err = l.heed(r); err != nil {
				continue
			}
		case mac := <-l.wire.claims():
			l.claimed(mac)
		case <-l.announce:
			l.startBurst()
		case <-l.timer.C:
			l.continueBurst()
		}
		err = l.renew()
	}
	l.end(err)
}

// adopt has the present guard hold the address; without one it waits for the next call.
func (l *Lease) adopt() error {
	g := l.k.guardian.current()
	if g == l.guard {
		return nil
	}
	l.unguarded.begin()
	l.unanswered.end()
	if l.guard, l.deaf = g, false; g == nil {
		return nil
	}
	return l.orderHold()
}

func (l *Lease) orderHold() error {
	now, until := Now(), l.deadline()
	if now >= until || l.lapsed(now) { // asked again just before the act that others see
		return ErrRightEnded
	}
	b := l.bind
	l.sent, l.sentAt = until, now
	l.order(order{Op: orderHold, Hold: l.id, Until: until, Bind: &b})
	return nil
}

// deadline is the moment for the guard to act, a little before the end of the right.
func (l *Lease) deadline() Instant { return l.right.Until().Add(-l.k.cfg.GuardMargin) }

// lapsed tells whether the last deadline that the guard was told has passed: the address is
// gone then or about to go, and a right that is ahead again by now must not bring it back.
func (l *Lease) lapsed(now Instant) bool { return l.sent != 0 && now >= l.sent }

// order sends an order; a guard that cannot be reached is replaced.
func (l *Lease) order(o order) {
	if l.deaf {
		return
	}
	if err := l.guard.order(o); err != nil {
		l.deaf = true
		l.k.log.Warn("guard does not take orders; replacing it", "pid", l.guard.pid(), "error", err)
		l.guard.kill()
	}
}

// renew tells the guard the end of the right, and gives up what has no right or no guard.
func (l *Lease) renew() error {
	now := Now()
	if now >= l.right.Until() {
		return ErrRightEnded
	}
	if l.lapsed(now) {
		return fmt.Errorf("%w: it was renewed too late, or this process stood still", ErrRightEnded)
	}
	passed := min(now.Sub(l.looked), 2*l.k.cfg.RenewInterval)
	l.looked = now
	if l.unguarded.over(passed) {
		return fmt.Errorf("%w for %v", ErrGuard, guardBudget)
	}
	if l.missing.over(passed) {
		return fmt.Errorf("%w: it was removed and cannot be put back", ErrAddress)
	}
	if l.unanswered.over(passed) {
		l.k.log.Warn("guard does not answer; replacing it", "pid", l.guard.pid(), "silent", guardBudget)
		l.unanswered.end()
		l.guard.kill() // the guardian starts another one and wakes this lease
		return nil
	}
	if until := l.deadline(); l.due(now, until) {
		l.sent, l.sentAt = until, now
		if l.guard != nil {
			l.unanswered.begin()
			l.order(order{Op: orderUntil, Hold: l.id, Until: until})
		}
	}
	if l.strangers.pending(now) || l.peers.pending(now) {
		l.defend(nil)
	}
	return nil
}

// due tells whether the guard is to be told until: not more often than RenewInterval, however
// often the right moves, and now and then even if it does not.
func (l *Lease) due(now, until Instant) bool {
	since := now.Sub(l.sentAt)
	return since >= pingPeriod || until != l.sent && since >= l.k.cfg.RenewInterval*3/4
}

// look compares guard, link and address with what they should be.
func (l *Lease) look() error {
	if err := l.adopt(); err != nil {
		return err
	}
	link := lookAtLink(l.ifi.Index)
	if !link.up {
		l.k.event(Event{Kind: EventLinkDown, Text: fmt.Sprintf("interface %s is down, without carrier or gone", l.ifi.Name)})
		return ErrLinkDown
	}
	if !bytes.Equal(link.mac, l.ifi.HardwareAddr) {
		l.ifi.HardwareAddr = link.mac
		l.startBurst()
	}
	if !l.bound || l.guard == nil {
		return nil
	}
	if link.name != l.ifi.Name {
		l.ifi.Name = link.name
		if err := l.k.attach(); err != nil { // the rules name the interface
			return err
		}
		l.wire = l.k.currentWire()
		l.order(order{Op: orderRestore, Hold: l.id})
	}
	there, err := l.k.bound(l.ifi.Index)
	if err != nil || there {
		return nil // an error here is the watch's, not the address's: the guard refreshes anyway
	}
	l.missing.begin()
	l.order(order{Op: orderRestore, Hold: l.id})
	return nil
}

// heed acts on a report of the guard.
func (l *Lease) heed(r guardReport) error {
	if r.from != l.guard || (r.Hold != l.id && r.Op != reportReady) {
		return nil // of a guard or a hold that is no more
	}
	switch r.Op {
	case reportHeld:
		l.unguarded.end()
		l.retried = false
		if l.bound {
			return nil // adopted from a guard that died
		}
		l.bound = true
		l.mu.Lock()
		l.since = time.Now()
		l.mu.Unlock()
		l.startBurst()
		close(l.held)
	case reportAck:
		l.unanswered.end()
		if r.Until != l.sent {
			l.unanswered.begin()
		}
	case reportRestored:
		if l.missing.waiting {
			l.missing.end()
			l.k.event(Event{Kind: EventRestored, Text: "another tool had removed the address; it was put back"})
			l.startBurst()
		}
	case reportTrouble:
		l.k.log.Warn("guard has trouble", "address", l.bind.Address, "text", r.Text)
		if l.bind.Fence > 0 && l.k.mendFence() {
			l.order(order{Op: orderRestore, Hold: l.id})
		}
	case reportEnded:
		return l.endedByGuard(r)
	}
	return nil
}

func (l *Lease) endedByGuard(r guardReport) error {
	switch r.Why {
	case whyDeadline:
		return fmt.Errorf("%w: the guard acted at its deadline", ErrRightEnded)
	case whyRefused:
		if !l.retried && l.k.mendFence() {
			l.retried = true
			return l.orderHold()
		}
		return fmt.Errorf("%w: %s", ErrAddress, r.Text)
	}
	return fmt.Errorf("%w: it does not hold the address (%s)", ErrGuard, r.Why)
}
