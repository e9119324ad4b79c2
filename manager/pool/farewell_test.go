package pool

import (
	"slices"
	"testing"
	"time"
)

// With the guard's farewell, which proves that the process is dead and the virtual IP gone, nobody
// waits for the silence or for the promise to run out.
func TestAFarewellMakesATakeoverAtOnce(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	w := tr.write(2)
	var took []time.Duration
	for range rounds(t, 5) {
		tr.waitProtected()
		victim, survivor := tr.m, tr.b
		if tr.primary() == tr.b {
			victim, survivor = tr.b, tr.m
		}
		var r Reign
		tr.wait("the victim serves and has said its hash", func() bool {
			tr.net.watch.Lock()
			defer tr.net.watch.Unlock()
			r = tr.net.reigns[victim.name]
			if r.Term == 0 {
				return false
			}
			for _, n := range []*node{survivor, tr.a} {
				n.pool.mu.Lock()
				known := n.pool.peers[victim.pool.self].farewell != ""
				n.pool.mu.Unlock()
				if !known {
					return false
				}
			}
			return true
		})
		secret := r.Farewell[len("FAREWELL1 "):]
		began := time.Now()
		victim.kill()
		tr.a.pool.onFarewell(secret)
		survivor.pool.onFarewell(secret)
		tr.wait("the survivor is Primary", func() bool { return survivor.pool.State().Status == Primary })
		took = append(took, time.Since(began))
		tr.wait("its account is spread", func() bool { s := survivor.pool.State(); return s.Change != nil && s.Change.Term == s.Term })
		if c := survivor.pool.State().Change; c.Kind != "takeover" {
			t.Errorf("%+v", c)
		}
		victim.reopen()
	}
	w.end()
	slices.Sort(took)
	t.Logf("kill to Primary: %v; longest gap between acknowledgements %v", took, w.gap)
}
