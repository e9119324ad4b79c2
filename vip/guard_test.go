package vip

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeKernel prints what it is told; the step named by fail fails.
type fakeKernel struct {
	clock *Instant
	did   []string
	fail  map[string]error
	slow  map[string]time.Duration // the clock moves on by this during the step
}

func (f *fakeKernel) do(step string) error {
	f.did = append(f.did, step)
	*f.clock = f.clock.Add(f.slow[step])
	return f.fail[step]
}

func (f *fakeKernel) bind(b binding) error             { return f.do("bind " + b.Address.String()) }
func (f *fakeKernel) unbind(a netip.Addr, _ int) error { return f.do("unbind " + a.String()) }
func (f *fakeKernel) shut(binding) error               { return f.do("shut") }
func (f *fakeKernel) destroy(netip.Addr) (int, error)  { return 0, f.do("destroy") }
func (f *fakeKernel) admit(_ binding, fresh bool) error {
	if fresh {
		return f.do("admit")
	}
	return f.do("renew")
}

const down = "shut, destroy, unbind 10.0.0.50"

func TestHolder(t *testing.T) {
	bind := binding{Address: netip.MustParseAddr("10.0.0.50"), Index: 2, Lifetime: 2 * time.Second, Fence: 500 * time.Millisecond}
	ms := func(n int) Instant { return Instant(n) * Instant(time.Millisecond) }
	hold := func(id uint64, until int) order { return order{Op: orderHold, Hold: id, Until: ms(until), Bind: &bind} }
	for _, tt := range []struct {
		name  string
		fail  map[string]error
		slow  map[string]time.Duration
		steps []any // an order, or the time in ms at which tick is called
		did   string
		said  string
	}{
		{name: "binds, lets the packets pass and says so",
			steps: []any{hold(1, 200)}, did: "bind 10.0.0.50, admit", said: "held"},
		{name: "a right that has ended binds nothing",
			steps: []any{hold(1, 0)}, did: "", said: "ended deadline"},
		{name: "binding took longer than the right: taken down at once",
			slow:  map[string]time.Duration{"bind 10.0.0.50": time.Second},
			steps: []any{hold(1, 200)}, did: "bind 10.0.0.50, admit, " + down, said: "ended deadline"},
		{name: "the kernel refuses: nothing is left",
			fail:  map[string]error{"bind 10.0.0.50": errors.New("no")},
			steps: []any{hold(1, 200)}, did: "bind 10.0.0.50, " + down, said: "ended refused no"},
		{name: "the fence is refused: nothing is left",
			fail:  map[string]error{"admit": errors.New("no")},
			steps: []any{hold(1, 200)}, did: "bind 10.0.0.50, admit, " + down, said: "ended refused no"},
		{name: "fence and lifetime are renewed when due",
			steps: []any{hold(1, 1000), 99, 101, 199, 202, 252, 303}, did: "bind 10.0.0.50, admit, renew, renew, bind 10.0.0.50, renew", said: "held"},
		{name: "taken down at the deadline, not before",
			steps: []any{hold(1, 90), 89, 90, 91}, did: "bind 10.0.0.50, admit, " + down, said: "held, ended deadline"},
		{name: "the right moves forward",
			steps: []any{hold(1, 90), order{Op: orderUntil, Hold: 1, Until: ms(95)}, 90, 94, 95},
			did:   "bind 10.0.0.50, admit, " + down, said: "held, ack, ended deadline"},
		{name: "the right is cut short",
			steps: []any{hold(1, 900), order{Op: orderUntil, Hold: 1, Until: ms(5)}, 6},
			did:   "bind 10.0.0.50, admit, " + down, said: "held, ack, ended deadline"},
		{name: "what was taken down is not resurrected by a late renewal",
			steps: []any{hold(1, 90), 95, order{Op: orderUntil, Hold: 1, Until: ms(500)}, 100, order{Op: orderRestore, Hold: 1}, 400},
			did:   "bind 10.0.0.50, admit, " + down, said: "held, ended deadline, ended unknown, ended unknown"},
		{name: "a refresh that crosses the deadline is undone",
			slow:  map[string]time.Duration{"renew": time.Second},
			steps: []any{hold(1, 400), 150}, did: "bind 10.0.0.50, admit, renew, " + down, said: "held, ended deadline"},
		{name: "a fence that lapsed while the guard alone was late is made anew",
			fail:  map[string]error{"renew": errLapsed},
			steps: []any{hold(1, 900), 600}, did: "bind 10.0.0.50, admit, bind 10.0.0.50, renew, admit", said: "held, trouble the guard was late to renew the fence"},
		{name: "a failed refresh is told and tried again soon",
			fail:  map[string]error{"renew": errors.New("busy")},
			steps: []any{hold(1, 900), 101, 120, 152}, did: "bind 10.0.0.50, admit, renew, renew", said: "held, trouble busy, trouble busy"},
		{name: "an order of an earlier hold touches nothing",
			steps: []any{hold(2, 900), order{Op: orderRelease, Hold: 1}, order{Op: orderUntil, Hold: 1, Until: 0}, 50},
			did:   "bind 10.0.0.50, admit", said: "held, ended unknown, ended unknown"},
		{name: "a new hold ends the old one first",
			steps: []any{hold(1, 900), hold(2, 900)}, did: "bind 10.0.0.50, admit, " + down + ", bind 10.0.0.50, admit", said: "held, ended released, held"},
		{name: "released: sockets before the address",
			steps: []any{hold(1, 900), order{Op: orderRelease, Hold: 1}, 950}, did: "bind 10.0.0.50, admit, " + down, said: "held, ended released"},
		{name: "release goes on past a step that fails, and tells",
			fail:  map[string]error{"destroy": errors.New("no memory")},
			steps: []any{hold(1, 900), order{Op: orderRelease, Hold: 1}}, did: "bind 10.0.0.50, admit, " + down,
			said: "held, ended released take down 10.0.0.50: no memory"},
		{name: "restored at once when a tool removed it",
			steps: []any{hold(1, 900), order{Op: orderRestore, Hold: 1}}, did: "bind 10.0.0.50, admit, bind 10.0.0.50, renew", said: "held, restored"},
		{name: "quit takes the address down",
			steps: []any{hold(1, 900), order{Op: orderQuit}}, did: "bind 10.0.0.50, admit, " + down, said: "held, ended released"},
		{name: "quit without a hold does nothing", steps: []any{order{Op: orderQuit}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now := ms(0) + 1
			k := &fakeKernel{clock: &now, fail: tt.fail, slow: tt.slow}
			var said []string
			h := &holder{kernel: k, now: func() Instant { return now }, report: func(r report) {
				said = append(said, strings.Join(slices.DeleteFunc([]string{string(r.Op), r.Why, r.Text}, func(s string) bool { return s == "" }), " "))
			}}
			for _, s := range tt.steps {
				switch s := s.(type) {
				case order:
					if h.order(s) == (s.Op == orderQuit) {
						t.Errorf("order %s: wrong answer to whether to go on", s.Op)
					}
				case int:
					now = max(now, ms(s))
					h.tick()
				}
				if h.held && h.wake() > h.until {
					t.Errorf("wakes at %v, after the deadline %v", h.wake(), h.until)
				}
			}
			if got := strings.Join(k.did, ", "); got != tt.did {
				t.Errorf("did\n  %s, want\n  %s", got, tt.did)
			}
			if got := strings.Join(said, ", "); got != tt.said {
				t.Errorf("said\n  %s, want\n  %s", got, tt.said)
			}
			if !h.held && h.wake() != forever {
				t.Error("wakes although nothing is held")
			}
		})
	}
}

