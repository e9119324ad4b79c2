package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Right is the permission to hold the address.
type Right struct {
	// Until returns the end of the permission as known now; it moves forward while the
	// permission is renewed. It is called from goroutines of the Keeper, every RenewInterval and
	// before each act that others see, and must not block.
	Until func() Instant
	// Farewell is what the guard sends when this process has died, after the connections of the
	// address were destroyed and the address removed; all at once, one second at most each. It is
	// not sent after Release, at the end of the right, or when the guard has died too.
	Farewell []Farewell
	// HeldBy tells whether a hardware address belongs to the other one that may have had the
	// right before; nil: nobody does. If it answers the probe, Acquire waits until it stops.
	HeldBy func(mac net.HardwareAddr) bool
	// Vacant says that the one that had the right before is known to have let go. Acquire then
	// asks the wire without waiting for an answer; one that comes is still an EventConflict.
	Vacant bool
}

func (r Right) ended() bool { return Now() >= r.Until() }

func (r Right) heldBy(mac net.HardwareAddr) bool { return r.HeldBy != nil && r.HeldBy(mac) }

// probeRepeat is the distance of probes while the other Manager still answers.
const probeRepeat = 10 * time.Millisecond

// Acquire binds the address and announces it. It asks the wire first, for ProbeWait unless the
// address is known to be vacant (Right.Vacant); silence is the normal case. If the other Manager answers (Right.HeldBy) it asks again until that one
// is silent or HeldLimit has passed. If a stranger answers, that is an EventConflict and the
// address is bound nevertheless: with the right to it, no stranger can veto.
//
// ctx bounds Acquire only. Errors: ErrHeld, ErrClosed, ErrRightEnded, ErrLinkDown, ErrGuard,
// ErrAddress, or ctx's; after an error nothing is held.
func (k *Keeper) Acquire(ctx context.Context, r Right) (*Lease, error) {
	l, err := k.newLease(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("acquire %v: %w", k.address, err)
	}
	if err := l.prepare(l.preparing); err != nil {
		l.abandon(err)
		return nil, fmt.Errorf("acquire %v on %s: %w", k.address, k.ifaceName, err)
	}
	go l.run()
	select {
	case <-l.held:
		return l, nil
	case <-l.done:
		err = l.Err()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	return nil, errors.Join(fmt.Errorf("acquire %v on %s: %w", k.address, k.ifaceName, err), l.Release())
}

// newLease registers a Lease that holds nothing yet, so that there is one at most.
func (k *Keeper) newLease(ctx context.Context, r Right) (*Lease, error) {
	for {
		k.mu.Lock()
		old := k.lease
		switch {
		case k.closed:
			k.mu.Unlock()
			return nil, ErrClosed
		case old == nil || old.over():
			k.holds++
			l := &Lease{k: k, right: r, id: k.holds,
				held: make(chan struct{}), done: make(chan struct{}), gone: make(chan struct{}), release: make(chan struct{}),
				poked: make(chan struct{}, 1), announce: make(chan struct{}, 1), reports: make(chan guardReport, 64),
				strangers: defence{interval: DefendInterval}, peers: defence{interval: peerDefendInterval}}
			l.preparing, l.stopPreparing = context.WithCancelCause(ctx)
			k.lease = l
			k.mu.Unlock()
			return l, nil
		case old.Err() == nil:
			k.mu.Unlock()
			return nil, ErrHeld
		}
		k.mu.Unlock()
		select { // it is lost and about to be gone
		case <-old.gone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// prepare brings everything up to the moment before binding.
func (l *Lease) prepare(ctx context.Context) error {
	k := l.k
	if err := k.attach(); err != nil {
		return err
	}
	k.mu.Lock()
	l.wire, l.ifi = k.wire, k.ifi
	l.bind = binding{Address: k.address, Index: k.ifi.Index, Lifetime: k.cfg.Lifetime, Farewell: l.right.Farewell}
	if k.fenced {
		l.bind.Fence = k.cfg.FenceTimeout
	}
	k.mu.Unlock()
	if !lookAtLink(l.ifi.Index).up {
		return ErrLinkDown
	}
	return l.probe(ctx)
}

// probe asks the wire until nobody answers who is to be waited for.
func (l *Lease) probe(ctx context.Context) error {
	limit := Now().Add(l.k.cfg.HeldLimit)
	if l.right.Vacant {
		err := l.wire.probe()
		if errors.Is(err, unix.ENETDOWN) {
			return fmt.Errorf("%w: %w", ErrLinkDown, err)
		}
		return err
	}
	for {
		if l.right.ended() {
			return ErrRightEnded
		}
		for len(l.wire.claims()) > 0 {
			<-l.wire.claims() // heard before now: an answer to an earlier probe, or an announcement
		}
		asked := time.Now()
		owner, err := probeOnce(ctx, l.wire, l.ifi.HardwareAddr, l.k.cfg.ProbeWait)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			return fmt.Errorf("%w: %w", ErrLinkDown, err)
		case err != nil:
			return err
		case owner == nil || Now() >= limit:
			return nil
		case !l.right.heldBy(owner):
			l.conflict(owner)
			return nil
		}
		if err := pause(ctx, probeRepeat-time.Since(asked)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
