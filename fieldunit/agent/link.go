package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"redundancypool/fieldunit"
)

// DeniedError is the Manager's refusal of this unit. Trying again helps only once someone has
// changed something.
type DeniedError struct {
	Code   byte // MQTT 5, 3.2.2.2
	Reason string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("the Manager refuses this unit (%#02x %s): check user name and password, or take a new profile from it", e.Code, e.Reason)
}

// link is one MQTT 5 connection: one goroutine writes, one reads.
type link struct {
	a    *Agent
	conn net.Conn
	w    *bufio.Writer
	max  uint64 // messages in flight

	mu       sync.Mutex
	inFlight map[uint16]*Record
	heard    time.Time     // last packet from the Manager
	room     chan struct{} // a token: an acknowledgement came
}

// handshake logs in. The session starts clean: what is unacknowledged is in the spool.
func (a *Agent) handshake(conn net.Conn) (*link, error) {
	_ = conn.SetDeadline(time.Now().Add(a.t.Connack))
	keepAlive := uint16(max(2, (a.t.Silence+time.Second-1)/time.Second))
	p := a.cfg.Profile
	cp := packets.NewControlPacket(packets.CONNECT)
	c := cp.Content.(*packets.Connect)
	c.ProtocolName, c.ProtocolVersion = "MQTT", 5
	c.ClientID, c.CleanStart, c.KeepAlive = p.Username, true, keepAlive
	c.UsernameFlag, c.Username, c.PasswordFlag, c.Password = true, p.Username, true, []byte(p.Password)
	k := &link{a: a, conn: conn, w: bufio.NewWriterSize(conn, 16<<10), inFlight: make(map[uint16]*Record), room: make(chan struct{}, 1)}
	if _, err := cp.WriteTo(k.w); err != nil {
		return nil, err
	}
	if err := k.w.Flush(); err != nil {
		return nil, err
	}
	in, err := packets.ReadPacket(conn)
	if err != nil {
		return nil, fmt.Errorf("no answer to CONNECT: %w", err)
	}
	ack, ok := in.Content.(*packets.Connack)
	if !ok {
		return nil, fmt.Errorf("the answer to CONNECT is %s, not CONNACK: is this a Manager?", in.PacketType())
	}
	switch {
	case ack.ReasonCode == 0:
	case ack.ReasonCode == packets.ConnackServerUnavailable || ack.ReasonCode == packets.ConnackServerBusy || ack.ReasonCode == packets.ConnackUseAnotherServer:
		return nil, fmt.Errorf("the Manager is not ready: %#02x %s", ack.ReasonCode, reason(ack.Properties))
	default:
		return nil, &DeniedError{Code: ack.ReasonCode, Reason: reason(ack.Properties)}
	}
	k.max = uint64(a.cfg.Window)
	if ack.Properties != nil && ack.Properties.ReceiveMaximum != nil {
		k.max = min(k.max, uint64(*ack.Properties.ReceiveMaximum))
	}
	k.heard = time.Now()
	_ = conn.SetDeadline(time.Time{})
	return k, nil
}

func reason(p *packets.Properties) string {
	if p == nil || p.ReasonString == "" {
		return "without a reason"
	}
	return p.ReasonString
}

// run sends from the spool and takes acknowledgements until the connection or ctx ends. With
// ctx it says good-bye and returns nil.
func (k *link) run(ctx context.Context) error {
	read := make(chan error, 1)
	go func() { read <- k.read() }()
	err := k.write(ctx, read)
	_ = k.conn.Close()
	if err == nil || !errors.Is(err, errReader) {
		<-read
	}
	return err
}

var errReader = errors.New("connection lost")

