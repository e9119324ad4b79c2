package pool

import (
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a moment on CLOCK_BOOTTIME in nanoseconds. Unlike Go's monotonic clock it goes on
// while the machine sleeps, and unlike wall time nobody sets it.
type Instant int64

// Now returns the present Instant.
func Now() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("CLOCK_BOOTTIME: " + err.Error()) // Linux has had it since 2.6.39
	}
	return Instant(ts.Nano())
}

// Add returns i shifted by d.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Since returns the time that has passed after i.
func Since(i Instant) time.Duration { return Now().Sub(i) }
