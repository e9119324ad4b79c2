package agent_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"redundancypool/fieldunit/agent"
)

func TestALostSYNDoesNotHoldItUp(t *testing.T) {
	d := newDatabase()
	b := manager(t, "127.0.0.1:0", d, nil)
	s := spool(t, "")
	fill(t, s, 1)
	var calls atomic.Int32
	a, _ := start(t, agent.Config{
		Profile: profile(b), Spool: s,
		Timing: agent.Timing{Stagger: 10 * time.Millisecond, Attempt: time.Hour},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if calls.Add(1) <= 2 { // the first two vanish
				<-ctx.Done()
				return nil, ctx.Err()
			}
			var n net.Dialer
			return n.DialContext(ctx, network, address)
		},
	})
	flush(t, a)
	if n := calls.Load(); n < 3 {
		t.Errorf("%d attempts", n)
	}
}

func TestRefusedConnectionsAreTriedAgainFast(t *testing.T) {
	d := newDatabase()
	b := manager(t, "127.0.0.1:0", d, nil)
	s := spool(t, "")
	fill(t, s, 1)
	var calls atomic.Int32
	a, _ := start(t, agent.Config{
		Profile: profile(b), Spool: s,
		Timing: agent.Timing{FastRetry: time.Millisecond},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if calls.Add(1) <= 50 {
				return nil, errors.New("connection refused")
			}
			var n net.Dialer
			return n.DialContext(ctx, network, address)
		},
	})
	flush(t, a)
	if st := a.Stats(); st.Connections != 1 {
		t.Errorf("%+v", st)
	}
}

// frozen answers CONNECT and nothing after, as a Manager does whose process is stopped: its
// kernel goes on confirming what arrives.
func frozen(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				var one [1]byte
				if _, err := c.Read(one[:]); err == nil {
					_, _ = c.Write([]byte{0x20, 3, 0, 0, 0})
				}
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l
}

func TestAFrozenManagerIsLeft(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first int // records that wait from the start
	}{
		{"with acknowledgements due", 5},
		{"while idle", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDatabase()
			b := manager(t, "127.0.0.1:0", d, nil)
			ice := frozen(t)
			s := spool(t, "")
			fill(t, s, tt.first)
			var calls atomic.Int32
			a, stop := start(t, agent.Config{
				Profile: profile(b), Spool: s,
				Timing: agent.Timing{PingBusy: 20 * time.Millisecond, PingIdle: 20 * time.Millisecond, SilenceBusy: 200 * time.Millisecond, Silence: 200 * time.Millisecond, Stagger: time.Minute},
				Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
					if calls.Add(1) == 1 {
						address = ice.Addr().String()
					}
					var n net.Dialer
					return n.DialContext(ctx, network, address)
				},
			})
			eventually(t, "it has connected elsewhere", func() bool { return a.Stats().Connections >= 2 })
			fill(t, s, 1)
			flush(t, a)
			if e := a.Stats().LastError; !strings.Contains(e, "no sign of life") {
				t.Errorf("reason: %q", e)
			}
			if d.len() != tt.first+1 {
				t.Errorf("stored %d", d.len())
			}
			stop()
			_ = ice.Close()
		})
	}
}
