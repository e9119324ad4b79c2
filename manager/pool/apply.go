package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// ErrRefused says that a command has certainly not been stored and may be sent again freely.
var ErrRefused = errors.New("refused: this member does not lead")

// ErrAmbiguous says that a command may or may not have been stored; send it again only with an
// identity by which the database knows it.
var ErrAmbiguous = errors.New("unknown whether stored")

// Apply proposes data as one entry of the log and returns what the Machine made of it once it is
// committed and stored here. It waits no longer than ctx. Errors: ErrRefused or ErrAmbiguous,
// each with its cause.
func (p *Pool) Apply(ctx context.Context, data []byte) (any, error) {
	limit := 10 * time.Second
	if t, ok := ctx.Deadline(); ok {
		limit = time.Until(t)
	}
	wait, err := p.Begin(ctx, data, limit)
	if err != nil {
		return nil, err
	}
	return wait()
}

// Begin proposes data in the order of its calls and returns how to wait for what Apply would
// return; that takes no longer than limit, and no longer than ctx.
func (p *Pool) Begin(ctx context.Context, data []byte, limit time.Duration) (wait func() (any, error), err error) {
	if limit <= 0 {
		return nil, fmt.Errorf("%w: %w", ErrRefused, context.DeadlineExceeded)
	}
	p.mu.Lock()
	// While the duties are being laid down, what is in flight is still finished.
	over := p.handing && p.reign == nil
	p.mu.Unlock()
	if over {
		return nil, fmt.Errorf("%w: it is handing Primary over", ErrRefused)
	}
	deadline := time.Now().Add(limit)
	f := p.raft.Apply(data, limit)
	return func() (any, error) {
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		err := await(ctx, f)
		switch {
		case err == nil:
			p.committed.Store(time.Now().UnixMilli())
			if e, ok := f.Response().(error); ok && errors.Is(e, errClosing) {
				return nil, fmt.Errorf("%w: %w", ErrAmbiguous, e)
			}
			return f.Response(), nil
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
			return nil, fmt.Errorf("%w: %w", ErrRefused, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrAmbiguous, err)
	}, nil
}

// How a hand over can fail, for errors.Is.
var (
	ErrHandOverRefused = errors.New("hand over refused") // nothing was changed
	ErrHandOverAborted = errors.New("hand over aborted") // this node leads on
	ErrHandOverUnknown = errors.New("hand over without a known end")
)

// HandOver moves Primary to the other Manager. It returns when that one leads, or with the reason
// why not; this node is then Primary again if it can be. steps is told what happens, in order.
//
// The library's own transfer of leadership is not used: interrupted at the wrong moment it leaves
// a node that refuses every write for good (hashicorp/raft issue 696). The heir is named in the
// release of the votes, asks the Arbiter whether it was released too, and stands.
func (p *Pool) HandOver(ctx context.Context, why string, steps func(string)) error {
	return p.handOver(ctx, "hand_over", why, steps)
}

// HandOverFor is HandOver with the code of its cause, for the account of the change.
func (p *Pool) HandOverFor(ctx context.Context, code, why string, steps func(string)) error {
	p.mu.Lock()
	if p.handing {
		p.mu.Unlock()
		return fmt.Errorf("hand over: %w", errNotPrimary)
	}
	p.handCode = code
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.handCode = ""
		p.mu.Unlock()
	}()
	return p.handOver(ctx, "hand_over", why, steps)
}

func (p *Pool) handOver(ctx context.Context, kind, why string, steps func(string)) error {
	to, ok := p.otherManager()
	if !ok {
		return fmt.Errorf("%w: there is no other Manager in this pool", ErrHandOverRefused)
	}
	if reasons := p.Obstacles(); len(reasons) > 0 {
		return fmt.Errorf("%w: %s", ErrHandOverRefused, reasons[0].Text)
	}
	p.mu.Lock()
	r := p.reign
	if r == nil || p.handing {
		p.mu.Unlock()
		return fmt.Errorf("%w: %w", ErrHandOverRefused, errNotPrimary)
	}
	p.handing = true
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.handing = false
		p.mu.Unlock()
		p.wake()
	}()
	asked := Now()
	steps(fmt.Sprintf("finishing what is in flight, then laying down Primary of term %d", r.term))
	p.endReign(fmt.Errorf("%w to %s: %s", ErrHandOver, to.Name, why), true)
	steps(fmt.Sprintf("Primary and VIP laid down after %.1f ms", ms(Since(asked))))

	last := p.raft.LastIndex()
	for p.gate.View(r.term).Match < last {
		wake := p.woken()
		if Since(asked) > 2*time.Second || p.raft.State() != raft.Leader {
			return fmt.Errorf("%w: %s did not get the last of %d entries in time", ErrHandOverAborted, to.Name, last)
		}
		if !sleepOr(ctx, wake, 2*time.Millisecond) {
			return fmt.Errorf("%w: %w", ErrHandOverUnknown, context.Cause(ctx))
		}
	}
	p.releaseAll(r.term, to.ID, kind, why)
	steps(fmt.Sprintf("%s has everything; votes released", to.Name))
	released := Now()
	for {
		wake := p.woken()
		if id, _ := p.leader(); id == to.ID {
			steps(fmt.Sprintf("%s leads after %.1f ms", to.Name, ms(Since(asked))))
			return nil
		}
		if limit := 4 * p.timing.Detect(); p.raft.State() == raft.Leader && p.raft.CurrentTerm() == r.term && Since(released) > limit {
			return fmt.Errorf("%w: %s did not take over within %v; this Manager leads on", ErrHandOverAborted, to.Name, limit)
		}
		if Since(released) > max(5*time.Second, 8*p.timing.Detect()) {
			return fmt.Errorf("%w: no answer from %s in time; look at its status", ErrHandOverUnknown, to.Name)
		}
		if !sleepOr(ctx, wake, 5*time.Millisecond) {
			return fmt.Errorf("%w: %w", ErrHandOverUnknown, context.Cause(ctx))
		}
	}
}

func (p *Pool) otherManager() (Member, bool) {
	for _, m := range p.Record().Members {
		if m.ID != p.self && m.Role != Arbiter {
			return m, true
		}
	}
	return Member{}, false
}

// SetMaintenance keeps this Manager from taking Primary; it votes on. If it is Primary now, hand
// over first.
func (p *Pool) SetMaintenance(on bool) {
	p.mu.Lock()
	p.maintenance = on
	p.mu.Unlock()
	p.wake()
}

// Yield ends being Primary for a reason of the composer's, such as a lost VIP, and keeps this
// Manager from taking it again for a while; the others' votes are freed at once.
func (p *Pool) Yield(cause error) {
	p.endReign(fmt.Errorf("%w: %w", ErrSick, cause), false)
}
