package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"redundancypool/deploy/lab"
)

// Round is what one fault did. Times are ms after its cause; a negative one did not happen.
type Round struct {
	Number       int          `json:"number"`
	Fault        Fault        `json:"fault"`
	Host         string       `json:"host"`
	WasPrimary   bool         `json:"was_primary"`
	At           time.Time    `json:"at"`
	VIPMovedMS   float64      `json:"vip_moved_ms"`    // the other host's kernel had the VIP
	FirstWriteMS float64      `json:"first_write_ms"`  // first acknowledgement by the new Primary
	AllUnitsMS   float64      `json:"all_units_ms"`    // every unit had one
	SilenceMS    float64      `json:"silence_ms"`      // longest time without any acknowledgement
	OldAnswerMS  float64      `json:"old_answer_ms"`   // last ARP answer for the VIP by the old host
	OldAddressMS float64      `json:"old_address_ms"`  // the old host's kernel had lost the VIP
	BothMS       float64      `json:"both_answer_ms"`  // two hosts answered at one moment, in all
	BothBoundMS  float64      `json:"both_bound_ms"`   // two kernels had the VIP at one moment, in all
	ProtectedMS  float64      `json:"protected_ms"`    // from repair to Protected
	Refused      int          `json:"refused"`         // writes that were answered with an error
	Resent       int          `json:"resent"`          // writes that were cut off unanswered, and acknowledged when sent again
	Moves        int          `json:"moves,omitempty"` // of Primary, while a link came and went
	Changeover   *Changeover  `json:"last_changeover"` // the Manager's own account
	Compared     []Comparison `json:"compared"`
	Unasked      string       `json:"unasked,omitempty"` // a change of Primary that nobody caused
	Problems     []string     `json:"problems,omitempty"`
}

// Trial observes a pool through faults.
type Trial struct {
	pool     *Pool
	observer *lab.Observer
	watch    *lab.AddressWatch
}

// Open starts observing the VIP on both Managers. The caller pairs it with Close.
func (p *Pool) Open() (*Trial, error) {
	vip := p.cfg.VIP.Addr()
	watch, err := p.lab.WatchAddress(vip)
	if err != nil {
		return nil, err
	}
	observer, err := p.lab.Observe(vip, 2*time.Millisecond, Managers()...)
	if err != nil {
		watch.Close()
		return nil, err
	}
	return &Trial{pool: p, observer: observer, watch: watch}, nil
}

// Close ends observing.
func (t *Trial) Close() error {
	t.watch.Close()
	return t.observer.Close()
}

// Round inflicts a fault on a host of a Protected pool, waits until the pool serves, repairs the
// fault, waits until the pool is Protected again, and compares ledgers and databases. What is
// wrong with the pool is among Problems; an error means that the round itself could not be run.
func (t *Trial) Round(ctx context.Context, number int, f Fault, host string) (Round, error) {
	r, err := t.Break(ctx, f, host)
	r.Number = number
	if err != nil {
		return r, err
	}
	begin := time.Now()
	if err := t.pool.Repair(ctx, f, r.Host); err != nil {
		return r, fmt.Errorf("repair %s of %s: %w", f, host, err)
	}
	if err := t.pool.WaitProtected(ctx); err != nil {
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
		r.problem("%v", err)
	}
	r.ProtectedMS = ms(time.Since(begin))
	t.see(&r)
	t.unasked(ctx, &r)
	return r, t.check(ctx, &r)
}

