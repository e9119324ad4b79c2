package pool

import (
	"fmt"
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
	toTerm    uint64
	until     Instant
	notBefore Instant // no votes before: this process may have promised otherwise before it stopped
}

// newPromise starts from the term that the stable store has.
func newPromise(now func() Instant, term uint64, grace time.Duration) *promise {
	return &promise{now: now, term: term, notBefore: now().Add(grace)}
}

// grant answers a heartbeat of from, which leads in term and asks for a lease.
func (p *promise) grant(from MemberID, term uint64, lease time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	if term < p.term || (p.to != from && now < p.until) {
		return false
	}
	if term < p.toTerm {
		return false
	}
	p.to, p.toTerm, p.until = from, term, max(p.until, now.Add(lease))
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

// release lets go of what was promised to from up to term: it said so itself, or its death in
// that term is proven.
func (p *promise) release(from MemberID, term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to == from && p.toTerm <= term {
		p.until = 0
	}
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
