package pool

import (
	"testing"
	"time"
)

func TestBacklogTellsTheAgeOfTheOldestEntryThatIsNotApplied(t *testing.T) {
	const ms = Instant(time.Millisecond)
	var b backlog
	for _, s := range []struct {
		what               string
		committed, applied uint64
		at                 Instant
		want               time.Duration
	}{
		{"nothing is waiting", 5, 5, 0, 0},
		{"just committed", 8, 5, 10 * ms, 0},
		{"the same one waits", 8, 5, 40 * ms, 30 * time.Millisecond},
		{"more came, a part is applied: the first still waits", 12, 7, 60 * ms, 50 * time.Millisecond},
		{"the first is applied, the second has waited since it was seen", 12, 8, 90 * ms, 30 * time.Millisecond},
		{"steady load is no lag", 15, 14, 100 * ms, 0},
		{"all applied", 15, 15, 110 * ms, 0},
	} {
		if got := b.lag(s.committed, s.applied, s.at); got != s.want {
			t.Errorf("%s: %v, want %v", s.what, got, s.want)
		}
	}
	for i := range uint64(3 * mostMarks) {
		b.lag(20+i, 15, Instant(i)*ms)
	}
	if len(b.marks) > mostMarks {
		t.Errorf("%d marks are kept", len(b.marks))
	}
}