func TestGuardServesOrdersUntilItsParentIsGone(t *testing.T) {
	farewell := []Farewell{{To: netip.MustParseAddrPort("10.0.0.2:8099"), Message: []byte("bye")}}
	hold := func() order {
		return order{Op: orderHold, Hold: 1, Until: Now().Add(time.Hour), Bind: &binding{Address: netip.MustParseAddr("10.0.0.50"),
			Index: 2, Lifetime: 2 * time.Second, Farewell: farewell}}
	}
	for _, tt := range []struct {
		name  string
		lines func() []byte
		did   string
		says  int // farewells
		err   string
	}{
		{"end-of-file: taken down, farewell", func() []byte { return encodeLine(hold()) }, "bind 10.0.0.50, admit, " + down, 1, ""},
		{"quit: taken down, no farewell", func() []byte { return append(encodeLine(hold()), encodeLine(order{Op: orderQuit})...) },
			"bind 10.0.0.50, admit, " + down, 0, ""},
		{"end-of-file without a hold: nothing", func() []byte { return nil }, "", 0, ""},
		{"an unreadable order counts as the parent's death", func() []byte { return append(encodeLine(hold()), "{]\n"...) },
			"bind 10.0.0.50, admit, " + down, 1, "decode order"},
		{"an order without end too", func() []byte { return append(encodeLine(hold()), strings.Repeat("x", orderLimit+1)...) },
			"bind 10.0.0.50, admit, " + down, 1, "exceeds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			go func() {
				_, _ = w.Write(tt.lines())
				_ = w.Close()
			}()
			var ignored Instant
			k := &fakeKernel{clock: &ignored}
			h := &holder{kernel: k, now: Now, report: func(report) {}}
			farewells, err := serveOrders(int(r.Fd()), h)
			checkError(t, err, tt.err)
			if got := strings.Join(k.did, ", "); got != tt.did {
				t.Errorf("did %s, want %s", got, tt.did)
			}
			if len(farewells) != tt.says {
				t.Errorf("%d farewells, want %d", len(farewells), tt.says)
			}
		})
	}
}

