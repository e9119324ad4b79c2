package broker

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// cutTime is how long ending a session may wait for a unit that does not read. All sessions
// are cut in parallel, so it bounds the whole.
const cutTime = 100 * time.Millisecond

// link is one connection and, once admitted, one session. The engine reads and writes through
// it, so that closing and deadlines pass through our hands.
type link struct {
	net.Conn // TLS or plain, on top of a capped
	b        *Broker
	floor    *capped
	window   chan struct{} // one place per message being recorded
	gone     chan struct{} // closed as soon as the connection is
	ended    chan struct{} // closed when the serving goroutine has let go of everything
	goneOnce sync.Once

	// Set in OnConnect under b.mu, constant afterwards.
	client    *mqtt.Client
	unit      string
	since     time.Time
	announced bool

	messages atomic.Uint64
	last     atomic.Int64 // Unix nanoseconds
	reason   atomic.Pointer[string]

	mu       sync.Mutex
	queue    []*pending // what is to be acknowledged, in order of receipt (MQTT 5, 4.6)
	flushing bool       // one goroutine writes acknowledgements
	dead     bool       // nothing may be acknowledged any more
}

// pending is one message between receipt and acknowledgement.
type pending struct {
	id   uint16
	qos  byte
	done bool
	lost bool // not known to be stored: it and all after it stay unacknowledged
	code byte // MQTT 5 reason code; 0: stored
}

func newLink(b *Broker, raw net.Conn, plain bool) *link {
	floor := &capped{Conn: raw}
	k := &link{
		b: b, floor: floor, Conn: floor,
		window: make(chan struct{}, b.cfg.Window),
		gone:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	if !plain {
		k.Conn = tls.Server(floor, b.cfg.TLS)
	}
	return k
}

// Close closes the connection; calling it again does nothing.
func (k *link) Close() error {
	var err error
	k.goneOnce.Do(func() {
		close(k.gone)
		k.floor.cap(time.Now().Add(cutTime)) // TLS says good-bye with a limit of its own, 5 s
		err = k.Conn.Close()
	})
	return err
}

// cut ends the connection from our side; a v5 client is told the code.
func (k *link) cut(code packets.Code, reason string) {
	k.noteEnd(reason)
	k.floor.cap(time.Now().Add(cutTime))
	k.b.mu.Lock()
	cl := k.client
	k.b.mu.Unlock()
	if cl == nil {
		_ = k.Close()
		return
	}
	if cl.Properties.ProtocolVersion == 5 {
		_ = cl.WritePacket(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Disconnect},
			ReasonCode:  code.Code,
			Properties:  packets.Properties{ReasonString: reason},
		})
	}
	cl.Stop(code)
}

// noteEnd keeps the first reason.
func (k *link) noteEnd(reason string) { k.reason.CompareAndSwap(nil, &reason) }

func (k *link) endReason() string {
	if r := k.reason.Load(); r != nil {
		return *r
	}
	return "the unit disconnected"
}

func (k *link) session() Session {
	s := Session{
		Unit: k.unit, Remote: k.RemoteAddr().String(), Local: k.LocalAddr().String(),
		Version: int(k.client.Properties.ProtocolVersion), Since: k.since, Messages: k.messages.Load(),
	}
	if ns := k.last.Load(); ns != 0 {
		s.Last = time.Unix(0, ns)
	}
	return s
}

// note counts a stored message.
func (k *link) note() {
	k.messages.Add(1)
	k.last.Store(time.Now().UnixNano())
}

// expect queues a message for its acknowledgement.
func (k *link) expect(p *pending) {
	if p.qos == 0 {
		return
	}
	k.mu.Lock()
	k.queue = append(k.queue, p)
	k.mu.Unlock()
}

// settle ends a message: it acknowledges it as soon as all before it are, and gives its places
// back. It may write to the unit and so block; finish does not.
func (k *link) settle(p *pending) {
	if k.finish(p) {
		k.flush()
	}
}

// finish marks a message as done and reports whether the caller must see to it that flush runs.
func (k *link) finish(p *pending) bool {
	if p.qos == 0 {
		k.release(1)
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	p.done = true
	if k.flushing {
		return false
	}
	k.flushing = true
	return true
}

// flush acknowledges, in order, whatever is due. Acknowledgements that become due together leave
// in one write.
func (k *link) flush() {
	for {
		acks, n := k.due()
		if n == 0 {
			return
		}
		if len(acks) > 0 {
			k.write(acks)
		}
		k.release(n)
	}
}

// due takes what is done from the head of the queue: the bytes to send and the number of messages.
func (k *link) due() (acks []byte, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for ; n < len(k.queue) && k.queue[n].done; n++ {
		p := k.queue[n]
		k.dead = k.dead || p.lost
		if !k.dead {
			acks = appendAck(acks, p)
			k.hold(p)
		}
		k.queue[n] = nil
	}
	k.queue = k.queue[n:]
	if len(k.queue) == 0 {
		k.queue = nil
	}
	k.flushing = n > 0
	return acks, n
}

// hold keeps the id of a QoS 2 message until its PUBREL, which the engine answers.
func (k *link) hold(p *pending) {
	if p.qos == 2 && p.code == 0 {
		k.client.State.Inflight.Set(packets.Packet{
			FixedHeader: packets.FixedHeader{Type: packets.Pubrec},
			PacketID:    p.id,
			Created:     time.Now().Unix(),
		})
	}
}

// write sends under the engine's own lock, so that packets do not mix.
func (k *link) write(b []byte) {
	k.client.Lock()
	_, err := k.Conn.Write(b)
	k.client.Unlock()
	if err != nil {
		_ = k.Close()
	}
}

func (k *link) release(n int) {
	for range n {
		<-k.window
		<-k.b.slots
	}
	k.b.gate.leave(n)
}

// appendAck appends a PUBACK or PUBREC. Remaining length 2 is MQTT 3.1.1's form and, in MQTT 5,
// means success (3.4.2.1); 3 carries a reason code without properties.
func appendAck(b []byte, p *pending) []byte {
	head := byte(packets.Puback << 4)
	if p.qos == 2 {
		head = byte(packets.Pubrec << 4)
	}
	if p.code == 0 {
		return append(b, head, 2, byte(p.id>>8), byte(p.id))
	}
	return append(b, head, 3, byte(p.id>>8), byte(p.id), p.code)
}

// capped is a connection whose deadlines can be bounded for good: whatever the engine or TLS
// sets afterwards, none is later than the bound.
type capped struct {
	net.Conn
	mu    sync.Mutex
	bound time.Time // zero: none
}

func (c *capped) cap(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bound.IsZero() {
		c.bound = t
		_ = c.Conn.SetDeadline(t)
	}
}

func (c *capped) set(t time.Time, f func(time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.bound.IsZero() && (t.IsZero() || t.After(c.bound)) {
		t = c.bound
	}
	return f(t)
}

func (c *capped) SetDeadline(t time.Time) error      { return c.set(t, c.Conn.SetDeadline) }
func (c *capped) SetReadDeadline(t time.Time) error  { return c.set(t, c.Conn.SetReadDeadline) }
func (c *capped) SetWriteDeadline(t time.Time) error { return c.set(t, c.Conn.SetWriteDeadline) }
