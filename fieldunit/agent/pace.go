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

const (
	firstRetry = 4 * time.Millisecond // after the first attempt that failed
	// A takeover that is announced (a hand over, a process that died) is over within some 50 ms:
	// for atOnceFor after a loss the pause stays at atOnce, so that the unit's own waiting is not
	// the longer part of the gap.
	atOnce    = 8 * time.Millisecond
	atOnceFor = 100 * time.Millisecond
)

// next returns the pause, without jitter. good: the last connection served the unit; lasting: the
// error will not go away by itself.
//
// After a good connection it is nothing: a takeover may be over already. Then it grows to atOnce,
// then to FastRetry for as long as a takeover may take, and beyond that, doubling, to SlowRetry.
func (p *pacer) next(now time.Time, good, lasting bool) time.Duration {
	switch {
	case good:
		p.lost, p.pause = now, 0
	case lasting:
		p.pause = p.t.SlowRetry
	case now.Sub(p.lost) <= atOnceFor:
		p.pause = min(max(p.pause*3/2, firstRetry), atOnce, p.t.FastRetry)
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
