package pool

import (
	"fmt"
	"time"
)

// Timing are the settable times of a pool; every member uses the same, given by the Master.
type Timing struct {
	// HeartbeatPeriod is how often a member speaks to each other one.
	HeartbeatPeriod time.Duration `json:"heartbeat_period"`
	// HeartbeatTimeout is how long a heartbeat may stay unanswered before it counts as missed.
	HeartbeatTimeout time.Duration `json:"heartbeat_timeout"`
	// MissedHeartbeats is how many in a row make a member silent.
	MissedHeartbeats int `json:"missed_heartbeats"`
	// ConnectTimeout bounds one attempt to connect to another member.
	ConnectTimeout time.Duration `json:"connect_timeout"`
	// LongLivedTimeout bounds one message on a standing connection, a snapshot's share included.
	LongLivedTimeout time.Duration `json:"long_lived_timeout"`
	// ConnectionWait is how long a Backup leaves the first candidacy after a cold start to its
	// Master while that one is alive and knows as much.
	ConnectionWait time.Duration `json:"connection_wait"`
	// StabilityDelay is how long the Master must be up and in step before it takes Primary back.
	StabilityDelay time.Duration `json:"stability_delay"`
	// DiskTimeout is how long one write to this node's disk may take before its health is denied.
	DiskTimeout time.Duration `json:"disk_timeout"`
	// HoldTimeout is how long a write waits for a Backup that answers but does not store.
	HoldTimeout time.Duration `json:"hold_timeout"`
}

// DefaultTiming returns the times for one LAN: a silent host is replaced in about 0.4 s.
func DefaultTiming() Timing {
	return Timing{
		HeartbeatPeriod:  25 * time.Millisecond,
		HeartbeatTimeout: 50 * time.Millisecond,
		MissedHeartbeats: 12,
		ConnectTimeout:   2 * time.Second,
		LongLivedTimeout: 2 * time.Second,
		ConnectionWait:   3 * time.Second,
		StabilityDelay:   30 * time.Second,
		DiskTimeout:      time.Second,
		HoldTimeout:      500 * time.Millisecond,
	}
}

// Detect is the silence after which a member is taken for dead.
func (t Timing) Detect() time.Duration {
	return time.Duration(t.MissedHeartbeats)*t.HeartbeatPeriod + t.HeartbeatTimeout
}

// Lease is how long an answered heartbeat supports the Primary, counted from when it was sent.
// It is shorter than Detect by a fifth, so that the old Primary has ended before anyone acts on
// its silence; clocks may run apart by 5 % within that.
func (t Timing) Lease() time.Duration { return t.Detect() * 4 / 5 }

// WorstTakeover is the longest time from a Primary's silent death to the first write of the
// next one, all else being healthy: the silence itself, one heartbeat of phase on either
// observer, and the election with its commits and the VIP (see serviceShare).
func (t Timing) WorstTakeover() time.Duration {
	return t.Detect() + 2*t.HeartbeatPeriod + serviceShare
}

// serviceShare covers agreement, election, the first commit, probe and announcement. They take
// some 30 ms on an idle machine; the rest is allowance for a busy one.
const serviceShare = 120 * time.Millisecond

// Library timings that stand behind the fast path, each longer than Detect by a stated margin:
// the Arbiter must have let go of a dead leader before a Manager's own timer makes it stand.
func (t Timing) arbiterElection() time.Duration { return max(400*time.Millisecond, t.Detect()*8/5) }
func (t Timing) managerElection() time.Duration { return max(500*time.Millisecond, t.Detect()*2) }

// startGrace is how long a member that just started votes for nobody: it may have promised
// otherwise before it stopped.
func (t Timing) startGrace() time.Duration { return t.Detect() + 50*time.Millisecond }

// TimingError says which of the times cannot be, and why.
type TimingError struct {
	Field string // as in the settings file: heartbeat_period
	Text  string // what is wrong, with the values
	Fix   string
}

func (e *TimingError) Error() string { return e.Text + ": " + e.Fix }

// Validate checks each value and their order. Error: *TimingError, which names the values and the
// reason.
func (t Timing) Validate() error {
	wrong := func(field, fix, format string, args ...any) error {
		return &TimingError{Field: field, Text: field + " " + fmt.Sprintf(format, args...), Fix: fix}
	}
	for _, b := range []struct {
		name     string
		v        time.Duration
		low, top time.Duration
	}{
		{"heartbeat_period", t.HeartbeatPeriod, 5 * time.Millisecond, 5 * time.Second},
		{"heartbeat_timeout", t.HeartbeatTimeout, 5 * time.Millisecond, 10 * time.Second},
		{"connect_timeout", t.ConnectTimeout, 50 * time.Millisecond, time.Minute},
		{"long_lived_timeout", t.LongLivedTimeout, 200 * time.Millisecond, 10 * time.Minute},
		{"connection_wait", t.ConnectionWait, 0, 10 * time.Minute},
		{"stability_delay", t.StabilityDelay, 0, 24 * time.Hour},
		{"disk_timeout", t.DiskTimeout, 50 * time.Millisecond, time.Minute},
		{"hold_timeout", t.HoldTimeout, 10 * time.Millisecond, time.Minute},
	} {
		if b.v < b.low || b.v > b.top {
			return wrong(b.name, fmt.Sprintf("set it from %v to %v", b.low, b.top), "%v is out of range", b.v)
		}
	}
	if t.MissedHeartbeats < 2 || t.MissedHeartbeats > 100 {
		return wrong("missed_heartbeats", "set it from 2 to 100", "%d is out of range", t.MissedHeartbeats)
	}
	const least, most = 60 * time.Millisecond, 30 * time.Second
	if d := t.Detect(); d < least || d > most {
		fix := "a healthy member would look dead: raise it, or heartbeat_period"
		if d > most {
			fix = "nobody waits that long: lower it, or heartbeat_period"
		}
		return wrong("missed_heartbeats", fix, "%d x heartbeat_period %v + heartbeat_timeout %v = %v until a member counts as dead, which must be from %v to %v",
			t.MissedHeartbeats, t.HeartbeatPeriod, t.HeartbeatTimeout, d, least, most)
	}
	if l := t.Lease(); l < 2*t.HeartbeatPeriod {
		return wrong("heartbeat_period", "raise missed_heartbeats", "%v exceeds half of the lease %v: one late heartbeat would end Primary", t.HeartbeatPeriod, l)
	}
	if t.LongLivedTimeout <= t.Lease() {
		return wrong("long_lived_timeout", "raise it, or lower missed_heartbeats", "%v does not exceed the lease %v: a slow answer would be taken for a lost one", t.LongLivedTimeout, t.Lease())
	}
	return nil
}
