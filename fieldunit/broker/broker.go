// Package broker is the MQTT listener of the Primary: it admits field units, takes what they
// publish, has it recorded, and acknowledges only what is recorded. MQTT 3.1.1 and 5.
//
// It passes no message from one unit to another, keeps no session beyond its connection, sends
// no will, retains nothing. It does not know what Primary is: the Manager opens a Broker when it
// becomes Primary and closes it when that ends; in between the ports are closed.
//
// The protocol engine is mochi-mqtt, used behind this package's own accept loop and hook: never
// its listeners, its event loop or its fan-out. Nothing outside this package knows that library.
package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"redundancypool/fieldunit"
)

// ErrRefused marks an error of a Recorder as final: the content will never be accepted, so the
// unit must not send it again.
var ErrRefused = errors.New("content refused")

// ErrDenied marks an error of a Doorkeeper as final: unknown unit or wrong secret. Every other
// error of a Doorkeeper tells the unit to try again later.
var ErrDenied = errors.New("access denied")

// Recorder keeps what a field unit sent. A nil error means stored: the unit is then told so.
// An error means not known to be stored: the unit is never acknowledged, its connection is
// closed and it sends again; but an error that wraps ErrRefused ends the message.
//
// Record is called concurrently, for one unit too, so records of one unit may arrive in another
// order than sent (their Seq tells); the order of acknowledgements is kept here. It must return soon after ctx ends, which it does when the Broker closes.
type Recorder interface {
	Record(ctx context.Context, t []fieldunit.Telemetry) error
}

// Submitter is a Recorder that can take records without waiting: it is preferred when the
// Recorder has it, because the records of one unit then arrive in the order sent.
//
// Submit must not block for long; it must call done exactly once, from any goroutine, with what
// Record would return, and soon after ctx ends. done does not block.
type Submitter interface {
	Recorder
	Submit(ctx context.Context, t []fieldunit.Telemetry, done func(error))
}

// Doorkeeper decides who may come in. It compares the secret in constant time.
type Doorkeeper interface {
	Admit(ctx context.Context, unit, secret string) error
}

// Endpoint is where units connect: an address to listen at, or a listener that exists already
// and is then owned by the Broker.
type Endpoint struct {
	Address  string // host:port; used when Listener is nil
	Listener net.Listener
	Plain    bool // without TLS
}

// Config is what a Broker needs. Zero limits take the defaults named beside them.
type Config struct {
	Endpoints  []Endpoint
	TLS        *tls.Config // for the endpoints that are not Plain
	Recorder   Recorder
	Doorkeeper Doorkeeper

	// Refused is told what was not accepted and why: at most a few times a minute per unit, with
	// the number left out. unit is empty when it is not known. May be nil.
	Refused func(unit, topic, reason string)
	// Connected and Disconnected are told of each session, in order for one unit. May be nil.
	Connected    func(Session)
	Disconnected func(s Session, reason string)

	MaxConnections int           // 10,000; further ones are closed at once
	MaxInFlight    int           // 16,384 messages being recorded, over all units
	Window         int           // 64 messages being recorded per unit, 1 to 1024; told to v5 clients
	MaxKeepAlive   time.Duration // 1 minute, at most 10 hours; what v5 clients are told to use at most
	ConnectTimeout time.Duration // 10 s from accept to CONNECT, TLS included
	Log            *slog.Logger  // nil: none
}

// Session is one connected unit.
type Session struct {
	Unit     string
	Remote   string // address of the unit
	Local    string // address it connected to: the virtual IP, or else the unit's profile is wrong
	Version  int    // 4: MQTT 3.1.1, 5: MQTT 5
	Since    time.Time
	Messages uint64    // acknowledged, and received with QoS 0 and stored
	Last     time.Time // of the last such message; zero: none
}

