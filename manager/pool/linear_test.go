package pool

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// op is one call on a register that three members keep: a write of a value or a read.
type registerOp struct {
	write bool
	value string
}

var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		op := in.(registerOp)
		if op.write {
			return true, op.value
		}
		return out.(string) == state.(string), state
	},
}

func (m *memory) lastRow() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rows) == 0 {
		return ""
	}
	return string(m.rows[len(m.rows)-1])
}

func TestARegisterStaysLinearizableThroughKills(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	rng := seeded(t)
	began := time.Now()
	var mu sync.Mutex
	var history []porcupine.Operation
	note := func(client int, op registerOp, out string, call, end int64) {
		mu.Lock()
		history = append(history, porcupine.Operation{ClientId: client, Input: op, Call: call, Output: out, Return: end})
		mu.Unlock()
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	const unknown = int64(1) << 60
	client := 0
	for c := range 3 {
		wg.Go(func() {
			for k := 0; ; k++ {
				select {
				case <-stop:
					return
				case <-time.After(3 * time.Millisecond):
				}
				n := tr.primary()
				if n == nil {
					continue
				}
				p := n.live.Load()
				if p == nil {
					continue
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				call := int64(time.Since(began))
				if k%2 == 0 {
					op := registerOp{true, fmt.Sprintf("%d-%d", c, k)}
					_, err := p.Apply(ctx, []byte(op.value))
					mu.Lock()
					client++
					id := client
					mu.Unlock()
					if err == nil {
						note(id, op, "", call, int64(time.Since(began)))
					} else { // may take effect at any time from now on, or never: the same as very late
						note(id, op, "", call, unknown)
					}
				} else if p.Barrier(ctx) == nil {
					out := n.machine.lastRow()
					if p.State().Status == Primary { // the right held until after the look
						mu.Lock()
						client++
						id := client
						mu.Unlock()
						note(id, registerOp{}, out, call, int64(time.Since(began)))
					}
				}
				cancel()
			}
		})
	}
	for range rounds(t, 3) {
		tr.waitProtected()
		victim := tr.primary()
		if victim == nil {
			continue
		}
		time.Sleep(time.Duration(100+rng.IntN(200)) * time.Millisecond)
		victim.kill()
		tr.wait("a Primary", func() bool { return tr.primary() != nil })
		victim.reopen()
	}
	tr.waitProtected()
	close(stop)
	wg.Wait()
	switch porcupine.CheckOperationsTimeout(register, history, 30*time.Second) {
	case porcupine.Illegal:
		t.Errorf("%d operations are not linearizable", len(history))
	case porcupine.Unknown:
		t.Logf("%d operations could not be decided in time", len(history))
	default:
		t.Logf("%d operations are linearizable", len(history))
	}
}
