package pool

import (
	"os"
	"testing"
	"time"
)

// TestNoFalseTakeoverOnABusyMachine needs a machine of its own and says how long: it occupies
// twice as many processes as there are cores. Run it with POOL_TEST_BUSY=60s.
func TestNoFalseTakeoverOnABusyMachine(t *testing.T) {
	s := os.Getenv("POOL_TEST_BUSY")
	if s == "" {
		t.Skip("POOL_TEST_BUSY is not set: it would disturb every other test on this machine")
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("POOL_TEST_BUSY: %v", err)
	}
	tr := newTrioWith(t, options{direct: true})
	w := tr.write(2)
	term := tr.m.pool.State().Term
	for range 4 {
		p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "while :; do :; done"}, &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = p.Kill()
			_, _ = p.Wait()
		}()
	}
	var least time.Duration = time.Hour
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if left := tr.m.pool.lease.until().Sub(Now()); left < least {
			least = left
		}
	}
	tr.net.watch.Lock()
	reigns := tr.net.reigned
	tr.net.watch.Unlock()
	t.Logf("%v with 4 hogs: %d reigns (the first included), term %d after %d, shortest lease left %v, longest write gap %v",
		d, reigns, tr.m.pool.State().Term, term, least, w.gap)
	if got := tr.m.pool.State().Term; got != term {
		t.Errorf("term %d after %d: a takeover without a fault", got, term)
	}
	w.end()
}
