package transport

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

func testGate(fresh *atomic.Bool) *Gate {
	return NewGate(GateConfig{
		Silence: 60 * time.Millisecond, MaxHold: 100 * time.Millisecond, Settle: 3, BackOff: 200 * time.Millisecond,
		Heard: func() Heard { return Heard{Other: time.Hour, Fresh: fresh.Load()} },
	})
}

// waiting runs Wait beside the test and returns where its result comes.
func waiting(t *testing.T, g *Gate, term, first, last uint64) <-chan uint64 {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	out := make(chan uint64, 1)
	go func() { out <- g.Wait(ctx, term, first, last) }()
	return out
}

func result(t *testing.T, c <-chan uint64) uint64 {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("held for ever")
		return 0
	}
}

func held(t *testing.T, c <-chan uint64, d time.Duration) {
	t.Helper()
	select {
	case v := <-c:
		t.Fatalf("not held: %d", v)
	case <-time.After(d):
	}
}

func TestGateRules(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, g *Gate, fresh *atomic.Bool)
	}{
		{"shut: entries wait for the other Manager and go up to what it has", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			w := waiting(t, g, 5, 11, 14)
			held(t, w, 20*time.Millisecond)
			g.Ack(5, 12)
			if v := result(t, w); v != 12 {
				t.Errorf("up to %d, want the cut prefix 12", v)
			}
		}},
		{"an answer of an earlier term moves nothing", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			w := waiting(t, g, 5, 11, 14)
			g.Ack(4, 99)
			held(t, w, 20*time.Millisecond)
			g.Ack(5, 14)
			if v := result(t, w); v != 14 {
				t.Errorf("%d", v)
			}
		}},
		{"a heartbeat's answer, index 0, lets nothing pass", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			w := waiting(t, g, 5, 11, 11)
			g.Ack(5, 0)
			held(t, w, 20*time.Millisecond)
		}},
		{"dead process: opens at once", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			w := waiting(t, g, 5, 11, 14)
			g.PeerDown()
			if v := result(t, w); v != 14 {
				t.Errorf("%d", v)
			}
			if v := g.View(5); v.State != GateOpen || v.InStep {
				t.Errorf("%+v", v)
			}
		}},
		{"dead process, but the Arbiter does not answer: stays shut", func(t *testing.T, g *Gate, fresh *atomic.Bool) {
			fresh.Store(false)
			w := waiting(t, g, 5, 11, 14)
			g.PeerDown()
			held(t, w, 150*time.Millisecond)
			fresh.Store(true)
			if v := result(t, w); v != 14 {
				t.Errorf("%d", v)
			}
		}},
		{"silence: opens after the limit and not before", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			began := time.Now()
			if v := result(t, waiting(t, g, 5, 11, 11)); v != 11 || time.Since(began) < 60*time.Millisecond {
				t.Errorf("%d after %v", v, time.Since(began))
			}
		}},
		{"silence that was waited for before the term: opens at once", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			g.Quiet(5)
			began := time.Now()
			if v := result(t, waiting(t, g, 5, 11, 11)); v != 11 {
				t.Errorf("%d", v)
			}
			if d := time.Since(began); d > 50*time.Millisecond {
				t.Logf("took %v on this machine", d)
			}
		}},
		{"answers but does not store: opens after MaxHold", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			w := waiting(t, g, 5, 11, 11)
			began := time.Now()
			for len(w) == 0 && time.Since(began) < 10*time.Second {
				g.Ack(5, 0)
				time.Sleep(2 * time.Millisecond)
			}
			if v := result(t, w); v != 11 || time.Since(began) < 100*time.Millisecond {
				t.Errorf("%d after %v", v, time.Since(began))
			}
		}},
		{"open: shuts after Settle good answers with nothing behind, back-off over", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			g.PeerDown()
			result(t, waiting(t, g, 5, 11, 20))
			for i := range 10 {
				g.Ack(5, uint64(10+i)) // behind
			}
			if g.View(5).State != GateOpen {
				t.Error("shut while behind")
			}
			for range 10 {
				g.Ack(5, 20)
			}
			if g.View(5).State != GateOpen {
				t.Error("shut while the process counts as dead")
			}
			g.PeerUp()
			for end := time.Now().Add(10 * time.Second); !g.View(5).InStep; time.Sleep(time.Millisecond) {
				g.Ack(5, 20)
				if time.Now().After(end) {
					t.Fatal("never in step")
				}
			}
		}},
		{"in step only once all that the Arbiter may have is there too", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			g.Begin(5, 30)
			g.Ack(5, 29)
			if g.View(5).InStep {
				t.Error("in step with 29 of 30")
			}
			g.Ack(5, 30)
			if !g.View(5).InStep {
				t.Error("not in step with 30 of 30")
			}
			if g.View(4).InStep || g.View(6).InStep {
				t.Error("in step in another term")
			}
		}},
		{"no other Manager: nothing is held", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			g.NoPeer(true)
			if v := result(t, waiting(t, g, 5, 11, 14)); v != 14 {
				t.Errorf("%d", v)
			}
		}},
		{"a newer term ends the wait of the older one", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			w := waiting(t, g, 5, 11, 14)
			held(t, w, 10*time.Millisecond)
			g.Begin(6, 12)
			if v := result(t, w); v != 0 {
				t.Errorf("%d", v)
			}
		}},
		{"a new term forgets what the other Manager had", func(t *testing.T, g *Gate, _ *atomic.Bool) {
			g.Ack(5, 50)
			w := waiting(t, g, 6, 11, 14)
			held(t, w, 20*time.Millisecond)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var fresh atomic.Bool
			fresh.Store(true)
			g := testGate(&fresh)
			g.Begin(5, 10)
			c.run(t, g, &fresh)
		})
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	g := NewGate(GateConfig{Silence: time.Hour, MaxHold: time.Hour})
	ctx, cancel := context.WithCancel(context.Background())
	out := make(chan uint64, 1)
	go func() { out <- g.Wait(ctx, 1, 1, 1) }()
	cancel()
	if v := result(t, out); v != 0 {
		t.Errorf("%d", v)
	}
}

