// Package transport carries what the members of a redundancy pool say to one another over one
// TCP port: the handshake that tells pool, incarnation and member, the Raft messages with the
// rules that keep payload away from the Arbiter, and short calls.
//
// It knows nothing of roles beyond "is this peer the Arbiter" and decides nothing about who is
// Primary; manager/pool does, and is its only caller.
package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Version is the version of the handshake. Members of different versions refuse one another.
const Version = 1

// Kind says what a connection to the pool port is for.
type Kind string

// The kinds of connection.
const (
	KindRaft Kind = "raft" // Raft messages; the stream belongs to the Raft library
	KindLink Kind = "link" // heartbeats and questions about a third member
	KindCall Kind = "call" // one question, one answer
)

// Hello is the first frame of a connection, sent by the side that dialled.
type Hello struct {
	Version     int    `json:"version"`
	Kind        Kind   `json:"kind"`
	Pool        string `json:"pool,omitempty"`
	Incarnation string `json:"incarnation,omitempty"`
	From        string `json:"from,omitempty"` // member id of the sender
	To          string `json:"to,omitempty"`   // member id that the sender means to reach
	Path        int    `json:"path,omitempty"` // 0: first heartbeat path, 1: second
	Boot        string `json:"boot,omitempty"` // of the sender's process, new at each start
	Method      string `json:"method,omitempty"`
}

// welcome answers a Hello. An empty Code is consent.
type welcome struct {
	Code string `json:"code,omitempty"`
	Text string `json:"text,omitempty"`
	Data string `json:"data,omitempty"`
}

// Refusal is the peer's "no", with a code for programs and a text for people.
type Refusal struct {
	Code string `json:"code"`
	Text string `json:"text"`
	// Data are details for programs as JSON text, by Code; none: empty.
	Data string `json:"data,omitempty"`
}

func (r *Refusal) Error() string { return r.Text }

// Refuse returns a Refusal as an error.
func Refuse(code, format string, args ...any) error {
	return &Refusal{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Conn is an accepted connection whose handshake is complete.
type Conn struct {
	net.Conn
	Hello       Hello
	Fingerprint string // of the peer's public key, proven by TLS
	tls         *tls.Conn
}

// TLS returns the state of the connection, for proofs bound to it.
func (c *Conn) TLS() tls.ConnectionState { return c.tls.ConnectionState() }

// Handler owns conn from the moment it is called and closes it. Admission has been granted.
type Handler func(conn *Conn)

// Admit decides on a Hello before the Handler is called; an error is sent to the peer as a
// Refusal (code "refused" unless it is one).
type Admit func(h Hello, fingerprint string) error

// PortConfig describes a Port.
type PortConfig struct {
	// TLS asks for a client certificate; whether it is trusted is decided per Kind by Admit.
	TLS *tls.Config
	// Fingerprint extracts the peer's proven identity.
	Fingerprint func(tls.ConnectionState) (string, error)
	// HandshakeTimeout bounds TLS and Hello together; 0 means 5 s.
	HandshakeTimeout time.Duration
	// Refused, if set, hears of each peer that was not admitted, with its proven identity and the
	// reason. It must not block.
	Refused func(from net.Addr, h Hello, fingerprint string, err error)
	Log     *slog.Logger
}

// Port is the listener of one process for all that members say to one another. Which pools it
// serves is decided by what is registered; several may be.
type Port struct {
	cfg PortConfig
	ln  net.Listener

	mu        sync.Mutex
	routes    map[route]endpoint
	farewells map[*func([]byte)]struct{}
	conns     map[net.Conn]struct{}
	more      []net.Listener
	closed    bool
	wg        sync.WaitGroup
}

type route struct {
	kind Kind
	key  string // pool id for raft and link, method for call
}

type endpoint struct {
	admit  Admit
	handle Handler
}

// NewPort serves ln until Close. It owns ln.
func NewPort(ln net.Listener, cfg PortConfig) *Port {
	if cfg.HandshakeTimeout == 0 {
		cfg.HandshakeTimeout = 5 * time.Second
	}
	p := &Port{cfg: cfg, ln: ln, routes: map[route]endpoint{}, farewells: map[*func([]byte)]struct{}{}, conns: map[net.Conn]struct{}{}}
	p.wg.Go(func() { p.accept(ln) })
	return p
}

// Listen serves ln too, until Close: a port that is about to be announced. It owns ln.
func (p *Port) Listen(ln net.Listener) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.Join(net.ErrClosed, ln.Close())
	}
	p.more = append(p.more, ln)
	p.wg.Go(func() { p.accept(ln) })
	return nil
}

// Listens reports whether this Port serves that TCP port.
func (p *Port) Listens(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ln := range append([]net.Listener{p.ln}, p.more...) {
		if a, ok := ln.Addr().(*net.TCPAddr); ok && a.Port == int(port) {
			return true
		}
	}
	return false
}

