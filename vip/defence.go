package vip

import "time"

// DefendInterval is RFC 5227's DEFEND_INTERVAL: at most one defence in this time, so that two
// hosts that both insist do not flood the link.
const DefendInterval = 10 * time.Second

// defence decides when a conflicting claim is answered with an announcement. A claim that
// comes too soon after the last defence is answered when the interval is over.
type defence struct {
	interval time.Duration
	last     Instant // of the last defence; 0: none
	due      Instant // a defence that waits; 0: none
}

// claim notes a conflicting claim at now and tells whether to defend at once.
func (d *defence) claim(now Instant) bool {
	if d.last == 0 || now.Sub(d.last) >= d.interval {
		d.last, d.due = now, 0
		return true
	}
	if d.due == 0 {
		d.due = d.last.Add(d.interval)
	}
	return false
}

// pending tells whether the defence that waited is due at now; it is then taken as done.
func (d *defence) pending(now Instant) bool {
	if d.due == 0 || now < d.due {
		return false
	}
	d.last, d.due = now, 0
	return true
}

// burst is the distance of announcement n (from 0) of a burst from the one before it: doubling.
func burst(n int, interval time.Duration) time.Duration {
	if n == 0 {
		return 0
	}
	return interval << (n - 1)
}
