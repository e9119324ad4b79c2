package broker

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"redundancypool/fieldunit"
)

// store is the Recorder of the tests: it keeps each record once by its key, and can be told to
// hold or to fail.
type store struct {
	mu    sync.Mutex
	seen  map[string]int // key → times recorded
	hold  chan struct{}  // non-nil: Record waits for its end
	fail  error
	calls int
	delay time.Duration
}

func (s *store) Record(ctx context.Context, list []fieldunit.Telemetry) error {
	s.mu.Lock()
	hold := s.hold
	s.calls++
	s.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.delay > 0 {
		select {
		case <-time.After(s.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, t := range list {
		if s.seen == nil {
			s.seen = make(map[string]int)
		}
		s.seen[fmt.Sprintf("%s/%s/%d", t.Unit, t.Boot, t.Seq)]++
	}
	return nil
}

// submitter gives a store the other way in: one message after the other.
type submitter struct {
	*store
	order []uint64
}

func (s *submitter) Submit(ctx context.Context, t []fieldunit.Telemetry, done func(error)) {
	s.order = append(s.order, t[0].Seq)
	go func() { done(s.Record(ctx, t)) }()
}

func (s *store) set(f func(*store)) { s.mu.Lock(); f(s); s.mu.Unlock() }

func (s *store) times(key string) int { s.mu.Lock(); defer s.mu.Unlock(); return s.seen[key] }

func (s *store) called() int { s.mu.Lock(); defer s.mu.Unlock(); return s.calls }

// secrets is the Doorkeeper of the tests: every secret is "x" and the unit's name.
type secrets struct{ down error }

func (d secrets) Admit(_ context.Context, unit, secret string) error {
	if d.down != nil {
		return d.down
	}
	if secret != "x"+unit {
		return fmt.Errorf("%w: wrong secret", ErrDenied)
	}
	return nil
}

// notes collects what the Broker reports.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) refused(unit, topic, reason string) {
	n.mu.Lock()
	n.list = append(n.list, unit+"|"+topic+"|"+reason)
	n.mu.Unlock()
}

func (n *notes) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.list...)
}

// open starts a Broker on a loopback port of its own, closed with the test.
func open(t testing.TB, change func(*Config)) *Broker {
	t.Helper()
	cfg := Config{
		Endpoints:  []Endpoint{{Address: "127.0.0.1:0", Plain: true}},
		Recorder:   &store{},
		Doorkeeper: secrets{},
	}
	if change != nil {
		change(&cfg)
	}
	b, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// certificate returns a server certificate for 127.0.0.1, and its PEM.
func certificate(t testing.TB) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// eventually waits until ok holds; the deadline is far beyond what a busy machine needs.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// device is a bare MQTT client of either version, to see every byte that comes back.
type device struct {
	t       testing.TB
	c       net.Conn
	r       *bufio.Reader
	version byte
	unit    string
}

func dial(t testing.TB, b *Broker, version byte, unit string) *device {
	t.Helper()
	c, err := net.Dial("tcp", b.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &device{t: t, c: c, r: bufio.NewReader(c), version: version, unit: unit}
}

// connect logs in and returns the CONNACK's code.
func (d *device) connect(secret string) byte {
	d.t.Helper()
	d.send(connectBytes(d.version, d.unit, d.unit, secret, 30))
	kind, body, err := d.next()
	if err != nil || kind != packets.CONNACK {
		d.t.Fatalf("no CONNACK: type %d, %v", kind, err)
	}
	return body[1]
}

func connectBytes(version byte, id, user, secret string, keepAlive uint16) []byte {
	body := append(str("MQTT"), version, 0xC2, byte(keepAlive>>8), byte(keepAlive))
	if version == 5 {
		body = append(body, 0)
	}
	body = append(append(append(body, str(id)...), str(user)...), str(secret)...)
	return packet(0x10, body)
}

// online connects a device that must be admitted.
func online(t testing.TB, b *Broker, version byte, unit string) *device {
	t.Helper()
	d := dial(t, b, version, unit)
	if code := d.connect("x" + unit); code != 0 {
		t.Fatalf("CONNACK %#x", code)
	}
	return d
}

func (d *device) publish(id uint16, qos byte, topic, payload string) {
	d.t.Helper()
	d.send(publishBytes(d.version, id, qos, topic, payload))
}

func publishBytes(version byte, id uint16, qos byte, topic, payload string) []byte {
	body := str(topic)
	if qos > 0 {
		body = append(body, byte(id>>8), byte(id))
	}
	if version == 5 {
		body = append(body, 0)
	}
	return packet(0x30|qos<<1, append(body, payload...))
}

func (d *device) record(id uint16, seq int) {
	d.t.Helper()
	d.publish(id, 1, fieldunit.TelemetryTopic(d.unit), fmt.Sprintf(`{"seq":%d,"boot":"b","values":{"a":%d}}`, seq, seq))
}

func (d *device) send(b []byte) {
	d.t.Helper()
	if _, err := d.c.Write(b); err != nil {
		d.t.Fatal(err)
	}
}

// next returns the next packet's type and body.
func (d *device) next() (byte, []byte, error) {
	head, err := d.r.ReadByte()
	if err != nil {
		return 0, nil, err
	}
	n, shift := 0, 0
	for {
		c, err := d.r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		n |= int(c&0x7f) << shift
		shift += 7
		if c < 0x80 {
			break
		}
	}
	body := make([]byte, n)
	_, err = io.ReadFull(d.r, body)
	return head >> 4, body, err
}

// acked expects the acknowledgement of id and returns its code.
func (d *device) acked(kind byte, id uint16) byte {
	d.t.Helper()
	got, body, err := d.next()
	if err != nil || got != kind || len(body) < 2 || body[0] != byte(id>>8) || body[1] != byte(id) {
		d.t.Fatalf("want packet %d for %d, got %d %x, %v", kind, id, got, body, err)
	}
	if len(body) > 2 {
		return body[2]
	}
	return 0
}

// closed expects the end of the connection and returns the code of a DISCONNECT before it.
func (d *device) closed() byte {
	d.t.Helper()
	var code byte
	for {
		kind, body, err := d.next()
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			d.t.Fatal("the connection stayed open")
		}
		if err != nil {
			return code
		}
		if kind == packets.PUBACK || kind == packets.PUBREC {
			d.t.Fatalf("acknowledged: %x", body)
		}
		if kind == packets.DISCONNECT {
			code = body[0]
		}
	}
}

// silent expects that nothing has come by the time a ping is answered.
func (d *device) silent() {
	d.t.Helper()
	d.send([]byte{0xC0, 0})
	if kind, body, err := d.next(); err != nil || kind != packets.PINGRESP {
		d.t.Fatalf("want nothing but the ping's answer, got packet %d %x, %v", kind, body, err)
	}
}

func str(s string) []byte { return append([]byte{byte(len(s) >> 8), byte(len(s))}, s...) }

func packet(head byte, body []byte) []byte {
	out := []byte{head}
	for n := len(body); ; {
		c := byte(n & 0x7f)
		n >>= 7
		if n > 0 {
			out = append(out, c|0x80)
			continue
		}
		return append(append(out, c), body...)
	}
}