// Keep stops to listen everywhere but on one TCP port, which it serves already; otherwise it is an
// error and nothing changes. Connections live on.
func (p *Port) Keep(port uint16) error {
	p.mu.Lock()
	var kept, dropped []net.Listener
	for _, ln := range append([]net.Listener{p.ln}, p.more...) {
		if a, ok := ln.Addr().(*net.TCPAddr); ok && a.Port == int(port) {
			kept = append(kept, ln)
		} else {
			dropped = append(dropped, ln)
		}
	}
	if len(kept) == 0 {
		p.mu.Unlock()
		return fmt.Errorf("port %d is not served", port)
	}
	p.ln, p.more = kept[0], kept[1:]
	p.mu.Unlock()
	var errs []error
	for _, ln := range dropped {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// Addr returns the address that the Port listens on.
func (p *Port) Addr() net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ln.Addr()
}

// Handle registers who answers connections of kind for pool. The returned function takes the
// registration back; connections already handed over live on.
func (p *Port) Handle(kind Kind, pool string, admit Admit, h Handler) (remove func()) {
	return p.register(route{kind, pool}, endpoint{admit, h})
}

// HandleCall registers who answers a call of that method, whatever the pool.
func (p *Port) HandleCall(method string, admit Admit, answer func(ctx context.Context, c *Conn, body []byte) (any, error)) (remove func()) {
	return p.register(route{KindCall, method}, endpoint{admit, func(c *Conn) {
		defer c.Close()
		serveCall(c, answer)
	}})
}

// HandleFarewell registers who hears farewells, the short notes that a dead process' guard
// sends in the clear; f gets the bytes behind the prefix and must not keep them.
func (p *Port) HandleFarewell(f func(secret []byte)) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := &f
	p.farewells[k] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.farewells, k)
	}
}

func (p *Port) register(r route, e endpoint) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.routes[r] = e
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.routes, r)
	}
}

// Close stops listening, cuts connections whose handshake is still under way and waits for
// them. Connections handed to a Handler belong to it.
func (p *Port) Close() error {
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.Close()
	}
	more := p.more
	p.mu.Unlock()
	err := p.ln.Close()
	for _, ln := range more {
		err = errors.Join(err, ln.Close())
	}
	p.wg.Wait()
	return err
}

func (p *Port) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors and the like: the listener itself lives on
			p.cfg.Log.Warn("accept on pool port", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if !p.track(c) {
			c.Close()
			return
		}
		p.wg.Go(func() {
			h, tc := p.handshake(c)
			p.untrack(c)
			if h != nil {
				h(tc)
			}
		})
	}
}

func (p *Port) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Port) untrack(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// handshake returns the handler to run, or nil when the connection came to nothing and is closed.
func (p *Port) handshake(raw net.Conn) (Handler, *Conn) {
	_ = raw.SetDeadline(time.Now().Add(p.cfg.HandshakeTimeout))
	first, err := peek(raw)
	if err != nil {
		raw.Close()
		return nil, nil
	}
	if first.head == farewellPrefix[0] {
		p.farewell(first)
		return nil, nil
	}
	tc := tls.Server(first, p.cfg.TLS)
	fail := func(err error) (Handler, *Conn) {
		p.cfg.Log.Debug("connection to pool port refused", "from", raw.RemoteAddr(), "error", err)
		tc.Close()
		return nil, nil
	}
	if err := tc.Handshake(); err != nil {
		return fail(err)
	}
	fp, err := p.cfg.Fingerprint(tc.ConnectionState())
	if err != nil {
		return fail(err)
	}
	var h Hello
	if err := ReadFrame(tc, &h); err != nil {
		return fail(err)
	}
	e, err := p.find(h, fp)
	if err != nil {
		r := &Refusal{Code: "refused", Text: err.Error()}
		errors.As(err, &r)
		_ = WriteFrame(tc, welcome{Code: r.Code, Text: r.Text, Data: r.Data})
		if p.cfg.Refused != nil {
			p.cfg.Refused(raw.RemoteAddr(), h, fp, err)
		}
		return fail(err)
	}
	if err := WriteFrame(tc, welcome{}); err != nil {
		return fail(err)
	}
	_ = raw.SetDeadline(time.Time{})
	return e.handle, &Conn{Conn: tc, Hello: h, Fingerprint: fp, tls: tc}
}

func (p *Port) find(h Hello, fp string) (endpoint, error) {
	if h.Version != Version {
		return endpoint{}, Refuse("version", "member speaks version %d of the pool protocol, this one %d: install the same release on all members", h.Version, Version)
	}
	key := h.Pool
	if h.Kind == KindCall {
		key = h.Method
	}
	p.mu.Lock()
	e, ok := p.routes[route{h.Kind, key}]
	p.mu.Unlock()
	if !ok {
		return endpoint{}, Refuse("unknown_pool", "this node is not a member of that pool, or not yet: %s %q", h.Kind, key)
	}
	if e.admit != nil {
		if err := e.admit(h, fp); err != nil {
			return endpoint{}, err
		}
	}
	return e, nil
}

// farewellPrefix starts a farewell; a TLS connection starts with 0x16 (RFC 8446, 5.1).
var farewellPrefix = []byte("FAREWELL1 ")

// FarewellMessage returns the bytes that a guard sends for secret.
func FarewellMessage(secret []byte) []byte { return append(bytes.Clone(farewellPrefix), secret...) }

func (p *Port) farewell(c *peekedConn) {
	defer c.Close()
	body, err := io.ReadAll(io.LimitReader(c, 256))
	if err != nil && len(body) == 0 {
		return
	}
	secret, ok := bytes.CutPrefix(body, farewellPrefix)
	if !ok {
		return
	}
	p.mu.Lock()
	var hear []func([]byte)
	for f := range p.farewells {
		hear = append(hear, *f)
	}
	p.mu.Unlock()
	for _, f := range hear {
		f(secret)
	}
}

// peekedConn gives back the byte that peek took.
type peekedConn struct {
	net.Conn
	head byte
	done bool
}

func peek(c net.Conn) (*peekedConn, error) {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return nil, err
	}
	return &peekedConn{Conn: c, head: b[0]}, nil
}

func (c *peekedConn) Read(b []byte) (int, error) {
	if c.done || len(b) == 0 {
		return c.Conn.Read(b)
	}
	b[0], c.done = c.head, true
	return 1, nil
}
