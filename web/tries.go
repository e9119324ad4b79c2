package web

import (
	"sync"
	"time"
)

// How many wrong passwords one address may send with HTTP Basic before it has to wait. Forms have
// a limit of their own.
const (
	mostTries  = 10
	triesPause = 30 * time.Second
	mostTriers = 10000
)

// tries counts wrong passwords by the address they come from.
type tries struct {
	mu   sync.Mutex
	from map[string]wrong
}

type wrong struct {
	n    int
	last time.Time
}

// blocked reports whether an address has to wait.
func (t *tries) blocked(address string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.from[address]
	if now.Sub(w.last) > triesPause {
		delete(t.from, address)
		return false
	}
	return w.n >= mostTries
}

// failed counts one more. The table is bounded: when it is full it begins anew.
func (t *tries) failed(address string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.from == nil || len(t.from) >= mostTriers {
		t.from = map[string]wrong{}
	}
	t.from[address] = wrong{n: t.from[address].n + 1, last: now}
}
