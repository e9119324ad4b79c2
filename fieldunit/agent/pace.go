package agent

import (
	"math/rand/v2"
	"time"
)

// pacer decides how long to wait before the next connection. It does no I/O and reads no clock.
type pacer struct {
	t     *Timing
	lost  time.Time // when the last good connection ended, or the start
	pause time.Duration
}

const firstRetry = 4 * time.Millisecond // after the first attempt that failed

// next returns the pause, without jitter. good: the last connection served the unit; lasting: the
// error will not go away by itself.
//
// After a good connection it is nothing: a takeover may be over already. Then it grows to
// FastRetry for as long as a takeover may take, and beyond that, doubling, to SlowRetry.
func (p *pacer) next(now time.Time, good, lasting bool) time.Duration {
	switch {
	case good:
		p.lost, p.pause = now, 0
	case lasting:
		p.pause = p.t.SlowRetry
	case now.Sub(p.lost) <= p.t.FastFor:
		p.pause = min(max(p.pause*3/2, firstRetry), p.t.FastRetry)
	default:
		p.pause = min(max(2*p.pause, firstRetry), p.t.SlowRetry)
	}
	return p.pause
}

// jitter spreads the units over time: ±25 %, and at least 0 to 3 ms, since all of them lose their
// connection in the same moment.
func jitter(d time.Duration) time.Duration {
	return d*3/4 + rand.N(d/2+3*time.Millisecond)
}
