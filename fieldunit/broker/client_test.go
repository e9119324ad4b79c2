package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// library connects a client of eclipse/paho, MQTT 5.
func library(t *testing.T, b *Broker, unit string) (*paho.Client, *paho.Connack) {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ack, err := c.Connect(ctx, &paho.Connect{ClientID: unit, Username: unit, Password: []byte("x" + unit), UsernameFlag: true, PasswordFlag: true, KeepAlive: 6000, CleanStart: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); <-c.Done() })
	return c, ack
}

func TestALibraryClient(t *testing.T) {
	s := &store{}
	b := open(t, func(c *Config) { c.Recorder = s; c.Window = 7 })
	c, ack := library(t, b, "u1")
	p := ack.Properties
	if p.ReceiveMaximum == nil || *p.ReceiveMaximum != 7 || p.ServerKeepAlive == nil || *p.ServerKeepAlive != 60 || p.MaximumPacketSize == nil || *p.MaximumPacketSize != maxPacket || ack.SessionPresent {
		t.Errorf("CONNACK: %+v", p)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for i := range 50 {
		payload := fmt.Appendf(nil, `{"timestamp":1,"node":"n","group":"g","tags":[{"name":"a","value":%d}],"seq":%d}`, i, i)
		r, err := c.Publish(ctx, &paho.Publish{QoS: 1, Retain: i%2 == 0, Topic: "/neuron/mqtt/n/g", Payload: payload})
		if err != nil || r.ReasonCode != 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	if len(s.seen) != 50 {
		t.Errorf("%d stored", len(s.seen))
	}
	if r, err := c.Publish(ctx, &paho.Publish{QoS: 1, Topic: "fieldunit/u2/telemetry", Payload: []byte(`{"values":{"a":1}}`)}); err == nil || r.ReasonCode != 0x87 {
		t.Errorf("published as another unit: %+v, %v", r, err)
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "#", QoS: 1}}}); err == nil {
		t.Error("subscribed to everything")
	}
}

func TestSilentUnitIsLeft(t *testing.T) {
	b := open(t, nil)
	d := dial(t, b, 4, "u1")
	d.send(connectBytes(4, "u1", "u1", "xu1", 1)) // keep alive 1 s
	if kind, _, err := d.next(); err != nil || kind != packets.CONNACK {
		t.Fatal(kind, err)
	}
	start := time.Now()
	d.closed()
	if took := time.Since(start); took < time.Second {
		t.Errorf("closed after %v, before its keep alive", took)
	}
}

// moved hands out connections of a listener that stays while Brokers come and go, as the virtual
// IP does.
type moved struct {
	net.Listener
	stop chan struct{}
}

func (m *moved) Accept() (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	got := make(chan result, 1)
	go func() {
		c, err := m.Listener.Accept()
		got <- result{c, err}
	}()
	select {
	case r := <-got:
		return r.c, r.err
	case <-m.stop:
		_ = m.Listener.(*net.TCPListener).SetDeadline(time.Now())
		if r := <-got; r.c != nil {
			_ = r.c.Close()
		}
		return nil, net.ErrClosed
	}
}

func (m *moved) Close() error {
	select {
	case <-m.stop:
	default:
		close(m.stop)
	}
	return nil
}

func TestTakeoverLosesAndDoublesNothing(t *testing.T) {
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = port.Close() }()
	s := &store{delay: time.Millisecond}
	primary := func() *Broker {
		_ = port.(*net.TCPListener).SetDeadline(time.Time{})
		return open(t, func(c *Config) {
			c.Recorder = s
			c.Endpoints = []Endpoint{{Listener: &moved{port, make(chan struct{})}, Plain: true}}
		})
	}
	b := primary()
	const total = 200
	acked := make(map[int]bool)
	for round := 0; len(acked) < total; round++ {
		if round > 100 {
			t.Fatalf("%d of %d acknowledged after %d takeovers", len(acked), total, round)
		}
		d := online(t, b, 4, "u1")
		for i := 1; i <= total; i++ { // everything unacknowledged again, pipelined
			if !acked[i] {
				if _, err := d.c.Write(publishBytes(4, uint16(i), 1, "fieldunit/u1/telemetry", fmt.Sprintf(`{"seq":%d,"boot":"b","values":{"a":1}}`, i))); err != nil {
					break
				}
			}
		}
		for n := 0; len(acked) < total; n++ {
			if n == 30 {
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
			kind, body, err := d.next()
			if err != nil {
				if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
					t.Fatal("no answer")
				}
				break
			}
			if kind == packets.PUBACK {
				acked[int(body[0])<<8|int(body[1])] = true
			}
		}
		_ = b.Close()
		b = primary()
	}
	for i := range acked {
		if s.times(fmt.Sprintf("u1/b/%d", i)) == 0 {
			t.Errorf("%d was acknowledged but never recorded", i)
		}
	}
}
