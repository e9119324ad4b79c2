// Package web is what a Manager shows over HTTP: the pages by which people set it up and operate
// it, the JSON API, live updates, metrics, and the answers that load balancers ask for. It serves
// HTTPS on all addresses and plain HTTP on loopback alone.
//
// It knows nothing of pools and databases and decides nothing: it asks the interfaces in Config,
// which the composer fulfils, and shows what they answer beside the fields of its forms.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// Source tells what this node knows of itself and its pool.
type Source interface {
	// Redundancy returns the present picture at once: it waits for no disk and no network.
	Redundancy() Redundancy
	// Changed returns a channel that is closed at the next change of Redundancy.
	Changed() <-chan struct{}
}

// Users are the people who may log in. Both methods read this node's own copy, so that they work
// on both Managers and without a quorum.
type Users interface {
	// Verify returns nil when password is that of the user name, ErrLogin when not.
	Verify(ctx context.Context, name, password string) error
	// Generation returns a number that changes when all sessions of the user are to end; ErrLogin
	// when there is no such user.
	Generation(ctx context.Context, name string) (uint64, error)
}

// ErrLogin is returned by Users for a wrong name or password. It does not tell which.
var ErrLogin = errors.New("name or password is wrong")

// Config is what Open needs.
type Config struct {
	// HTTP and HTTPS are where to listen, "address:port" or ":port"; empty: not at all. HTTP has no
	// encryption and must be on loopback.
	HTTP, HTTPS string
	// Certificate chooses what a TLS client is shown, by the local address it connected to and the
	// server name it asked for (may be empty).
	Certificate func(local netip.Addr, name string) (*tls.Certificate, error)
	Source      Source
	Users       Users
	// SessionKey returns the secret of at least 32 bytes that signs sessions; it is the same on both
	// Managers, so that a session survives a takeover. It is asked each time, because joining a pool
	// changes it. With an empty key nobody can log in.
	SessionKey func() []byte
	// FormerKey returns the secret that signed sessions on this node before it joined a pool; they
	// stay valid here, so that forming a pool logs nobody out. Nil or empty: there is none.
	FormerKey func() []byte
	// Operations is what the pages can do.
	Operations Operations
	// Metrics gets this package's collectors and is served on /metrics; nil: one of its own.
	Metrics *prometheus.Registry
	// MaxStreams bounds the pages with live updates; zero: 200.
	MaxStreams int
	// Version is shown on the page and in the API document.
	Version string
	Log     *slog.Logger
}

// The limits of every connection: a stalled client holds nothing for longer.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 60 * time.Second
	maxHeader     = 16 << 10
	maxBody       = "64K"
	closeWait     = 2 * time.Second
)

// Server serves until Close.
type Server struct {
	cfg     Config
	echo    *echo.Echo
	servers []*http.Server
	addrs   map[string]net.Addr
	ends    context.Context // the base of every request's
	cancel  context.CancelFunc
	running sync.WaitGroup
	streams chan struct{}
	clock   func() time.Time
	basic   tries
	hold    hold
	pending running
	moves   moves

	mu    sync.Mutex
	conns map[net.Conn]netip.Addr // by local address
}

// Open listens and starts to serve; Close ends it.
//
// Errors name the address and the fix: a port in use, an address that is not this node's, plain
// HTTP beyond loopback.
func Open(cfg Config) (*Server, error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.HTTP != "" {
		if err := s.listen("http", cfg.HTTP, false); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	if cfg.HTTPS != "" {
		if err := s.listen("https", cfg.HTTPS, true); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	return s, nil
}

func newServer(cfg Config) (*Server, error) {
	if cfg.Source == nil || cfg.Users == nil || cfg.SessionKey == nil || cfg.Operations == nil || cfg.Log == nil {
		return nil, errors.New("web: Config needs Source, Users, SessionKey, Operations and Log")
	}
	if cfg.Metrics == nil {
		cfg.Metrics = prometheus.NewRegistry()
	}
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = 200
	}
	s := &Server{
		cfg: cfg, addrs: map[string]net.Addr{}, conns: map[net.Conn]netip.Addr{},
		streams: make(chan struct{}, cfg.MaxStreams), clock: time.Now,
	}
	s.ends, s.cancel = context.WithCancel(context.Background())
	if err := cfg.Metrics.Register(collector{cfg.Source}); err != nil {
		return nil, fmt.Errorf("web: register metrics: %w", err)
	}
	s.echo = s.routes()
	return s, nil
}

func (s *Server) listen(scheme, addr string, encrypted bool) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("web: listen for %s on %s: %w: free the port or choose another address", scheme, addr, err)
	}
	if !encrypted && !localAddr(ln.Addr()).IsLoopback() {
		ln.Close()
		return fmt.Errorf("web: plain HTTP on %s would be readable in the LAN: use 127.0.0.1 with a port; other addresses are served with HTTPS", addr)
	}
	srv := &http.Server{
		Handler:           s.echo,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
		ConnState:         s.track,
		BaseContext:       func(net.Listener) context.Context { return s.ends },
	}
	if encrypted {
		srv.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.certificate}
	}
	s.servers = append(s.servers, srv)
	s.addrs[scheme] = ln.Addr()
	s.running.Go(func() {
		serve := srv.Serve
		if encrypted {
			serve = func(ln net.Listener) error { return srv.ServeTLS(ln, "", "") }
		}
		if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Log.Error("web server ended", "scheme", scheme, "address", addr, "error", err)
		}
	})
	return nil
}

// HTTPAddr and HTTPSAddr return where the server listens; nil: not at all.
func (s *Server) HTTPAddr() net.Addr { return s.addrs["http"] }

// HTTPSAddr returns where HTTPS is served; nil: not at all.
func (s *Server) HTTPSAddr() net.Addr { return s.addrs["https"] }

// Browsers is how many pages with live updates this node serves now.
func (s *Server) Browsers() int { return len(s.streams) }

// CloseConnections ends all connections to one local address at once: before the virtual IP
// leaves this node, so that its clients learn it.
func (s *Server) CloseConnections(local netip.Addr) {
	s.mu.Lock()
	var found []net.Conn
	for c, a := range s.conns {
		if a == local {
			found = append(found, c)
		}
	}
	s.mu.Unlock()
	for _, c := range found {
		// Under TLS, Close would first wait to send an alert; the clients shall learn it now.
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		if err := c.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.cfg.Log.Debug("close web connection", "local", local, "error", err)
		}
	}
}

// Close ends the live updates and cancels the contexts of all requests, waits for them for up to
// two seconds, and closes every connection.
func (s *Server) Close() error {
	ctx, stop := context.WithTimeout(context.Background(), closeWait)
	defer stop()
	s.cancel()
	var all error
	for _, srv := range s.servers {
		if err := srv.Shutdown(ctx); err != nil {
			all = errors.Join(all, srv.Close())
		}
	}
	s.running.Wait()
	s.cfg.Metrics.Unregister(collector{s.cfg.Source})
	return all
}

func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if s.cfg.Certificate == nil {
		return nil, errors.New("web: no certificate")
	}
	return s.cfg.Certificate(localAddr(hello.Conn.LocalAddr()), hello.ServerName)
}

func (s *Server) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.conns[c] = localAddr(c.LocalAddr())
	case http.StateClosed, http.StateHijacked:
		delete(s.conns, c)
	}
}

func localAddr(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