func TestASlowManagerDoesNotMakeTheGateFlap(t *testing.T) {
	var fresh atomic.Bool
	fresh.Store(true)
	g := testGate(&fresh)
	g.Begin(1, 0)
	for range 4 {
		g.good = time.Now()
		g.openLocked(Heard{Other: time.Hour})
	}
	if was := g.cfg.BackOff; g.backOff != 8*was {
		t.Errorf("back-off %v after four openings in a row, begins with %v", g.backOff, was)
	}
	g.good = time.Time{}
	g.openLocked(Heard{Other: time.Hour})
	if g.backOff != 0 {
		t.Errorf("back-off %v for one that was silent, not slow", g.backOff)
	}
}

// A Primary that hears nobody any more last heard the other Manager and the Arbiter in the same
// moment. Its right, which rests on the Arbiter's last answer, is then still valid for a moment
// after the other Manager's silence has become too long; an entry that went to the Arbiter in
// between would keep the other Manager, which lacks it, from being elected.
func TestWhoHearsNobodyFeedsNoArbiter(t *testing.T) {
	var heard atomic.Pointer[time.Time]
	note := func() { now := time.Now(); heard.Store(&now) }
	note()
	g := NewGate(GateConfig{
		Silence: 60 * time.Millisecond, MaxHold: time.Hour, Settle: 3, BackOff: time.Second,
		Heard: func() Heard { // the lease lasts long beyond the silence
			return Heard{Other: time.Hour, Arbiter: time.Since(*heard.Load()), Fresh: true}
		},
	})
	g.Begin(5, 10)
	g.Ack(5, 10)
	note()
	w := waiting(t, g, 5, 11, 14)
	held(t, w, 200*time.Millisecond)
	if v := g.View(5); v.State != GateShut {
		t.Errorf("the gate is %v", v.State)
	}
	note() // the Arbiter is heard, the other Manager is not: it is away
	if v := result(t, w); v != 14 {
		t.Errorf("up to %d, want 14", v)
	}
}

// A disk may stand still for longer than heartbeats do. Who still sends them is waited for up to
// MaxHold, and not only for Silence.
func TestWhoseDiskStandsStillIsWaitedForLonger(t *testing.T) {
	g := NewGate(GateConfig{
		Silence: 30 * time.Millisecond, MaxHold: 300 * time.Millisecond, Settle: 3, BackOff: time.Second,
		Heard: func() Heard { return Heard{Other: time.Millisecond, Fresh: true} },
	})
	g.Begin(5, 10)
	g.Ack(5, 10)
	w := waiting(t, g, 5, 11, 14)
	held(t, w, 150*time.Millisecond)
	if v := result(t, w); v != 14 {
		t.Errorf("up to %d, want 14 once it was held for long enough", v)
	}
}

// Whoever is asked of whom it has heard may be just telling the Gate something, under its own lock.
func TestAGateAsksWithoutItsLock(t *testing.T) {
	var g *Gate
	g = NewGate(GateConfig{
		Silence: time.Millisecond, MaxHold: time.Millisecond, Settle: 3, BackOff: time.Second,
		Heard: func() Heard { g.PeerUp(); return Heard{Other: time.Hour, Fresh: true} },
	})
	g.Begin(5, 10)
	if v := result(t, waiting(t, g, 5, 11, 14)); v != 14 {
		t.Errorf("up to %d, want 14", v)
	}
}