// Break inflicts a fault on a host, or a hand over on the Primary whichever it is, and waits until the pool serves again, or its patience ends.
func (t *Trial) Break(ctx context.Context, f Fault, host string) (Round, error) {
	r := Round{Fault: f, Host: host, VIPMovedMS: -1, FirstWriteMS: -1, AllUnitsMS: -1, OldAnswerMS: -1, OldAddressMS: -1}
	if err := t.pool.WaitUnits(ctx, time.Now(), 30*time.Second); err != nil {
		return r, fmt.Errorf("before the fault: %w", err)
	}
	// What came since the last round, the comparison among it, may have slowed a Manager down so far
	// that there is one copy only for a moment: the next fault would then be the second at once.
	if err := t.pool.WaitProtected(ctx); err != nil {
		return r, fmt.Errorf("before the fault: %w", err)
	}
	primary, before, err := t.pool.Primary(ctx)
	if err != nil {
		return r, err
	}
	if f == HandOver {
		host, r.Host = primary, primary // only the Primary can
	}
	// The kernel's word is the newest: what was said a moment ago may have changed meanwhile.
	r.WasPrimary = slices.Contains(t.watch.Holders(), host)
	r.At, err = t.pool.Inflict(ctx, f, host)
	if err != nil {
		return r, fmt.Errorf("%s of %s: %w", f, host, err)
	}
	served := r.At
	switch {
	case f == Flap:
		if err := t.flap(ctx, &r, host); err != nil {
			return r, err
		}
		served = time.Now()
	case f.mayStay():
		// Long enough for every timer to run out. Whoever serves then does so in spite of the fault.
		if at, err := t.waitMoved(ctx, host, r.At, stayFor); err == nil && r.WasPrimary {
			r.VIPMovedMS = ms(at.Sub(r.At))
		}
		if !pause(ctx, time.Until(r.At.Add(stayFor))) {
			return r, context.Cause(ctx)
		}
		served = time.Now()
	case r.WasPrimary:
		served, err = t.waitMoved(ctx, host, r.At, 30*time.Second)
		if err != nil {
			r.problem("%v", err)
			return r, context.Cause(ctx)
		}
		r.VIPMovedMS = ms(served.Sub(r.At))
	}
	if err := t.pool.WaitUnits(ctx, served, 30*time.Second); err != nil {
		r.problem("after %s of %s: %v", f, host, err)
	}
	if r.acknowledgements(t.pool, served); f.mayStay() {
		r.FirstWriteMS, r.AllUnitsMS = -1, -1 // they were waited for until the fault had lasted; the silence tells
	}
	if r.VIPMovedMS >= 0 {
		t.settle(ctx, f, host)
		r.Changeover = t.changeover(ctx, host, before.Term)
	}
	t.see(&r)
	return r, context.Cause(ctx)
}

// stayFor is how long a fault is held through which the Primary may stay.
const stayFor = 3 * time.Second

// unasked notes when the Primary is not the one that the fault left: something else moved it, such
// as a member that was silent for too long on a busy machine. Nothing is lost by it, so it is
// reported beside the problems, not among them.
func (t *Trial) unasked(ctx context.Context, r *Round) {
	if r.Fault.mayStay() {
		return
	}
	want := Other(r.Host) // a fault that hit the Online Manager changes nothing, one that hit the Primary moves it
	now, s, err := t.pool.Primary(ctx)
	if err != nil || now == want {
		return
	}
	r.Unasked = fmt.Sprintf("%s is Primary again in term %d", now, s.Term)
	if c := s.LastChangeover; c != nil {
		r.Unasked += fmt.Sprintf(" (%s, cause: %s)", c.Kind, c.Cause)
	}
}

