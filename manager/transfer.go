package manager

import (
	"sync"
	"time"
)

// transfer is how far a copy of the whole database has come, on the side that sends it and on the
// side that receives it. The nil transfer counts nothing.
type transfer struct {
	mu      sync.Mutex
	total   int64 // bytes; 0: none was sent yet
	done    int64
	began   time.Time
	samples []sample // of the last seconds, oldest first
	now     func() time.Time
}

type sample struct {
	at   time.Time
	done int64
}

func newTransfer() *transfer { return &transfer{now: time.Now} }

// The rate is that of the last few seconds.
const (
	sampleEvery = 200 * time.Millisecond
	sampleCount = 25
)

// begin starts a copy of that many bytes.
func (t *transfer) begin(total int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.total, t.done, t.began, t.samples = total, 0, now, []sample{{now, 0}}
}

func (t *transfer) add(n int) {
	if t == nil || n <= 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done += int64(n)
	now := t.now()
	if last := t.samples; len(last) > 0 && now.Sub(last[len(last)-1].at) < sampleEvery {
		return
	}
	t.samples = append(t.samples, sample{now, t.done})
	if len(t.samples) > sampleCount {
		t.samples = t.samples[1:]
	}
}

// progress is a transfer at one moment.
type progress struct {
	Total, Done int64
	// PerSecond is the present rate in bytes; Left the time that the rest takes at it, negative
	// while that cannot be told.
	PerSecond float64
	Left      time.Duration
}

// view returns the progress, and false when nothing was sent yet.
func (t *transfer) view() (progress, bool) {
	if t == nil {
		return progress{}, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.total == 0 {
		return progress{}, false
	}
	p := progress{Total: t.total, Done: min(t.done, t.total), Left: -1}
	first := t.samples[0]
	if took := t.now().Sub(first.at); took > 0 && t.done > first.done {
		p.PerSecond = float64(t.done-first.done) / took.Seconds()
		p.Left = time.Duration(float64(p.Total-p.Done) / p.PerSecond * float64(time.Second))
	}
	return p, true
}
