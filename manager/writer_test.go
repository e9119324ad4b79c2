package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"redundancypool/fieldunit"
	"redundancypool/fieldunit/broker"
	"redundancypool/manager/database"
)

// log is a fake of the pool's log: it keeps what is proposed, and answers when it is let go.
type log struct {
	mu     sync.Mutex
	groups [][]fieldunit.Telemetry
	gate   chan struct{} // one receive per answer; nil: at once
	answer func([]fieldunit.Telemetry) (database.Result, error)
}

func (l *log) propose(_ context.Context, body database.Body) func() (database.Result, error) {
	batch := body.(database.TelemetryBatch)
	l.mu.Lock()
	l.groups = append(l.groups, batch.Records)
	l.mu.Unlock()
	return func() (database.Result, error) {
		if l.gate != nil {
			<-l.gate
		}
		if l.answer != nil {
			return l.answer(batch.Records)
		}
		return allStored(batch.Records)
	}
}

func allStored(r []fieldunit.Telemetry) (database.Result, error) {
	out := make([]database.Outcome, len(r))
	for i := range out {
		out[i] = database.Stored
	}
	return database.Result{Records: out}, nil
}

func telemetry(unit string, seq uint64) fieldunit.Telemetry {
	return fieldunit.Telemetry{Unit: unit, HasSeq: true, Seq: seq, Readings: []fieldunit.Reading{{Tag: "t", Value: fieldunit.Value{}}}}
}

func TestRecordsAreGroupedInOrderWithinTheLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &log{gate: make(chan struct{})}
		r := newRecorder(l.propose, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		const n = 5000
		var got []uint64
		var mu sync.Mutex
		go func() {
			for i := range uint64(n) {
				r.Submit(ctx, []fieldunit.Telemetry{telemetry("u", i)}, func(err error) {
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Errorf("record %d: %v", i, err)
					}
					got = append(got, i)
				})
			}
		}()
		synctest.Wait()
		if l.mu.Lock(); len(l.groups) > groupFlight {
			t.Errorf("%d groups are on their way, more than %d", len(l.groups), groupFlight)
		}
		l.mu.Unlock()
		close(l.gate)
		synctest.Wait()
		cancel()
		<-done
		next := uint64(0)
		for _, g := range l.groups {
			if len(g) > groupRecords {
				t.Errorf("a group has %d records, more than %d", len(g), groupRecords)
			}
			if w := weight(g); w > groupBytes+weight(g[:1]) {
				t.Errorf("a group weighs %d bytes, more than %d", w, groupBytes)
			}
			for _, rec := range g {
				if rec.Seq != next {
					t.Fatalf("record %d is proposed where %d is due", rec.Seq, next)
				}
				next++
			}
		}
		if len(got) != n {
			t.Errorf("%d of %d records were answered", len(got), n)
		}
	})
}

func TestEveryRecordIsAnswered(t *testing.T) {
	broken := errors.New("the log refuses")
	tests := []struct {
		name   string
		answer func([]fieldunit.Telemetry) (database.Result, error)
		want   error
	}{
		{"stored: acknowledged", allStored, nil},
		{"the log refuses: not acknowledged, with its error", func([]fieldunit.Telemetry) (database.Result, error) { return database.Result{}, broken }, broken},
		{"the unit was removed: refused for good", func(r []fieldunit.Telemetry) (database.Result, error) {
			return database.Result{Records: make([]database.Outcome, len(r))}, nil
		}, broker.ErrRefused},
		{"stored before: acknowledged again", func(r []fieldunit.Telemetry) (database.Result, error) {
			return database.Result{Records: []database.Outcome{database.Duplicate}}, nil
		}, nil},
		{"another value at the same key: stored, so acknowledged", func(r []fieldunit.Telemetry) (database.Result, error) {
			return database.Result{Records: []database.Outcome{database.Conflict}}, nil
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := &log{answer: tt.answer}
			r := newRecorder(l.propose, nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() { r.run(ctx) })
			if err := r.Record(t.Context(), []fieldunit.Telemetry{telemetry("u", 1)}); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			cancel()
			wg.Wait()
		})
	}
	t.Run("fewer results than records: not acknowledged", func(t *testing.T) {
		l := &log{answer: func([]fieldunit.Telemetry) (database.Result, error) { return database.Result{}, nil }}
		r := newRecorder(l.propose, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { r.run(ctx) })
		if err := r.Record(t.Context(), []fieldunit.Telemetry{telemetry("u", 1)}); err == nil {
			t.Error("a record without a result was acknowledged")
		}
		cancel()
		wg.Wait()
	})
}

// What waits when Primary ends is refused, not forgotten: its unit sends it again.
func TestWaitingRecordsAreRefusedAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &log{gate: make(chan struct{})}
		r := newRecorder(l.propose, nil)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		var mu sync.Mutex
		answers := map[string]int{}
		const n = groupFlight*groupRecords + 700
		go func() {
			for i := range uint64(n) {
				r.Submit(t.Context(), []fieldunit.Telemetry{telemetry("u", i)}, func(err error) {
					mu.Lock()
					defer mu.Unlock()
					answers[fmt.Sprint(err)]++
				})
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(l.gate)
		<-done
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		total := 0
		for _, k := range answers {
			total += k
		}
		if total != n || answers["<nil>"] == 0 || answers["<nil>"] == n {
			t.Errorf("answers: %v, want %d in all, some stored and some refused", answers, n)
		}
	})
}

func TestHistoryIsPrunedGently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		ctx, cancel := context.WithCancel(t.Context())
		failures := 0
		prune(ctx, func(_ context.Context, b database.Body) (database.Result, error) {
			p := b.(database.Prune)
			if want := time.Now().Add(-keepSamples).UnixMilli(); p.SamplesBeforeMS != want || p.Limit != pruneRows {
				t.Errorf("prunes %+v, want samples before %d", p, want)
			}
			at = append(at, time.Since(began))
			switch len(at) {
			case 1, 2:
				return database.Result{Removed: pruneRows, More: true}, nil
			case 3:
				return database.Result{}, nil
			case 4:
				return database.Result{}, errors.New("the disk is full")
			}
			cancel()
			return database.Result{}, nil
		}, time.Now, func(error) { failures++ })
		want := []time.Duration{0, pruneStep, 2 * pruneStep, 2*pruneStep + pruneEvery, 2*pruneStep + 2*pruneEvery}
		if fmt.Sprint(at) != fmt.Sprint(want) || failures != 1 {
			t.Errorf("prunes at %v with %d failures, want %v with 1", at, failures, want)
		}
	})
}