// Broker is one opening of the ports. All its methods are safe for concurrent use.
type Broker struct {
	cfg    Config
	srv    *mqtt.Server
	ctx    context.Context // ends when the Broker closes
	cancel context.CancelFunc

	submit Submitter // nil: the Recorder is none

	gate  gate          // counts the messages between receipt and acknowledgement
	slots chan struct{} // MaxInFlight
	news  *reporter

	mu       sync.Mutex
	closed   bool
	ports    []net.Listener
	links    map[*link]struct{} // every connection
	sessions map[string]*link   // those admitted, by unit

	accepts sync.WaitGroup // accept loops
	conns   sync.WaitGroup // serving goroutines, one per link
	records sync.WaitGroup // calls of the Recorder
	closing sync.Once
}

func (c *Config) normalise() error {
	if c.Recorder == nil || c.Doorkeeper == nil {
		return errors.New("broker: Recorder and Doorkeeper are needed")
	}
	if len(c.Endpoints) == 0 {
		return errors.New("broker: no endpoint: name at least one address to listen at")
	}
	for _, e := range c.Endpoints {
		if !e.Plain && c.TLS == nil {
			return fmt.Errorf("broker: endpoint %q needs a TLS configuration, or Plain", e.Address)
		}
	}
	c.MaxConnections = positive(c.MaxConnections, 10_000)
	c.MaxInFlight = positive(c.MaxInFlight, 16_384)
	c.Window = min(positive(c.Window, 64), 1024)
	if c.MaxKeepAlive < time.Second || c.MaxKeepAlive > 10*time.Hour {
		c.MaxKeepAlive = time.Minute
	}
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// Open listens at all endpoints, or at none when one fails. ctx ends the whole Broker as Close
// does; Close must still be called to wait for its end.
func Open(ctx context.Context, cfg Config) (*Broker, error) {
	if err := cfg.normalise(); err != nil {
		return nil, err
	}
	b := &Broker{
		cfg:      cfg,
		slots:    make(chan struct{}, cfg.MaxInFlight),
		news:     newReporter(cfg.Refused),
		links:    make(map[*link]struct{}),
		sessions: make(map[string]*link),
	}
	b.submit, _ = cfg.Recorder.(Submitter)
	b.srv = newEngine(b)
	plain := make([]bool, 0, len(cfg.Endpoints))
	for _, e := range cfg.Endpoints {
		l := e.Listener
		if l == nil {
			var err error
			if l, err = net.Listen("tcp", e.Address); err != nil {
				for _, p := range b.ports {
					_ = p.Close()
				}
				return nil, fmt.Errorf("broker: listen for field units: %w: free the port, or set another", err)
			}
		}
		b.ports = append(b.ports, l)
		plain = append(plain, e.Plain)
	}
	b.ctx, b.cancel = context.WithCancel(ctx)
	for i, l := range b.ports {
		b.accepts.Go(func() { b.accept(l, plain[i]) })
	}
	context.AfterFunc(b.ctx, b.shut)
	return b, nil
}

// Addrs returns the addresses listened at, in the order of the endpoints.
func (b *Broker) Addrs() []net.Addr {
	all := make([]net.Addr, len(b.ports))
	for i, l := range b.ports {
		all[i] = l.Addr()
	}
	return all
}

func (b *Broker) accept(l net.Listener, plain bool) {
	for {
		raw, err := l.Accept()
		if err != nil {
			if b.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			b.cfg.Log.Warn("accept of field units failed, trying again", "error", err)
			select { // out of descriptors, or a connection that ended in between: neither lasts
			case <-b.ctx.Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		k := newLink(b, raw, plain)
		if !b.add(k) {
			_ = raw.Close()
			continue
		}
		go b.serve(k)
	}
}

// add counts the link in, unless the Broker is closed or full.
func (b *Broker) add(k *link) bool {
	b.mu.Lock()
	full := len(b.links) >= b.cfg.MaxConnections
	ok := !b.closed && !full
	if ok {
		b.links[k] = struct{}{}
		b.conns.Add(1)
	}
	b.mu.Unlock()
	if full {
		b.news.report("", "", "", fmt.Sprintf("connection from %v closed: all %d connections are in use", k.RemoteAddr(), b.cfg.MaxConnections))
	}
	return ok
}

// serve runs one connection to its end.
func (b *Broker) serve(k *link) {
	defer b.conns.Done()
	defer close(k.ended)
	defer b.remove(k)
	defer func() {
		// The engine panics on some malformed packets, a cut SUBSCRIBE among them. One unit's
		// nonsense must not end the process.
		if p := recover(); p != nil {
			b.cfg.Log.Warn("malformed packet ended a connection", "unit", k.unit, "remote", k.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
			k.noteEnd("malformed packet")
			b.news.report(k.unit, k.unit, "", "malformed MQTT packet: the connection was closed")
			_ = k.Close()
		}
	}()
	_ = k.Conn.SetDeadline(time.Now().Add(b.cfg.ConnectTimeout)) // the engine has no limit before CONNECT
	err := b.srv.EstablishConnection("fieldunit", k)
	if err != nil {
		k.noteEnd(err.Error())
	}
	b.cfg.Log.Debug("field unit connection ended", "unit", k.unit, "remote", k.RemoteAddr().String(), "error", err)
}

// remove forgets the link; what the engine still holds for it too.
func (b *Broker) remove(k *link) {
	_ = k.Close()
	b.mu.Lock()
	delete(b.links, k)
	admitted := k.unit != ""
	if admitted && b.sessions[k.unit] == k {
		delete(b.sessions, k.unit)
	}
	b.mu.Unlock()
	if !admitted {
		return
	}
	if cl, ok := b.srv.Clients.Get(k.unit); ok && cl == k.client {
		b.srv.UnsubscribeClient(cl)
		b.srv.Clients.Delete(k.unit)
	}
	if k.announced && b.cfg.Disconnected != nil {
		b.cfg.Disconnected(k.session(), k.endReason())
	}
}

// Sessions returns the admitted units, sorted by name.
func (b *Broker) Sessions() []Session {
	b.mu.Lock()
	all := make([]Session, 0, len(b.sessions))
	for _, k := range b.sessions {
		all = append(all, k.session())
	}
	b.mu.Unlock()
	slices.SortFunc(all, func(a, b Session) int { return strings.Compare(a.Unit, b.Unit) })
	return all
}

// Disconnect ends the unit's session, if it has one: its access was withdrawn or changed.
func (b *Broker) Disconnect(unit, reason string) {
	b.mu.Lock()
	k := b.sessions[unit]
	b.mu.Unlock()
	if k != nil {
		k.cut(packets.ErrAdministrativeAction, reason)
	}
}

// Drain ends the Broker for a planned hand-over: it closes the ports, takes no further message
// from those connected, waits until what it took is recorded and acknowledged, then closes. What
// units sent meanwhile is unacknowledged, so they send it again.
//
// When ctx ends first, the rest is cut as by Close, and the error says how much was open.
func (b *Broker) Drain(ctx context.Context) error {
	b.closePorts()
	open := b.gate.shut(ctx)
	err := b.Close()
	if open > 0 {
		return errors.Join(fmt.Errorf("broker: drain: %d messages were not recorded in time; their units will send them again", open), err)
	}
	return err
}

// Close ends everything at once: ports closed, every session cut (v5 clients are told 0x8B),
// calls of the Recorder cancelled. It returns when no goroutine of the Broker is left; only for a Recorder
// that does not heed its context does it give up after 2 s with an error. Calling it again waits too.
func (b *Broker) Close() error {
	b.cancel()
	b.shut()
	done := make(chan struct{})
	go func() {
		b.accepts.Wait()
		b.conns.Wait()
		b.records.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-time.After(2 * time.Second):
		return errors.New("broker: close: the recorder did not return within 2 s of its cancellation")
	}
}

func (b *Broker) closePorts() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	for _, p := range b.ports {
		_ = p.Close()
	}
}

// shut closes the ports and cuts every session, in parallel because each may take as long as
// cutTime when its unit does not read.
func (b *Broker) shut() {
	b.closing.Do(func() {
		b.closePorts()
		b.gate.close()
		b.mu.Lock()
		all := make(chan *link, len(b.links))
		for k := range b.links {
			all <- k
		}
		b.mu.Unlock()
		close(all)
		var wg sync.WaitGroup
		for range min(64, len(all)) {
			wg.Go(func() {
				for k := range all {
					k.cut(packets.ErrServerShuttingDown, closingReason)
				}
			})
		}
		wg.Wait()
	})
}
