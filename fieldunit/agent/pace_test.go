package agent

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	var tm Timing
	tm.normalise()
	start := time.Unix(1000, 0)
	p := pacer{t: &tm, lost: start}
	at := func(d time.Duration) time.Time { return start.Add(d) }
	for _, tt := range []struct {
		name          string
		now           time.Time
		good, lasting bool
		want          time.Duration
	}{
		{"the first failure: almost at once", at(0), false, false, 4 * time.Millisecond},
		{"then a little longer", at(0), false, false, 6 * time.Millisecond},
		{"a good connection was lost: at once", at(time.Minute), true, false, 0},
		{"its first failure: almost at once", at(time.Minute), false, false, 4 * time.Millisecond},
		{"a wrong secret: no haste", at(time.Minute), false, true, 2 * time.Second},
		{"right again at once: no more than the pause of the first moment", at(time.Minute), false, false, 8 * time.Millisecond},
		{"a moment later still", at(time.Minute + 100*time.Millisecond), false, false, 8 * time.Millisecond},
		{"then longer", at(time.Minute + 101*time.Millisecond), false, false, 12 * time.Millisecond},
		{"and a little more", at(time.Minute + time.Second), false, false, 18 * time.Millisecond},
		{"fast", at(time.Minute + 2*time.Second), false, false, 25 * time.Millisecond},
		{"fast as long as a takeover may take", at(time.Minute + 10*time.Second), false, false, 25 * time.Millisecond},
		{"then doubling", at(time.Minute + 11*time.Second), false, false, 50 * time.Millisecond},
		{"and again", at(time.Minute + 11*time.Second), false, false, 100 * time.Millisecond},
	} {
		if got := p.next(tt.now, tt.good, tt.lasting); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	for range 20 {
		p.next(at(time.Hour), false, false)
	}
	if p.pause != tm.SlowRetry {
		t.Errorf("grew to %v, not %v", p.pause, tm.SlowRetry)
	}
	for range 1000 {
		if d := jitter(time.Second); d < 750*time.Millisecond || d > 1253*time.Millisecond {
			t.Fatalf("jitter made %v of a second", d)
		}
	}
}
