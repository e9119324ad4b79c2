package pool

import (
	"fmt"
	"testing"
	"time"
)

// The network's own checks (one right at a time, one Primary per term) run beside every test of a
// trio; see network.begin and trio.sample.

func TestNoPartitionMakesTwoPrimaries(t *testing.T) {
	tr := newTrio(t)
	rng := seeded(t)
	w := tr.write(2)
	names := []string{"m", "b", "a"}
	var ways [][2]string
	for _, from := range names {
		for _, to := range names {
			if from != to {
				ways = append(ways, [2]string{from, to})
			}
		}
	}
	for i := range rounds(t, 4) {
		tr.waitProtected()
		// One to four ways are blocked: pairs, single directions and a whole member are among them.
		var cut []string
		for range 1 + rng.IntN(4) {
			way := ways[rng.IntN(len(ways))]
			tr.net.set(way[0], way[1], true)
			cut = append(cut, way[0]+">"+way[1])
			if rng.IntN(2) == 0 {
				tr.net.set(way[1], way[0], true)
				cut = append(cut, way[1]+">"+way[0])
			}
		}
		time.Sleep(time.Duration(200+rng.IntN(1500)) * time.Millisecond) // the fault's own length
		t.Logf("round %d: cut %v, then m %v, b %v", i, cut, tr.m.pool.State().Status, tr.b.pool.State().Status)
		tr.net.heal()
	}
	w.end()
	t.Logf("%d acknowledged, %d reigns, longest gap %v", len(w.acked), tr.net.reigned, w.gap)
}

func TestAPrimaryCutOffFromBothGoesOnlineAndTheOtherTakesOver(t *testing.T) {
	tr := newTrio(t)
	w := tr.write(2)
	tr.net.part("m", "b")
	tr.net.part("m", "a")
	began := time.Now()
	tr.wait("the Master is Online", func() bool { return tr.m.pool.State().Status == Online })
	gone := time.Since(began)
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	t.Logf("Online after %v, Backup Primary after %v", gone, time.Since(began))
	if c := tr.b.pool.State().Change; c != nil {
		t.Logf("%+v", *c)
	}
	at := w.count()
	tr.wait("writes go on", func() bool { return w.count() > at+5 })
	t.Logf("writes after %v", time.Since(began))
	tr.net.heal()
	w.end()
}

func TestManagersThatDoNotSeeEachOtherDoNotTakeOverWhileTheArbiterSeesBoth(t *testing.T) {
	tr := newTrio(t)
	w := tr.write(2)
	term := tr.m.pool.State().Term
	tr.net.part("m", "b")
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s := tr.b.pool.State(); s.Status == Primary {
			t.Fatalf("the Backup took over in term %d", s.Term)
		}
	}
	// A machine that stands still for a moment costs the Master its lease for as long; it has it
	// back in the same term.
	tr.wait("the Master is Primary and knows that it has one copy", func() bool {
		s := tr.m.pool.State()
		return s.Status == Primary && s.Health == Degraded
	})
	if s := tr.m.pool.State(); s.Term != term {
		t.Errorf("term %d after %d", s.Term, term)
	}
	if tr.b.serving.Load() != 0 {
		t.Error("the Backup serves")
	}
	tr.net.heal()
	w.end()
}

func TestDegradedThenThePrimaryDiesIsFailureUntilItReturns(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	w := tr.write(2)
	tr.wait("some writes", func() bool { return w.count() > 20 })
	tr.b.kill()
	at := w.count()
	tr.wait("Degraded", func() bool { return tr.m.pool.State().Health == Degraded })
	tr.wait("writes go on", func() bool { return w.count() > at+50 })
	tr.m.kill()
	tr.b.reopen()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s := tr.b.pool.State(); s.Status == Primary {
			t.Fatalf("the Backup is Primary at %v without the acknowledged rows of the Master", s.Last)
		}
	}
	if s := tr.b.pool.State(); s.Health != Failure {
		t.Errorf("health %v, want failure", s.Health)
	}
	tr.m.reopen()
	w.end()
}

func TestTheGateOpensForADeadBackupAndShutsWhenItReturns(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	w := tr.write(2)
	for range 2 {
		tr.waitProtected()
		began := time.Now()
		at := w.count()
		tr.b.kill()
		tr.wait("writes go on", func() bool { return w.count() > at+20 })
		t.Logf("20 writes %v after the Backup's death", time.Since(began))
		tr.wait("Degraded", func() bool { return tr.m.pool.State().Health == Degraded })
		time.Sleep(time.Second) // the library's retries back off meanwhile
		tr.b.reopen()
		began = time.Now()
		tr.waitProtected()
		t.Logf("Protected %v after its return", time.Since(began))
	}
	w.end()
	t.Logf("longest gap %v", w.gap)
}

func TestEveryWayBlockedAlone(t *testing.T) {
	for _, way := range [][2]string{{"m", "b"}, {"b", "m"}, {"m", "a"}, {"a", "m"}, {"b", "a"}, {"a", "b"}} {
		t.Run(fmt.Sprintf("%s to %s", way[0], way[1]), func(t *testing.T) {
			t.Parallel()
			tr := newTrio(t)
			w := tr.write(1)
			tr.net.set(way[0], way[1], true)
			time.Sleep(800 * time.Millisecond)
			at := w.count()
			tr.wait("writes go on with one way blocked", func() bool { return w.count() > at+5 })
			tr.net.heal()
			w.end()
		})
	}
}
