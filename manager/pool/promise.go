package pool

import (
	"fmt"
	"math"
	"sync"
	"time"
)

// promise is what this member owes the Primary: having answered its heartbeat at t, it votes for
// nobody else before t + lease. The lease of the Primary rests on it, and it on nothing but this
// member's own clock.
//
// One lock orders "a lease was granted in term n" against "a vote left in a term above n", so
// that the two can never both be true. It is safe for concurrent use.
type promise struct {
	now func() Instant

	mu        sync.Mutex
	term      uint64 // the highest term in which this member voted or stood
	to        MemberID
	at        tenure // of what was granted last
	until     Instant
	notBefore Instant // no votes before: this process may have promised otherwise before it stopped
	freedBy   MemberID
	freed     tenure // up to where freedBy has let go: what it asked for before counts no more
}

// tenure orders the extents of one member's right: a term, and within it how often the voters
// were let go already.
type tenure struct{ term, epoch uint64 }

func (a tenure) before(b tenure) bool {
	return a.term < b.term || a.term == b.term && a.epoch < b.epoch
}

// wholeTerm is the end of everything in a term: the process that led in it is dead.
func wholeTerm(term uint64) tenure { return tenure{term, math.MaxUint64} }

// newPromise starts from the term that the stable store has.
func newPromise(now func() Instant, term uint64, grace time.Duration) *promise {
	return &promise{now: now, term: term, notBefore: now().Add(grace)}
}

// grant answers a heartbeat of from, which leads and asks for a lease. The promise is a twentieth
// longer than the lease, so that clocks may run apart by 5 %.
func (p *promise) grant(from MemberID, at tenure, lease time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	switch {
	case at.term < p.term, at.term < p.at.term:
		return false
	case p.to != from && now < p.until:
		return false
	case p.to == from && at.before(p.at):
		return false
	case p.freedBy == from && !p.freed.before(at):
		return false // sent before the release that has overtaken it
	}
	p.until = max(p.until, now.Add(lease+lease/20))
	p.to, p.at = from, at
	return true
}

// vote asks whether this member may vote for candidate (itself included) in term. With real the
// consent binds: no lease in an older term is granted after it.
func (p *promise) vote(candidate MemberID, term uint64, real bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if now < p.notBefore {
		return fmt.Errorf("this member has just started and votes in %v: it may have promised its vote before", (p.notBefore.Sub(now)).Round(time.Millisecond))
	}
	if p.to != candidate && now < p.until {
		return fmt.Errorf("vote is promised to %s for another %v", p.to, p.until.Sub(now).Round(time.Millisecond))
	}
	if real {
		p.term = max(p.term, term)
	}
	return nil
}

// release lets go of what was promised to from up to and with at: it said so itself, or its death
// in that term is proven.
func (p *promise) release(from MemberID, at tenure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.freedBy != from || p.freed.before(at) {
		p.freedBy, p.freed = from, at
	}
	if p.to == from && !at.before(p.at) {
		p.until = 0
	}
}

// starting reports whether this member has started so recently that it votes for nobody.
func (p *promise) starting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now() < p.notBefore
}

// owed returns to whom this member's vote is promised now; empty: to nobody.
func (p *promise) owed() (to MemberID, until Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now() >= p.until {
		return "", 0
	}
	return p.to, p.until
}