// waitMoved waits until the other host's kernel has the VIP and returns when that was.
func (t *Trial) waitMoved(ctx context.Context, from string, since time.Time, limit time.Duration) (time.Time, error) {
	patience := time.NewTimer(limit)
	defer patience.Stop()
	for {
		changed := t.watch.Changed()
		for _, s := range t.watch.Spans(since) {
			if s.Host != from && s.From.After(since) {
				return s.From, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		case <-patience.C:
			return time.Time{}, fmt.Errorf("the VIP did not move from %s within %v; bound now: %v", from, limit, t.watch.Holders())
		}
	}
}

// settle watches on, so that the end of the old host's answers is seen: until its kernel has
// lost the VIP, and a little more; 5 s at most, which is past the address lifetime.
func (t *Trial) settle(ctx context.Context, f Fault, host string) {
	deadline := time.Now().Add(5 * time.Second)
	for f != PowerOff && slices.Contains(t.watch.Holders(), host) && time.Now().Before(deadline) {
		if !pause(ctx, 10*time.Millisecond) {
			return
		}
	}
	pause(ctx, 100*time.Millisecond)
}

// changeover asks the new Primary for its own account, which it completes once all units are
// back.
func (t *Trial) changeover(ctx context.Context, old string, term uint64) *Changeover {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var last *Changeover
	for {
		s, err := t.pool.Status(ctx, Other(old))
		if err == nil && s.Primary() && s.Term > term && s.LastChangeover != nil {
			last = s.LastChangeover
			if last.AllUnitsMS > 0 {
				return last
			}
		}
		if !pause(ctx, 100*time.Millisecond) {
			return last
		}
	}
}

// acknowledgements fills in what the units saw; served is the moment after which an
// acknowledgement can only come from the new Primary.
func (r *Round) acknowledgements(p *Pool, served time.Time) {
	var first, all time.Time
	for _, u := range p.units {
		at := p.ledger.FirstAfter(u, served)
		if at.IsZero() {
			return
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
		if at.After(all) {
			all = at
		}
	}
	if first.IsZero() {
		return
	}
	r.FirstWriteMS, r.AllUnitsMS = ms(first.Sub(r.At)), ms(all.Sub(r.At))
	r.SilenceMS = ms(silence(p.ledger, r.At.Add(-time.Second), all))
}

// silence is the longest time without an acknowledgement to any unit between two moments.
func silence(l *Ledger, from, to time.Time) time.Duration {
	times := append(l.between(from, to), to.UnixNano())
	slices.Sort(times)
	var longest int64
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
	}
	return time.Duration(longest)
}

// see fills in what observer and kernels saw of the VIP since the fault.
func (t *Trial) see(r *Round) {
	answers, bound := t.observer.Spans(r.At), t.watch.Spans(r.At)
	if r.WasPrimary {
		r.OldAnswerMS, r.OldAddressMS = 0, 0 // it may have ended before the fault was over
		for _, s := range answers {
			if s.Host == r.Host && !s.From.After(r.At) {
				r.OldAnswerMS = ms(s.To.Sub(r.At))
			}
		}
		for _, s := range bound {
			if s.Host == r.Host && !s.From.After(r.At) {
				r.OldAddressMS = ms(s.To.Sub(r.At))
			}
		}
	}
	r.BothMS, r.BothBoundMS = total(lab.Overlaps(answers)), total(lab.Overlaps(bound))
}

func total(overlaps []lab.Overlap) float64 {
	var sum time.Duration
	for _, o := range overlaps {
		sum += o.To.Sub(o.From)
	}
	return ms(sum)
}

// check compares ledgers and databases and adds what is wrong to the round's problems.
func (t *Trial) check(ctx context.Context, r *Round) error {
	compared, err := t.pool.Compare(ctx, r.At.Add(-30*time.Second), Managers()...)
	if err != nil {
		return err
	}
	r.Compared = compared
	r.Refused, r.Resent = t.pool.ledger.failures(r.At)
	if r.Refused > 0 {
		r.problem("%d writes were answered with an error, the last: %v", r.Refused, t.pool.ledger.refused[len(t.pool.ledger.refused)-1])
	}
	for _, c := range compared {
		if c.Lost > 0 || c.Twice > 0 {
			r.problem("%s: %d acknowledged records lost, %d stored twice: %v", c.Host, c.Lost, c.Twice, c.Examples)
		}
	}
	if err := t.pool.TwoPrimaries(); errors.Is(err, ErrTwoPrimaries) {
		r.problem("%v", err)
	}
	return nil
}

func (r *Round) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
