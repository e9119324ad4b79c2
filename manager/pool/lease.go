package pool

import (
	"slices"
	"sync"
	"time"
)

// forever is the end of a lease that nobody else can contest: that of a pool of one.
const forever = Instant(1<<63 - 1)

// lease is the Primary's right. It is counted from when the question was sent, not from when the
// answer came, so that a late answer renews nothing. It is safe for concurrent use; reading it
// takes a lock and no system call.
type lease struct {
	mu      sync.Mutex
	term    uint64
	epoch   uint64 // how often the voters have been let go
	length  time.Duration
	need    int // answers needed from other voters; 0: this node alone is the quorum
	voters  map[MemberID]bool
	sent    map[MemberID]Instant // when the last question was sent that was answered with consent
	changed func()
}

func newLease(length time.Duration, changed func()) *lease {
	return &lease{length: length, need: unset, voters: map[MemberID]bool{}, sent: map[MemberID]Instant{}, changed: changed}
}

// begin starts a term in which this node leads and forgets all earlier consent.
func (l *lease) begin(term uint64) {
	l.mu.Lock()
	if term != l.term {
		l.term = term
		clear(l.sent)
	}
	l.mu.Unlock()
	l.changed()
}

// end takes the right away at once and returns the term that it was asked for in; 0: none.
func (l *lease) end() (term uint64) {
	l.mu.Lock()
	term, l.term = l.term, 0
	clear(l.sent)
	l.mu.Unlock()
	l.changed()
	return term
}

// release takes the right away and starts a new epoch: consent to what was asked before counts no
// more, even when it arrives later. It returns the epoch that ended.
func (l *lease) release() (epoch uint64) {
	l.mu.Lock()
	epoch = l.epoch
	l.epoch++
	l.term = 0
	clear(l.sent)
	l.mu.Unlock()
	l.changed()
	return epoch
}

// asking tells whether the lease is asked for in term, and in which epoch.
func (l *lease) asking(term uint64) (epoch uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch, l.term == term && term != 0
}

// voting sets who votes beside this node.
func (l *lease) voting(others []MemberID) {
	l.mu.Lock()
	same := len(others) == len(l.voters) && l.need != unset
	for _, v := range others {
		same = same && l.voters[v]
	}
	if !same {
		clear(l.voters)
		for _, v := range others {
			l.voters[v] = true
		}
		l.need = (len(others) + 1) / 2 // a majority of the others and this node, less this node
	}
	l.mu.Unlock()
	if !same {
		l.changed()
	}
}

// unset is the need of a lease whose voters are not known yet: it cannot be met.
const unset = 1 << 30

// consent records that a voter granted what was asked at t.
func (l *lease) consent(from MemberID, at tenure, t Instant) {
	l.mu.Lock()
	ok := at == (tenure{l.term, l.epoch}) && at.term != 0 && t > l.sent[from]
	if ok {
		l.sent[from] = t
	}
	l.mu.Unlock()
	if ok {
		l.changed()
	}
}

// until returns the end of the right in the present term; 0: there is none.
func (l *lease) until() Instant {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.term == 0 {
		return 0
	}
	if l.need == 0 {
		return forever
	}
	at := make([]Instant, 0, 4) // on the stack for any pool of this product
	for id, t := range l.sent {
		if l.voters[id] {
			at = append(at, t)
		}
	}
	if len(at) < l.need {
		return 0
	}
	slices.Sort(at)
	return at[len(at)-l.need].Add(l.length)
}

// fresh returns how long ago the last question was asked that a voter consented to, and whether that
// still supports the lease.
func (l *lease) fresh(id MemberID, now Instant) (age time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, known := l.sent[id]
	return now.Sub(t), known && l.term != 0 && now < t.Add(l.length)
}
