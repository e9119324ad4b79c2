package arbiter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/trust"
)

// Contact is what a first contact brought. Only Fingerprint is proven.
type Contact struct {
	pool.Introduction
	Address     netip.AddrPort
	Fingerprint trust.Fingerprint
	// After is how long it took from the first packet to the answer.
	After time.Duration
	// Ahead is how far the other's wall clock is ahead of this one's, exact to half of the
	// question's own round trip.
	Ahead time.Duration
}

// ContactError is why there was no answer; Stage is how far it came, a code for programs.
type ContactError struct {
	Address netip.AddrPort
	Stage   string // refused, timed_out, no_route, network, not_a_member, other_release, not_now
	After   time.Duration
	Err     error
}

var stageTexts = map[string]string{
	"refused":       "connection refused: the machine answers, but nothing listens on this port",
	"timed_out":     "timed out: no answer at all",
	"no_route":      "no route to this address",
	"network":       "the connection failed",
	"not_a_member":  "something answers, but it is no Manager and no Arbiter",
	"other_release": "a member of another release answers",
	"not_now":       "it answers, but not now",
}

func (e *ContactError) Error() string {
	return fmt.Sprintf("%v after %v: %s (%v)", e.Address, e.After, stageTexts[e.Stage], e.Err)
}

func (e *ContactError) Unwrap() error { return e.Err }

// Greet contacts the node at addr, whoever it is, introduces self and returns what it says of
// itself. Nothing is approved by it. ctx bounds all of it. Error: *ContactError.
func Greet(ctx context.Context, s *trust.Store, addr netip.AddrPort, self pool.Introduction) (Contact, error) {
	out := Contact{Address: addr}
	began := time.Now()
	var asked time.Time
	greeted := false
	d := transport.Dialer{TLS: func(string) *tls.Config { return s.ProbeTLS() }}
	err := d.Call(ctx, addr.String(), "", transport.Hello{Method: pool.MethodGreet}, func(cs tls.ConnectionState) (any, error) {
		fp, err := trust.Peer(cs)
		out.Fingerprint, greeted, asked = fp, true, time.Now()
		self.ClockMS = asked.UnixMilli()
		if p, ok := s.Lookup(fp); ok {
			self.Trusts = p.Role
		}
		return self, err
	}, &out.Introduction)
	now := time.Now()
	out.After = now.Sub(began).Round(10 * time.Microsecond)
	if err != nil {
		return Contact{}, &ContactError{Address: addr, Stage: stageOf(ctx, err, greeted), After: out.After, Err: err}
	}
	middle := asked.Add(now.Sub(asked) / 2)
	out.Ahead = time.UnixMilli(out.ClockMS).Sub(middle).Round(time.Millisecond)
	return out, nil
}

// stageOf sorts what went wrong by what an operator would do about it.
func stageOf(ctx context.Context, err error, greeted bool) string {
	var no *transport.Refusal
	var op *net.OpError
	switch {
	case errors.As(err, &no) && (no.Code == "version" || no.Code == "unknown_pool"):
		return "other_release"
	case errors.As(err, &no), greeted:
		return "not_now"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no_route"
	case errors.As(err, &op) && op.Op == "dial":
		if op.Timeout() || ctx.Err() != nil {
			return "timed_out"
		}
		return "network"
	}
	return "not_a_member" // connected, and then no handshake of ours
}

// Greeter answers first contacts. It is safe for concurrent use.
type Greeter struct {
	// Self is asked for each answer, and told who asks: whether that key is approved here, and
	// belongs to a fellow member, it must find out itself.
	Self func(fingerprint string) pool.Introduction
	// Met, unless nil, hears of everybody who asks, before the answer; its error refuses one. It must
	// not block.
	Met func(c Contact) error

	mu    sync.Mutex
	pace  map[netip.Addr]*rate.Limiter
	whole *rate.Limiter
}

// How often first contacts are answered: the TLS handshake before one costs more than the answer.
const (
	greetsPerSecond = 2 // from one address, after a burst
	greetBurst      = 20
	mostGreeters    = 256 // addresses remembered
)

// Answer is the handler of pool.MethodGreet.
func (g *Greeter) Answer(_ context.Context, c *transport.Conn, body []byte) (any, error) {
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil || !g.admits(from.Addr().Unmap()) {
		return nil, transport.Refuse("too_often", "asked too often: wait a moment")
	}
	var q pool.Introduction
	if err := json.Unmarshal(body, &q); err != nil || len(body) > 4096 {
		return nil, transport.Refuse("malformed", "the introduction cannot be read")
	}
	if g.Met != nil {
		fp, err := trust.ParseFingerprint(c.Fingerprint)
		if err != nil {
			return nil, err
		}
		now := time.Now()
		if err := g.Met(Contact{Introduction: q, Address: from, Fingerprint: fp, Ahead: time.UnixMilli(q.ClockMS).Sub(now).Round(time.Millisecond)}); err != nil {
			return nil, err
		}
	}
	a := g.Self(c.Fingerprint)
	a.ClockMS = time.Now().UnixMilli()
	return a, nil
}

func (g *Greeter) admits(from netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.whole == nil {
		g.whole = rate.NewLimiter(10*greetsPerSecond, 10*greetBurst)
	}
	l := g.pace[from]
	if l == nil {
		if g.pace == nil || len(g.pace) >= mostGreeters {
			g.pace = map[netip.Addr]*rate.Limiter{} // whoever fills it is held by whole
		}
		l = rate.NewLimiter(greetsPerSecond, greetBurst)
		g.pace[from] = l
	}
	return l.Allow() && g.whole.Allow()
}

// introduction is what this Arbiter says of itself.
func (a *Arbiter) introduction(fingerprint string) pool.Introduction {
	in := pool.Introduction{Role: pool.Arbiter.String(), Name: a.name(), Version: a.cfg.Version, Standing: pool.Free}
	in.Trusts = TrustedAs(a.trust, fingerprint)
	if a.stray.Load() != nil {
		in.Standing = pool.Stray
	}
	if p := a.seen.Load(); p != nil {
		rec := p.Record()
		in.Standing = pool.Joining
		if rec.Phase == pool.PhaseEffective {
			in.Standing = pool.Bound
		}
		in.Fellow = IsFellow(rec, fingerprint)
	}
	return in
}

// TrustedAs returns the role in which a key is approved; empty: it is not.
func TrustedAs(s *trust.Store, fingerprint string) string {
	fp, err := trust.ParseFingerprint(fingerprint)
	if err != nil {
		return ""
	}
	p, _ := s.Lookup(fp)
	return p.Role
}

// IsFellow reports whether a key belongs to another member of the pool.
func IsFellow(rec pool.Record, fingerprint string) bool {
	for _, m := range rec.Members {
		if m.ID != rec.Self && m.Fingerprint == fingerprint {
			return true
		}
	}
	return false
}