func TestGuardActsAtItsDeadlineWithoutOrders(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ended := make(chan Instant, 1)
	var ignored Instant
	h := &holder{kernel: &fakeKernel{clock: &ignored}, now: Now, report: func(r report) {
		if r.Op == reportEnded {
			ended <- Now()
			_ = w.Close()
		}
	}}
	until := Now().Add(30 * time.Millisecond)
	go func() {
		_, _ = w.Write(encodeLine(order{Op: orderHold, Hold: 1, Until: until,
			Bind: &binding{Address: netip.MustParseAddr("10.0.0.50"), Index: 2, Lifetime: 2 * time.Second}}))
	}()
	if _, err := serveOrders(int(r.Fd()), h); err != nil {
		t.Fatal(err)
	}
	if at := <-ended; at < until {
		t.Errorf("taken down %v before the deadline", until.Sub(at))
	}
}

func FuzzDecodeOrder(f *testing.F) {
	f.Add(encodeLine(order{Op: orderHold, Hold: 1, Until: 5, Bind: &binding{Address: netip.MustParseAddr("10.0.0.50"), Index: 2,
		Lifetime: time.Second, Farewell: []Farewell{{To: netip.MustParseAddrPort("10.0.0.2:8099"), Message: []byte{0, 1}}}}}))
	f.Add(encodeLine(order{Op: orderUntil, Hold: 1, Until: 7}))
	f.Add([]byte(`{"op":"hold"}`))
	f.Add([]byte(`{"op":"release","bind":{"address":"fd00::1"}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, line []byte) {
		o, err := decodeOrder(line)
		if err != nil {
			return
		}
		if (o.Op == orderHold) != (o.Bind != nil) {
			t.Errorf("%s with binding %v", o.Op, o.Bind)
		}
		again, err := decodeOrder(encodeLine(o))
		if err != nil || fmt.Sprintf("%+v", again.Bind) != fmt.Sprintf("%+v", o.Bind) && (again.Bind == nil || o.Bind == nil) {
			t.Errorf("%+v does not survive encoding: %+v, %v", o, again, err)
		}
	})
}

func FuzzDecodeReport(f *testing.F) {
	f.Add(encodeLine(report{Op: reportEnded, Hold: 3, Why: whyDeadline, Text: "x"}))
	f.Add(encodeLine(report{Op: reportAck, Hold: 3, Until: 9}))
	f.Add([]byte(`{"op":"shout"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := decodeReport(line)
		if err != nil {
			return
		}
		var again report
		if err := json.Unmarshal(encodeLine(r), &again); err != nil || again != r {
			t.Errorf("%+v does not survive encoding: %+v, %v", r, again, err)
		}
	})
}
