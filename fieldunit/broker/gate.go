package broker

import (
	"context"
	"sync"
)

// gate counts what is under way and can be shut: then nothing more enters, and the end of the
// last one can be awaited. The zero gate is open.
type gate struct {
	mu     sync.Mutex
	n      int
	closed bool
	empty  chan struct{} // non-nil while shut waits
}

// enter reports whether one more may be under way; leave must follow.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.n++
	return true
}

func (g *gate) leave(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n -= n
	if g.n == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// shut closes the gate, waits until nothing is under way or ctx ends, and returns what is left.
func (g *gate) shut(ctx context.Context) int {
	g.mu.Lock()
	g.closed = true
	if g.n == 0 {
		g.mu.Unlock()
		return 0
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}
