package broker

import (
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How often one unit's refusals are reported: a few at once, then one each reportEvery. A unit
// that sends nonsense for ever must not fill the journal.
const (
	reportBurst = 5
	reportEvery = 10 * time.Second
	rememberMax = 64 // refused messages remembered per unit
)

// reporter passes refusals on, limited per unit, and remembers what it saw refused.
type reporter struct {
	out  func(unit, topic, reason string)
	seed maphash.Seed

	mu    sync.Mutex
	units map[string]*refusals // by admitted unit; "" for all others together
}

type refusals struct {
	limit   *rate.Limiter
	left    int      // not reported since the last report
	content []uint64 // hashes of refused messages, oldest first
}

func newReporter(out func(unit, topic, reason string)) *reporter {
	if out == nil {
		out = func(string, string, string) {}
	}
	return &reporter{out: out, seed: maphash.MakeSeed(), units: make(map[string]*refusals)}
}

func (r *reporter) of(key string) *refusals {
	u := r.units[key]
	if u == nil {
		u = &refusals{limit: rate.NewLimiter(rate.Every(reportEvery), reportBurst)}
		r.units[key] = u
	}
	return u
}

// report passes the refusal on unless key had too many of late. key is the admitted unit's name,
// or empty: names that were not admitted are not ours to remember.
func (r *reporter) report(key, unit, topic, reason string) {
	r.mu.Lock()
	u := r.of(key)
	if !u.limit.Allow() {
		u.left++
		r.mu.Unlock()
		return
	}
	if u.left > 0 {
		reason = fmt.Sprintf("%s (%d more since the last report)", reason, u.left)
		u.left = 0
	}
	r.mu.Unlock()
	r.out(unit, topic, reason)
}

// again reports whether this refused message of the unit was refused before, and remembers it.
func (r *reporter) again(unit, topic string, payload []byte) bool {
	var h maphash.Hash
	h.SetSeed(r.seed)
	_, _ = h.WriteString(topic)
	_ = h.WriteByte(0)
	_, _ = h.Write(payload)
	sum := h.Sum64()
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.of(unit)
	if slices.Contains(u.content, sum) {
		return true
	}
	if len(u.content) == rememberMax {
		u.content = slices.Delete(u.content, 0, 1)
	}
	u.content = append(u.content, sum)
	return false
}
