package manager

import (
	"sync"
	"time"
)

// Events of one code come at most floodRate a second after a burst of floodBurst: a unit that sends
// nonsense a thousand times a second must not push everything else out of the history.
const (
	floodBurst = 20
	floodRate  = 2 // a second
)

// flood keeps events of one code from drowning the others. The zero value is ready; it is safe for
// concurrent use.
type flood struct {
	mu     sync.Mutex
	byCode map[string]*tally
}

type tally struct {
	tokens  float64
	at      time.Time
	dropped int
}

// admit says whether an event of that code may be kept now, and how many were not since the last one.
func (f *flood) admit(code string, now time.Time) (ok bool, dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byCode == nil {
		f.byCode = map[string]*tally{}
	}
	t := f.byCode[code] // codes are constants of this program, so there are few
	if t == nil {
		t = &tally{tokens: floodBurst, at: now}
		f.byCode[code] = t
	}
	t.tokens = min(floodBurst, t.tokens+floodRate*now.Sub(t.at).Seconds())
	t.at = now
	if t.tokens < 1 {
		t.dropped++
		return false, 0
	}
	t.tokens--
	dropped, t.dropped = t.dropped, 0
	return true, dropped
}
