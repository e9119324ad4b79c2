package vip

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Instant is a moment on CLOCK_BOOTTIME, in nanoseconds since boot. That clock never steps,
// counts suspension, and reads the same in every process of the host, the guard included.
type Instant int64

// Now returns the present Instant.
func Now() Instant {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("vip: read CLOCK_BOOTTIME: %v", err)) // Linux has had it since 2.6.39
	}
	return Instant(ts.Nano())
}

// Add returns the moment d after i.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i; it is negative when i comes first.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }
