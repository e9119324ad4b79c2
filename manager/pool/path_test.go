package pool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestWhoIsCutOffOnTheFirstPath(t *testing.T) {
	const limit = 250 * time.Millisecond
	near, far, never := 20*time.Millisecond, time.Second, -time.Duration(1)
	for _, c := range []struct {
		name string
		a, b hearing
		want bool
	}{
		{"both hear it: it is not", hearing{true, near, near}, hearing{true, near, near}, false},
		{"both hear each other and not it: it is", hearing{true, far, near}, hearing{true, far, near}, true},
		{"neither ever heard it there: it is", hearing{true, never, near}, hearing{true, never, near}, true},
		{"only one misses it: a broken way, not its network", hearing{true, far, near}, hearing{true, near, near}, false},
		{"nobody hears anybody: the network as a whole", hearing{true, far, far}, hearing{true, far, far}, false},
		{"one does not hear the other: not certain", hearing{true, far, near}, hearing{true, far, far}, false},
		{"one has said nothing lately: not certain", hearing{true, far, near}, hearing{false, far, near}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := deafened(c.a, c.b, limit); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestThePoolGoesOnOverTheSecondPath(t *testing.T) {
	tr := newTrioWith(t, options{second: true})
	w := tr.write(2)
	term := tr.m.pool.State().Term
	// Nobody hears anybody on the first path: no reason to change Primary.
	tr.net.part("m", "b")
	tr.net.part("m", "a")
	tr.net.part("b", "a")
	time.Sleep(1500 * time.Millisecond)
	at := w.count()
	tr.wait("writes go on", func() bool { return w.count() > at+20 })
	tr.wait("both copies are written", func() bool {
		return tr.m.pool.gate.View(tr.m.pool.raft.CurrentTerm()).InStep
	})
	if s := tr.m.pool.State(); s.Status != Primary || s.Term != term {
		t.Errorf("%v in term %d, was Primary in %d", s.Status, s.Term, term)
	}
	tr.net.heal()
	w.end()
}

func TestAPrimaryWhoseFirstPathIsDeadHandsOver(t *testing.T) {
	tr := newTrioWith(t, options{second: true})
	w := tr.write(2)
	tr.net.part("m", "b")
	tr.net.part("m", "a")
	began := time.Now()
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	t.Logf("handed over after %v", time.Since(began))
	tr.wait("the cause is told", func() bool {
		c := tr.b.pool.State().Change
		return c != nil && c.To == "b"
	})
	if s := tr.b.pool.State(); s.Health == Protected {
		t.Error("Protected although the Master is cut off from the virtual IP's network")
	}
	tr.net.heal()
	w.end()
}

func TestAnIsolatedArbiterNeverCampaigns(t *testing.T) {
	tr := newTrio(t)
	term := tr.a.pool.State().Term
	tr.net.part("m", "a")
	tr.net.part("b", "a")
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if s := tr.a.pool.raft.State(); s == raft.Leader {
			t.Fatal("it leads")
		}
	}
	if got := tr.a.pool.raft.CurrentTerm(); got != term {
		t.Errorf("term %d after %d", got, term)
	}
	tr.net.heal()
	tr.waitProtected()
	if got := tr.m.pool.raft.CurrentTerm(); got != term {
		t.Errorf("the pool's term is %d after %d", got, term)
	}
}

func TestTheArbitersFolderHoldsNoPayloadAndStaysSmall(t *testing.T) {
	tr := newTrioWith(t, options{direct: true, tune: func(c *raft.Config) {
		if c.TrailingLogs < 100_000 { // the Arbiter
			c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 64, 64, 50*time.Millisecond
		}
	}})
	const secret = "PAYLOAD-THAT-NO-ARBITER-SEES"
	put := func(n int) {
		for i := range n {
			if err := write(tr.m, fmt.Sprint(secret, i, bytes.Repeat([]byte("x"), 512))); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(300)
	tr.b.close()
	tr.wait("Degraded", func() bool { return tr.m.pool.State().Health == Degraded })
	put(300)
	tr.wait("the Arbiter has it", func() bool { return tr.a.pool.State().Last.Index >= tr.m.pool.State().Last.Index })
	tr.wait("the Arbiter's log is cut", func() bool {
		first, err := tr.a.pool.store.FirstIndex()
		last, err2 := tr.a.pool.store.LastIndex()
		return err == nil && err2 == nil && last-first < 400
	})
	tr.a.close()
	files, err := filepath.Glob(filepath.Join(tr.a.dir, "*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s contains payload", f)
		}
		if len(b) > 1<<20 {
			t.Errorf("%s has %d bytes", f, len(b))
		}
	}
	b, err := os.ReadFile(filepath.Join(tr.m.dir, storeFile))
	if err != nil || !bytes.Contains(b, []byte(secret)) {
		t.Errorf("the Master's own log does not contain it (%v): this test would see nothing", err)
	}
}

// far is a trio whose Managers keep so little of the log that who was away needs the database.
func far(c *raft.Config) {
	c.TrailingLogs, c.SnapshotThreshold, c.SnapshotInterval = 32, 32, 50*time.Millisecond
}

func TestMembersFarBehindAreFilledByASnapshotUnderWrites(t *testing.T) {
	tr := newTrioWith(t, options{direct: true, tune: far})
	w := tr.write(2)
	for _, away := range []*node{tr.b, tr.a} {
		tr.waitProtected()
		away.close()
		at := w.count()
		tr.wait("many writes", func() bool { return w.count() > at+400 })
		tr.wait("the log is cut", func() bool {
			first, err := tr.m.pool.store.FirstIndex()
			return err == nil && first > 200
		})
		away.reopen()
		tr.waitProtected()
	}
	w.end()
}

func TestHandOverIsRefusedWhileItWouldNotBeSafe(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	tr.b.pool.SetMaintenance(true)
	tr.wait("known", func() bool { return len(tr.m.pool.Obstacles()) > 0 })
	if err := tr.m.pool.HandOver(t.Context(), "test", func(string) {}); err == nil {
		t.Error("to a Manager in maintenance")
	}
	tr.b.pool.SetMaintenance(false)
	tr.waitProtected()
	tr.b.close()
	tr.wait("known", func() bool { return len(tr.m.pool.Obstacles()) > 0 })
	if err := tr.m.pool.HandOver(t.Context(), "test", func(string) {}); err == nil {
		t.Error("to a Manager that is away")
	}
	if s := tr.m.pool.State(); s.Status != Primary {
		t.Errorf("%v", s.Status)
	}
}

func TestHandOversUnderLoadFailNoWriteForLong(t *testing.T) {
	tr := newTrio(t)
	w := tr.write(4)
	for i := range rounds(t, 6) {
		tr.waitProtected()
		from, to := tr.m, tr.b
		if tr.primary() == tr.b {
			from, to = tr.b, tr.m
		}
		began := time.Now()
		if err := from.pool.HandOver(context.Background(), "test", func(string) {}); err != nil {
			t.Fatal(err)
		}
		tr.wait("the other is Primary", func() bool { return to.pool.State().Status == Primary })
		took := time.Since(began)
		tr.wait("its account is spread", func() bool { s := to.pool.State(); return s.Change != nil && s.Change.Term == s.Term })
		if c := to.pool.State().Change; c.Kind != "hand_over" {
			t.Errorf("kind %q, cause %q", c.Kind, c.Cause)
		}
		t.Logf("hand over %d took %v", i, took)
	}
	w.end()
	t.Logf("%d acknowledged, longest gap %v", len(w.acked), w.gap)
}

func TestMaintenanceOfThePrimaryMovesItToTheOther(t *testing.T) {
	tr := newTrio(t)
	tr.m.pool.SetMaintenance(true)
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	tr.m.pool.SetMaintenance(false)
	tr.waitProtected()
}

func TestYieldMovesPrimaryToTheOther(t *testing.T) {
	tr := newTrio(t)
	began := time.Now()
	tr.m.pool.Yield(errors.New("the virtual IP was lost"))
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	t.Logf("after %v", time.Since(began))
	tr.waitProtected()
}
