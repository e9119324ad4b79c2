package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// kernel is what the guard does to the host; *host is the real one.
type kernel interface {
	bind(binding) error
	unbind(netip.Addr, int) error
	admit(b binding, fresh bool) error
	shut(binding) error
	destroy(netip.Addr) (int, error)
}

const (
	// refreshPeriod is the distance of refreshes of the address's lifetime: one costs 15 µs.
	refreshPeriod = 250 * time.Millisecond
	// retryPeriod is the distance of attempts after a refresh failed.
	retryPeriod = 50 * time.Millisecond
	// forever is later than any deadline.
	forever = Instant(1<<63 - 1)
)

// holder is the guard without its pipes: it holds at most one address. It is driven by one
// goroutine; time and kernel come from outside.
type holder struct {
	kernel kernel
	now    func() Instant
	report func(report) // must not block

	held bool
	id   uint64
	what binding
	// The address is taken down at until; refresh and renew are when its lifetime and the fence are due.
	until, refresh, renew Instant
}

// order carries out one order; it returns false when the guard shall end.
func (h *holder) order(o order) bool {
	switch o.Op {
	case orderHold:
		h.hold(o)
	case orderQuit:
		if h.held {
			h.end(whyReleased)
		}
		return false
	case orderUntil, orderRestore, orderRelease:
		if !h.held || h.id != o.Hold {
			h.report(report{Op: reportEnded, Hold: o.Hold, Why: whyUnknown})
			return true
		}
		h.known(o)
	}
	return true
}

func (h *holder) known(o order) {
	switch o.Op {
	case orderUntil:
		h.until = o.Until
		h.report(report{Op: reportAck, Hold: h.id, Until: o.Until})
	case orderRestore:
		h.refresh, h.renew = 0, 0
		if h.tick(); h.held && h.id == o.Hold {
			h.report(report{Op: reportRestored, Hold: h.id})
		}
	case orderRelease:
		h.end(whyReleased)
	}
}

func (h *holder) hold(o order) {
	if h.held {
		h.end(whyReleased)
	}
	h.held, h.id, h.what, h.until = true, o.Hold, *o.Bind, o.Until
	if h.now() >= h.until {
		h.held = false
		h.report(report{Op: reportEnded, Hold: o.Hold, Why: whyDeadline})
		return
	}
	err := h.kernel.bind(h.what)
	if err == nil {
		err = h.kernel.admit(h.what, true)
	}
	now := h.now()
	h.refresh, h.renew = now.Add(refreshPeriod), now.Add(h.renewPeriod())
	switch {
	case now >= h.until: // it took too long: what was just bound is already too much
		h.end(whyDeadline)
	case err != nil:
		h.takeDown()
		h.report(report{Op: reportEnded, Hold: h.id, Why: whyRefused, Text: err.Error()})
	default:
		h.report(report{Op: reportHeld, Hold: h.id})
	}
}

// renewPeriod leaves the fence room for several late renewals.
func (h *holder) renewPeriod() time.Duration { return h.what.Fence / 5 }

// tick does what is due: the take-down at the deadline, else the refreshes. The clock is read
// before and after each, because the kernel puts back an address that has expired.
func (h *holder) tick() {
	if !h.held {
		return
	}
	now := h.now()
	if now >= h.until {
		h.end(whyDeadline)
		return
	}
	if now >= h.refresh {
		err := h.kernel.bind(h.what)
		now = h.now()
		if now >= h.until {
			h.end(whyDeadline)
			return
		}
		h.refresh = now.Add(h.afterwards(err, refreshPeriod))
	}
	if h.what.Fence > 0 && now >= h.renew {
		err := h.kernel.admit(h.what, false)
		if errors.Is(err, errLapsed) {
			// The guard alone was late: the right is still ahead, so it may begin anew.
			h.report(report{Op: reportTrouble, Hold: h.id, Text: "the guard was late to renew the fence"})
			err = h.kernel.admit(h.what, true)
		}
		if now = h.now(); now >= h.until {
			h.end(whyDeadline)
			return
		}
		h.renew = now.Add(h.afterwards(err, h.renewPeriod()))
	}
}

func (h *holder) afterwards(err error, period time.Duration) time.Duration {
	if err == nil {
		return period
	}
	h.report(report{Op: reportTrouble, Hold: h.id, Text: err.Error()})
	return retryPeriod
}

// wake is when tick has something to do; forever when nothing is held.
func (h *holder) wake() Instant {
	if !h.held {
		return forever
	}
	if h.what.Fence > 0 {
		return min(h.until, h.refresh, h.renew)
	}
	return min(h.until, h.refresh)
}

// end takes the address down and reports it.
func (h *holder) end(why string) {
	text := ""
	if err := h.takeDown(); err != nil {
		text = err.Error()
	}
	h.report(report{Op: reportEnded, Hold: h.id, Why: why, Text: text})
}

// orphaned takes the address down because the parent died; it returns what is to be sent now.
func (h *holder) orphaned() []Farewell {
	if !h.held {
		return nil
	}
	_ = h.takeDown() // nobody is left to tell; the address lifetime stands behind it
	return h.what.Farewell
}

// takeDown stops the packets first, so that no connection can be made while the others are
// destroyed; then the connections, whose resets must leave before the address does.
func (h *holder) takeDown() error {
	h.held = false
	return takeDown(h.kernel, h.what)
}

func takeDown(k kernel, b binding) error {
	errShut := k.shut(b)
	_, errDestroy := k.destroy(b.Address)
	err := errors.Join(errShut, errDestroy, k.unbind(b.Address, b.Index))
	if err != nil {
		return fmt.Errorf("take down %v: %w", b.Address, err)
	}
	return nil
}
