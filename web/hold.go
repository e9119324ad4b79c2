package web

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// hold keeps a planned change of Primary from failing a write: what is under way is finished and
// answered before the virtual IP leaves, and what comes meanwhile is not begun. A program's request
// waits: it is done here when this node stays Primary, else its connection ends without an answer,
// upon which it is safe to send it again, with its Idempotency-Key. A person's form is answered at
// once, with nothing changed.
type hold struct {
	mu      sync.Mutex
	running int
	closed  chan struct{} // closed when requests may go on; nil: none is held
	empty   chan struct{} // closed when nothing is under way; nil: nobody waits for it
}

// holdLimit is how long a request waits at most for a hand over to end.
const holdLimit = 8 * time.Second

// enter lets a write begin, after waiting if writes are held; the caller must call leave. With
// once it does not wait but reports false.
func (h *hold) enter(ctx context.Context, wait bool) (bool, error) {
	limit := time.NewTimer(holdLimit)
	defer limit.Stop()
	for {
		h.mu.Lock()
		held := h.closed
		if held == nil {
			h.running++
			h.mu.Unlock()
			return true, nil
		}
		h.mu.Unlock()
		if !wait {
			return false, nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-limit.C:
			return false, errHeld
		}
	}
}

var errHeld = errors.New("Primary is being handed over")

// again takes a leave back.
func (h *hold) again() {
	h.mu.Lock()
	h.running++
	h.mu.Unlock()
}

func (h *hold) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running--
	if h.running == 0 && h.empty != nil {
		close(h.empty)
		h.empty = nil
	}
}

// shut holds what comes and waits until nothing is under way or ctx ends; it returns how much is.
func (h *hold) shut(ctx context.Context) int {
	h.mu.Lock()
	if h.closed == nil {
		h.closed = make(chan struct{})
	}
	if h.running == 0 {
		h.mu.Unlock()
		return 0
	}
	if h.empty == nil {
		h.empty = make(chan struct{})
	}
	empty := h.empty
	h.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.running
}

func (h *hold) open() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed != nil {
		close(h.closed)
		h.closed = nil
	}
}

// moving begin the paths that are not waited for: what may itself move Primary, and what takes long
// and writes nothing that is replicated.
var moving = []string{
	"/api/v1/redundancy/", "/actions/", "/drill", "/members", "/trust", "/settings", "/waiting", "/fallback", "/login", "/logout", "/setup",
	"/database", "/api/v1/database", "/api/v1/certificate", "/notifications/test", "/api/v1/notifications/test",
}

// held makes writes wait while Primary is handed over.
func (s *Server) held(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			return next(c)
		}
		for _, prefix := range moving {
			if strings.HasPrefix(c.Path(), prefix) {
				return next(c)
			}
		}
		ok, err := s.hold.enter(r.Context(), !wantsPage(c))
		switch {
		case errors.Is(err, errHeld):
			c.Response().Header().Set("Retry-After", "1")
			return echo.NewHTTPError(http.StatusServiceUnavailable, "Primary is being handed over: nothing was done, send it again")
		case err != nil:
			return nil // the connection has ended: the virtual IP has left
		case !ok:
			c.Response().Header().Set("Connection", "close")
			back := "/"
			if from := r.Referer(); strings.HasPrefix(from, "https://"+r.Host+"/") {
				back = strings.TrimPrefix(from, "https://"+r.Host)
			}
			return done(c, back, "Primary is just being handed over: nothing was changed. Repeat it in a moment.")
		}
		c.Set(enteredKey, true)
		defer s.hold.leave()
		return next(c)
	}
}

// enteredKey marks a request that the hold counts as under way.
const enteredKey = "entered"

// farewell is how long clients get to take the last answers before their connection is closed.
const farewell = 2 * time.Millisecond

// Drain prepares the virtual IP's leaving: no write begins any more, and those under way are
// finished and answered, unless ctx ends first. It returns how many were not. Resume must follow.
func (s *Server) Drain(ctx context.Context, local netip.Addr) int {
	left := s.hold.shut(ctx)
	if s.halfClose(local) {
		time.Sleep(farewell)
	}
	return left
}

// Resume lets writes go on: to be done here, or to be told who is Primary now.
func (s *Server) Resume() { s.hold.open() }

// halfClose says good-bye on all connections to a local address and reports whether there was one.
func (s *Server) halfClose(local netip.Addr) bool {
	s.mu.Lock()
	var found []net.Conn
	for c, a := range s.conns {
		if a == local {
			found = append(found, c)
		}
	}
	s.mu.Unlock()
	for _, c := range found {
		if t, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = t.NetConn()
		}
		if t, ok := c.(interface{ CloseWrite() error }); ok {
			_ = t.CloseWrite() // it may be gone already
		}
	}
	return len(found) > 0
}

// atVIP reports whether a request is a write that came to the virtual IP. While this Manager is not
// Primary the address is about to leave, or the right to it has just ended: such a write is not
// answered with a refusal, which its client would take for the Primary's.
func (s *Server) atVIP(c echo.Context) bool {
	r := c.Request()
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	vip := s.cfg.Source.Redundancy().VIP.Address
	return ok && vip != nil && localAddr(a).String() == hostOf(*vip)
}

// outlive waits until this Manager is Primary (true) or the connection has ended. One that stays
// for too long is answered with 503.
func (s *Server) outlive(c echo.Context) bool {
	if c.Get(enteredKey) != nil { // nothing of it is begun, so a hand over need not wait for it
		s.hold.leave()
		defer s.hold.again()
	}
	limit := time.NewTimer(leavingLimit)
	defer limit.Stop()
	for {
		changed := s.cfg.Source.Changed()
		if modeOf(s.cfg.Source.Redundancy()) == modeFull {
			return true
		}
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-c.Request().Context().Done():
			return false
		case <-limit.C:
			s.retryLater(c, "this Manager is not Primary any more: nothing was done, send it again")
			return false
		}
	}
}

// leavingLimit is longer than an address outlives the right to it.
const leavingLimit = 4 * time.Second

// retryLater answers 503.
func (s *Server) retryLater(c echo.Context, text string) {
	c.Response().Header().Set("Retry-After", "1")
	s.fail(echo.NewHTTPError(http.StatusServiceUnavailable, text), c)
}
