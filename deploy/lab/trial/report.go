package trial

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Report is the outcome of a run or a measurement.
type Report struct {
	Seed     uint64       `json:"seed"`
	Begin    time.Time    `json:"begin"`
	Rounds   []Round      `json:"rounds"`
	Figures  []Figure     `json:"figures"`
	Final    []Comparison `json:"final"` // over everything since the start
	Problems []string     `json:"problems"`
}

// Figure is the spread of one time over the rounds of one fault, in ms.
type Figure struct {
	Fault  Fault   `json:"fault"`
	What   string  `json:"what"`
	N      int     `json:"n"`
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
}

// Failed says whether anything was wrong.
func (r Report) Failed() bool { return len(r.Problems) > 0 }

// Run lets random faults from the list hit a random Manager, the Arbiter alive, rounds times;
// the same seed gives the same faults. It ends early with ctx, and at a round that leaves the
// pool unusable; the report then holds the rounds until there.
func (t *Trial) Run(ctx context.Context, rounds int, seed uint64, faults []Fault) Report {
	rep := Report{Seed: seed, Begin: time.Now()}
	dice := rand.New(rand.NewPCG(seed, 0))
	for n := 1; n <= rounds && ctx.Err() == nil; n++ {
		f := faults[dice.IntN(len(faults))]
		host := Managers()[dice.IntN(2)]
		wait := time.Duration(dice.IntN(1000)) * time.Millisecond // not always at the same moment
		if !pause(ctx, wait) {
			break
		}
		if !t.add(ctx, &rep, n, rounds, f, host) {
			break
		}
	}
	return t.finish(ctx, rep)
}

// Measure lets each fault hit the Primary n times.
func (t *Trial) Measure(ctx context.Context, n int, faults []Fault) Report {
	rep := Report{Begin: time.Now()}
	for i, f := range faults {
		for k := range n {
			host, _, err := t.pool.Primary(ctx)
			if err != nil {
				rep.Problems = append(rep.Problems, err.Error())
				return t.finish(ctx, rep)
			}
			if !t.add(ctx, &rep, i*n+k+1, n*len(faults), f, host) {
				return t.finish(ctx, rep)
			}
		}
	}
	return t.finish(ctx, rep)
}

// add runs one round and says whether to go on.
func (t *Trial) add(ctx context.Context, rep *Report, n, of int, f Fault, host string) bool {
	r, err := t.Round(ctx, n, f, host)
	if ctx.Err() != nil {
		return false
	}
	t.pool.cfg.Say("round %d of %d: %s", n, of, r.Line())
	rep.Rounds = append(rep.Rounds, r)
	if r.Unasked != "" {
		t.pool.cfg.Say("  NOTE: %s", r.Unasked)
	}
	for _, p := range r.Problems {
		rep.Problems = append(rep.Problems, fmt.Sprintf("round %d: %s", n, p))
		t.pool.cfg.Say("  PROBLEM: %s", p)
	}
	if err != nil {
		rep.Problems = append(rep.Problems, fmt.Sprintf("round %d: %v", n, err))
		t.pool.cfg.Say("  PROBLEM: %v", err)
		return false
	}
	return true
}

// finish compares everything once more and adds up. It has its own time limit, so that a run that
// was interrupted still gets its report.
func (t *Trial) finish(ctx context.Context, rep Report) Report {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	final, err := t.pool.Compare(ctx, time.Time{}, Managers()...)
	if err != nil {
		rep.Problems = append(rep.Problems, "final comparison: "+err.Error())
	}
	rep.Final = final
	for _, c := range final {
		if c.Lost > 0 || c.Twice > 0 {
			rep.Problems = append(rep.Problems, fmt.Sprintf("%s at the end: %d lost, %d twice: %v", c.Host, c.Lost, c.Twice, c.Examples))
		}
	}
	rep.Figures = figures(rep.Rounds)
	return rep
}