// write sends records in order, at most max beyond the oldest unacknowledged one, so that a
// packet id (which follows from the position) is never in use twice. In between it asks for signs of
// life: a Manager that froze confirms at TCP level but does not answer.
func (k *link) write(ctx context.Context, read <-chan error) error {
	t := &k.a.t
	tick := time.NewTicker(max(min(t.PingBusy, t.PingIdle)/2, time.Millisecond))
	defer tick.Stop()
	var pos uint64
	lastPing := time.Now()
	for {
		r, oldest, news := k.a.cfg.Spool.at(pos)
		if r != nil && r.pos < oldest+k.max {
			pos = r.pos + 1
			if err := k.publish(r); err != nil {
				return k.because(err, read)
			}
			continue
		}
		if err := k.flush(); err != nil {
			return k.because(err, read)
		}
		if r != nil {
			news = nil // the window is full: only an acknowledgement helps
		}
		select {
		case err := <-read:
			return fmt.Errorf("%w: %w", errReader, err)
		case <-ctx.Done():
			return k.goodbye()
		case <-news:
		case <-k.room:
		case now := <-tick.C:
			k.mu.Lock()
			quiet, due := now.Sub(k.heard), len(k.inFlight) > 0
			k.mu.Unlock()
			every, most := t.PingIdle, t.Silence
			if due {
				every, most = t.PingBusy, t.SilenceBusy
			}
			if quiet > most && now.Sub(lastPing) < quiet-every/2 {
				return fmt.Errorf("no sign of life for %v", quiet.Round(time.Millisecond))
			}
			if quiet >= every && now.Sub(lastPing) >= every {
				lastPing = now
				if _, err := k.w.Write([]byte{packets.PINGREQ << 4, 0}); err != nil {
					return k.because(err, read)
				}
			}
		}
	}
}

// because prefers what the reader saw: a DISCONNECT names the reason, a failed write does not.
func (k *link) because(err error, read <-chan error) error {
	_ = k.conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	return fmt.Errorf("%w: %w", errReader, errors.Join(<-read, err))
}

func (k *link) publish(r *Record) error {
	id := uint16(r.pos%65535) + 1
	k.a.cfg.Spool.sent(r)
	k.mu.Lock()
	k.inFlight[id] = r
	k.mu.Unlock()
	if k.w.Buffered() == 0 {
		_ = k.conn.SetWriteDeadline(time.Now().Add(k.a.t.Silence))
	}
	return writePublish(k.w, k.a.topic, id, r.Payload)
}

// writePublish writes an MQTT 5 PUBLISH with QoS 1 and no properties.
func writePublish(w *bufio.Writer, topic string, id uint16, payload []byte) error {
	n := 2 + len(topic) + 2 + 1 + len(payload)
	head := []byte{packets.PUBLISH<<4 | 1<<1}
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 {
			head = append(head, c)
			break
		}
		head = append(head, c|0x80)
	}
	head = append(head, byte(len(topic)>>8), byte(len(topic)))
	head = append(head, topic...)
	head = append(head, byte(id>>8), byte(id), 0)
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(payload)
	return err
}

func (k *link) flush() error {
	if k.w.Buffered() == 0 {
		return nil
	}
	_ = k.conn.SetWriteDeadline(time.Now().Add(k.a.t.Silence))
	return k.w.Flush()
}

func (k *link) goodbye() error {
	_ = k.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = k.w.Write([]byte{packets.DISCONNECT << 4, 0})
	_ = k.w.Flush()
	return nil
}

func (k *link) read() error {
	r := bufio.NewReaderSize(k.conn, 8<<10)
	for {
		in, err := packets.ReadPacket(r)
		if err != nil {
			return err
		}
		k.mu.Lock()
		k.heard = time.Now()
		k.mu.Unlock()
		switch p := in.Content.(type) {
		case *packets.Puback:
			k.acknowledged(p)
		case *packets.Disconnect:
			return fmt.Errorf("the Manager ended the session: %#02x %s", p.ReasonCode, reason(p.Properties))
		}
	}
}

func (k *link) acknowledged(p *packets.Puback) {
	k.mu.Lock()
	r := k.inFlight[p.PacketID]
	delete(k.inFlight, p.PacketID)
	k.mu.Unlock()
	if r == nil {
		return
	}
	if p.ReasonCode < 0x80 {
		k.a.stored(r)
	} else {
		k.a.rejected(r, p.ReasonCode, reason(p.Properties))
	}
	k.a.cfg.Spool.Done(r)
	select {
	case k.room <- struct{}{}:
	default:
	}
}

func topicOf(p fieldunit.Profile) string { return fieldunit.TelemetryTopic(p.Username) }
