package arbiter

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/trust"
)

// greeted is a node that answers first contacts at the returned address.
func greeted(t *testing.T, s *trust.Store, g *Greeter) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := transport.NewPort(ln, transport.PortConfig{TLS: s.ServerTLS(), Fingerprint: PeerFingerprint, Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { p.Close() })
	if g != nil {
		p.HandleCall(pool.MethodGreet, nil, g.Answer)
	}
	return netip.MustParseAddrPort(ln.Addr().String())
}

func identity(t *testing.T) *trust.Store {
	t.Helper()
	s, err := trust.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFirstContact(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	here, there := identity(t), identity(t)
	var met Contact
	g := &Greeter{
		Self: func(fp string) pool.Introduction {
			return pool.Introduction{Role: "arbiter", Name: "third", Version: "2", Standing: pool.Free, Trusts: TrustedAs(there, fp)}
		},
		Met: func(c Contact) error { met = c; return nil },
	}
	at := greeted(t, there, g)
	c, err := Greet(ctx, here, at, pool.Introduction{Role: "master", Name: "first"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "third" || c.Role != "arbiter" || c.Trusts != "" || c.Fingerprint != there.Fingerprint() {
		t.Errorf("contact %+v", c)
	}
	if met.Name != "first" || met.Fingerprint != here.Fingerprint() || met.Address.Addr() != at.Addr() {
		t.Errorf("the other side met %+v", met)
	}
	if c.Ahead.Abs() > c.After+2*time.Millisecond { // the clock is told in ms
		t.Errorf("the same clock is %v ahead, after %v", c.Ahead, c.After)
	}
	if err := there.Approve(trust.PeerRecord{Fingerprint: here.Fingerprint(), Role: "master", Name: "first"}); err != nil {
		t.Fatal(err)
	}
	if c, err = Greet(ctx, here, at, pool.Introduction{}); err != nil || c.Trusts != "master" {
		t.Errorf("approved, and it says %q, %v", c.Trusts, err)
	}
	if len(here.List()) != 0 {
		t.Error("a first contact has approved something")
	}
	for range 10 * greetBurst {
		if _, err = Greet(ctx, here, at, pool.Introduction{}); err != nil {
			break
		}
	}
	var e *ContactError
	if !errors.As(err, &e) || e.Stage != "not_now" {
		t.Errorf("asking again and again ends with %v", err)
	}
}

func TestFirstContactSaysHowFarItCame(t *testing.T) {
	here := identity(t)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { web.Close() })
	go func() {
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			c.Close()
		}
	}()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := netip.MustParseAddrPort(closed.Addr().String())
	closed.Close()
	for _, tt := range []struct {
		name string
		at   netip.AddrPort
		want string
	}{
		{"nothing listens", gone, "refused"},
		{"something accepts and says nothing", netip.MustParseAddrPort(silent.Addr().String()), "not_a_member"},
		{"a web server", netip.MustParseAddrPort(web.Addr().String()), "not_a_member"},
		{"a member that does not know the question", greeted(t, identity(t), nil), "other_release"},
		{"a broadcast address", netip.MustParseAddrPort("255.255.255.255:8099"), "no_route"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := Greet(ctx, here, tt.at, pool.Introduction{})
			var e *ContactError
			if !errors.As(err, &e) {
				t.Fatal(err)
			}
			if e.Stage != tt.want {
				t.Errorf("stage %q, want %q: %v", e.Stage, tt.want, err)
			}
		})
	}
}
