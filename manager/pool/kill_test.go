package pool

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// rounds is how many random rounds a test runs: few by default, more by POOL_TEST_ROUNDS.
func rounds(t *testing.T, few int) int {
	if s := os.Getenv("POOL_TEST_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("POOL_TEST_ROUNDS: %v", err)
		}
		return n
	}
	return few
}

func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("POOL_TEST_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("POOL_TEST_SEED: %v", err)
		}
		seed = n
	}
	t.Logf("POOL_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestASurvivorInStepIsAlwaysElectableAndNothingAcknowledgedIsLost(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	rng := seeded(t)
	w := tr.write(4)
	for i := range rounds(t, 8) {
		tr.waitProtected()
		had := w.count()
		tr.wait("some writes", func() bool { return w.count() > had+20+rng.IntN(200) })
		victim, survivor := tr.primary(), tr.m
		if victim == nil {
			continue
		}
		if victim == tr.m {
			survivor = tr.b
		}
		began := time.Now()
		victim.kill()
		tr.wait("the survivor is Primary", func() bool { return survivor.pool.State().Status == Primary })
		elected := time.Since(began)
		at := w.count()
		tr.wait("the survivor takes writes", func() bool { return w.count() > at+8 })
		t.Logf("round %d: %s killed, %s Primary after %v, writes after %v", i, victim.name, survivor.name, elected, time.Since(began))
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		victim.reopen()
	}
	w.end()
	t.Logf("%d acknowledged, longest gap %v", len(w.acked), w.gap)
}
