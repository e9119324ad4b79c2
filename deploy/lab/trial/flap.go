package trial

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// How a link flaps: it is cut and healed again after flapHalf each, for flapFor in all.
const (
	flapHalf = 2 * time.Second
	flapFor  = time.Minute
)

// flap lets a host's link come and go, and holds the pool to what it promises for that: Primary
// moves once at most, and the status says that a member comes and goes.
func (t *Trial) flap(ctx context.Context, r *Round, host string) error {
	h, err := t.pool.lab.Host(host)
	if err != nil {
		return err
	}
	link, err := h.Link(0)
	if err != nil {
		return err
	}
	told := ""
	look := func() {
		for end := time.Now().Add(flapHalf); time.Now().Before(end) && pause(ctx, 200*time.Millisecond); {
			for _, name := range Managers() {
				s, err := t.pool.Status(ctx, name)
				for _, why := range s.Reasons {
					if err == nil && s.Primary() && strings.HasSuffix(why.Code, "_flapping") {
						told = why.Text
					}
				}
			}
		}
	}
	for begin := time.Now(); time.Since(begin) < flapFor && ctx.Err() == nil; {
		if err := link.Cut(); err != nil {
			return err
		}
		look()
		if err := link.Heal(); err != nil {
			return err
		}
		look()
	}
	before := ""
	for _, s := range t.watch.Spans(r.At) {
		if before != "" && s.Host != before {
			if r.Moves++; r.Moves == 1 && r.WasPrimary {
				r.VIPMovedMS = ms(s.From.Sub(r.At))
			}
		}
		before = s.Host
	}
	if r.Moves > 1 {
		r.problem("Primary moved %d times while a link came and went", r.Moves)
	}
	if told == "" {
		r.problem("no status said that a member comes and goes")
	} else {
		t.pool.cfg.Say("  %s", told)
	}
	return context.Cause(ctx)
}

// stopped ends the host's program as a service manager does, and returns the moment of the order.
func (p *Pool) stopped(host string) (time.Time, error) {
	proc, err := p.Process(host)
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	if err := proc.Stop(15 * time.Second); err != nil {
		return at, fmt.Errorf("stop %s: %w", host, err)
	}
	return at, nil
}