// figures computes the spread of each time per fault, over the rounds that hit the Primary.
func figures(rounds []Round) []Figure {
	columns := []struct {
		what string
		of   func(Round) float64
	}{
		{"VIP moved", func(r Round) float64 { return r.VIPMovedMS }},
		{"first acknowledged write", func(r Round) float64 { return r.FirstWriteMS }},
		{"longest silence", func(r Round) float64 { return r.SilenceMS }},
		{"all units back", func(r Round) float64 { return r.AllUnitsMS }},
		{"old host's last answer", func(r Round) float64 { return r.OldAnswerMS }},
		{"two hosts answer", func(r Round) float64 { return r.BothMS }},
		{"two kernels have the VIP", func(r Round) float64 { return r.BothBoundMS }},
		{"Protected after repair", func(r Round) float64 { return r.ProtectedMS }},
		{"writes refused (number)", func(r Round) float64 { return float64(r.Refused) }},
		{"writes sent again (number)", func(r Round) float64 { return float64(r.Resent) }},
	}
	var all []Figure
	for _, f := range Faults() {
		for _, c := range columns {
			var values []float64
			for _, r := range rounds {
				if r.Fault == f && r.WasPrimary && c.of(r) >= 0 {
					values = append(values, c.of(r))
				}
			}
			if len(values) > 0 {
				all = append(all, spread(f, c.what, values))
			}
		}
	}
	return all
}

func spread(f Fault, what string, values []float64) Figure {
	slices.Sort(values)
	n := len(values)
	median := values[n/2]
	if n%2 == 0 {
		median = (values[n/2-1] + values[n/2]) / 2
	}
	return Figure{Fault: f, What: what, N: n, Min: values[0], Median: median, P95: values[(n*95+99)/100-1], Max: values[n-1]}
}

// Line is the round in one line.
func (r Round) Line() string {
	role := "Online"
	if r.WasPrimary {
		role = "Primary"
	}
	acked, lost, twice := 0, 0, 0
	for _, c := range r.Compared {
		acked, lost, twice = max(acked, c.Acknowledged), lost+c.Lost, twice+c.Twice
	}
	s := fmt.Sprintf("%-9s %s (%s)", r.Fault, r.Host, role)
	switch {
	case r.WasPrimary && r.VIPMovedMS < 0:
		s += fmt.Sprintf(": VIP stayed, longest silence %.1f ms", r.SilenceMS)
	case r.WasPrimary && r.Fault.mayStay():
		s += fmt.Sprintf(": VIP moved %.1f ms, longest silence %.1f ms", r.VIPMovedMS, r.SilenceMS)
	case r.WasPrimary:
		s += fmt.Sprintf(": VIP moved %.1f ms, first write %.1f ms, all units %.1f ms, old answer gone %.1f ms",
			r.VIPMovedMS, r.FirstWriteMS, r.AllUnitsMS, r.OldAnswerMS)
	default:
		s += fmt.Sprintf(": longest silence %.1f ms", r.SilenceMS)
	}
	if r.Fault == Flap {
		s += fmt.Sprintf(", Primary moved %d times", r.Moves)
	}
	return s + fmt.Sprintf("; %d acknowledged, lost %d, twice %d", acked, lost, twice)
}

// Text is the report as people read it.
func (r Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rounds in %v, seed %d\n", len(r.Rounds), time.Since(r.Begin).Round(time.Second), r.Seed)
	if len(r.Figures) > 0 {
		fmt.Fprintf(&b, "%-10s %-26s %4s %9s %9s %9s %9s\n", "fault", "ms after the fault", "n", "min", "median", "p95", "max")
	}
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "%-10s %-26s %4d %9.1f %9.1f %9.1f %9.1f\n", f.Fault, f.What, f.N, f.Min, f.Median, f.P95, f.Max)
	}
	unasked := 0
	for _, round := range r.Rounds {
		if round.Unasked != "" {
			unasked++
		}
	}
	fmt.Fprintf(&b, "changes of Primary that nobody caused: %d\n", unasked)
	for _, c := range r.Final {
		fmt.Fprintf(&b, "%s: %s\n", c.Host, c.Text())
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "PROBLEM: %s\n", p)
	}
	return b.String()
}

// Text is the comparison in one line.
func (c Comparison) Text() string {
	return fmt.Sprintf("acknowledged %d, stored %d, lost %d, twice %d", c.Acknowledged, c.Stored, c.Lost, c.Twice)
}
