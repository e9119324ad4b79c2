package vip

import (
	"errors"
	"time"
)

// end makes the loss known and removes the address.
func (l *Lease) end(why error) {
	l.stopPreparing(why)
	l.mu.Lock()
	l.err = why
	l.mu.Unlock()
	close(l.done)
	err := l.remove()
	if !errors.Is(why, ErrReleased) {
		l.k.event(Event{Kind: EventLost, Text: why.Error()})
	}
	if err != nil {
		l.k.log.Error("virtual address was not removed cleanly", "address", l.bind.Address, "error", err)
	}
	l.mu.Lock()
	l.errOut = err
	l.mu.Unlock()
	close(l.gone)
}

// remove has the guard remove the address; if it does not answer in time it is killed, and the
// address is removed without it.
func (l *Lease) remove() error {
	if l.guard != nil {
		l.order(order{Op: orderRelease, Hold: l.id})
		t := time.NewTimer(releaseBudget)
		defer t.Stop()
		for waiting := true; waiting; {
			select {
			case r := <-l.reports:
				if r.from == l.guard && r.Hold == l.id && r.Op == reportEnded {
					if r.Text == "" {
						return nil
					}
					waiting = false
				}
			case <-l.guard.dead:
				waiting = false
			case <-t.C:
				l.guard.kill()
				t.Reset(releaseBudget) // a process that cannot even be killed is not waited for twice
				select {
				case <-l.guard.dead:
				case <-t.C:
				}
				waiting = false
			}
		}
	}
	return l.k.takeDown(l.bind)
}

// abandon ends a Lease that was never run.
func (l *Lease) abandon(err error) {
	l.stopPreparing(err)
	l.mu.Lock()
	l.err = err
	l.mu.Unlock()
	close(l.done)
	close(l.gone)
}
