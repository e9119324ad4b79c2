package database

import (
	"context"
	"sync"
)

// gate lets users of the file in and shuts them out while the file is replaced or closed.
// Users that stay for long (a view, the rows of a query) say how to be thrown out.
type gate struct {
	mu     sync.Mutex
	closed error         // what enter returns from now on; nil: in use
	open   chan struct{} // closed while the gate is open
	idle   chan struct{} // closed when the last user left a shut gate; nil: nobody waits
	users  map[*visit]struct{}
}

// visit is one user's stay.
type visit struct {
	g     *gate
	evict func(error) // must end the stay soon; nil: the stay is short
	once  sync.Once
}

func newGate() *gate {
	g := &gate{open: make(chan struct{}), users: map[*visit]struct{}{}}
	close(g.open)
	return g
}

// enter waits while the gate is shut. ErrClosed, what fail was told, or the context's cause.
func (g *gate) enter(ctx context.Context, evict func(error)) (*visit, error) {
	for {
		g.mu.Lock()
		if err := g.closed; err != nil {
			g.mu.Unlock()
			return nil, err
		}
		select {
		case <-g.open:
			v := &visit{g: g, evict: evict}
			g.users[v] = struct{}{}
			g.mu.Unlock()
			return v, nil
		default:
		}
		open := g.open
		g.mu.Unlock()
		select {
		case <-open:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// leave may be called more than once.
func (v *visit) leave() {
	v.once.Do(func() {
		v.g.mu.Lock()
		defer v.g.mu.Unlock()
		delete(v.g.users, v)
		if v.g.idle != nil && len(v.g.users) == 0 {
			close(v.g.idle)
			v.g.idle = nil
		}
	})
}

// shut keeps new users out, throws the long ones out with reason and returns when all have
// left. Only one shut at a time (the Store's swap lock sees to that).
func (g *gate) shut(reason error, forever bool) {
	g.mu.Lock()
	select {
	case <-g.open:
		g.open = make(chan struct{})
	default:
	}
	if forever && g.closed == nil {
		g.closed = reason
	}
	idle := make(chan struct{})
	g.idle = idle
	var evict []func(error)
	for v := range g.users {
		if v.evict != nil {
			evict = append(evict, v.evict)
		}
	}
	if len(g.users) == 0 {
		close(idle)
		g.idle = nil
	}
	if g.closed != nil {
		close(g.open) // those who wait learn it
	}
	g.mu.Unlock()
	for _, e := range evict {
		e(reason)
	}
	<-idle
}

// reopen lets users in again after a shut.
func (g *gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
	default:
		close(g.open)
	}
}

// fail opens a shut gate to tell everyone that there is nothing behind it.
func (g *gate) fail(reason error) {
	g.mu.Lock()
	if g.closed == nil {
		g.closed = reason
	}
	g.mu.Unlock()
	g.reopen()
}

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed != nil
}
