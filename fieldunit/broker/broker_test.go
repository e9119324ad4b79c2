package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"go.uber.org/goleak"

	"redundancypool/fieldunit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// each runs the test for both protocol versions.
func each(t *testing.T, f func(t *testing.T, version byte)) {
	for _, v := range []byte{4, 5} {
		t.Run(fmt.Sprintf("version %d", v), func(t *testing.T) { f(t, v) })
	}
}

func TestAcknowledgesOnlyWhatIsRecorded(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		s := &store{hold: make(chan struct{})}
		b := open(t, func(c *Config) { c.Recorder = s })
		d := online(t, b, v, "u1")
		d.record(7, 1)
		d.record(8, 2)
		eventually(t, "both are being recorded at once", func() bool { return s.called() == 2 })
		d.silent()
		close(s.hold)
		if c := d.acked(packets.PUBACK, 7); c != 0 {
			t.Errorf("code %#x", c)
		}
		d.acked(packets.PUBACK, 8)
		if s.times("u1/b/1") != 1 || s.times("u1/b/2") != 1 {
			t.Errorf("stored: %v", s.seen)
		}
		if ss := b.Sessions(); len(ss) != 1 || ss[0].Unit != "u1" || ss[0].Messages != 2 || ss[0].Version != int(v) || ss[0].Last.IsZero() || !strings.HasPrefix(ss[0].Local, "127.0.0.1:") {
			t.Errorf("sessions: %+v", ss)
		}
	})
}

func TestAcknowledgesInTheOrderOfReceipt(t *testing.T) {
	first := make(chan struct{})
	b := open(t, func(c *Config) {
		c.Recorder = recorderFunc(func(_ context.Context, l []fieldunit.Telemetry) error {
			if l[0].Seq == 1 {
				<-first
			}
			return nil
		})
	})
	d := online(t, b, 4, "u1")
	for i := 1; i <= 20; i++ {
		d.record(uint16(i), i)
	}
	d.silent()
	close(first)
	for i := 1; i <= 20; i++ {
		d.acked(packets.PUBACK, uint16(i))
	}
}

type recorderFunc func(context.Context, []fieldunit.Telemetry) error

func (f recorderFunc) Record(ctx context.Context, l []fieldunit.Telemetry) error { return f(ctx, l) }

func TestFailedCommitClosesAndIsSentAgain(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		s := &store{fail: errors.New("no quorum")}
		b := open(t, func(c *Config) { c.Recorder = s })
		d := online(t, b, v, "u1")
		d.record(1, 1)
		if code := d.closed(); v == 5 && code != 0x89 {
			t.Errorf("DISCONNECT %#x", code)
		}
		s.set(func(s *store) { s.fail = nil })
		d = online(t, b, v, "u1")
		d.record(1, 1)
		d.acked(packets.PUBACK, 1)
	})
}

func TestNothingAfterAFailedCommitIsAcknowledged(t *testing.T) {
	second := make(chan struct{})
	b := open(t, func(c *Config) {
		c.Recorder = recorderFunc(func(_ context.Context, l []fieldunit.Telemetry) error {
			if l[0].Seq == 1 {
				<-second
				return errors.New("no quorum")
			}
			close(second)
			return nil
		})
	})
	d := online(t, b, 4, "u1")
	d.record(1, 1)
	d.record(2, 2)
	d.closed()
}

func TestSubmitterGetsAUnitsRecordsInOrder(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		s := &submitter{store: &store{}}
		b := open(t, func(c *Config) { c.Recorder = s })
		d := online(t, b, v, "u1")
		for i := 1; i <= 300; i++ {
			d.record(uint16(i), i)
		}
		for i := 1; i <= 300; i++ {
			d.acked(packets.PUBACK, uint16(i))
		}
		for i, seq := range s.order {
			if seq != uint64(i+1) {
				t.Fatalf("record %d came at place %d", seq, i+1)
			}
		}
		s.set(func(s *store) { s.fail = errors.New("no quorum") })
		d.record(1, 301)
		d.closed()
		s.set(func(s *store) { s.fail = fmt.Errorf("%w: no", ErrRefused) })
		d = online(t, b, v, "u1")
		d.record(1, 302)
		if v == 5 {
			d.acked(packets.PUBACK, 1)
		} else {
			d.closed()
		}
		s.set(func(s *store) { s.fail, s.hold = nil, make(chan struct{}) })
		d = online(t, b, v, "u1")
		d.record(1, 303)
		eventually(t, "it is being recorded", func() bool { return s.called() == 303 })
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		d.closed()
	})
}

func TestQoS0IsRecordedWithoutAnswer(t *testing.T) {
	s := &store{}
	b := open(t, func(c *Config) { c.Recorder = s; c.Window = 2 })
	d := online(t, b, 4, "u1")
	for i := range 10 {
		d.publish(0, 0, fieldunit.TelemetryTopic("u1"), fmt.Sprintf(`{"seq":%d,"values":{"a":1}}`, i))
	}
	eventually(t, "all are stored", func() bool { return s.times("u1//9") == 1 && s.called() == 10 })
	d.silent()
}

func TestQoS2IsHeldUntilCommitAndReleased(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		s := &store{hold: make(chan struct{})}
		b := open(t, func(c *Config) { c.Recorder = s })
		d := online(t, b, v, "u1")
		d.publish(9, 2, fieldunit.TelemetryTopic("u1"), `{"seq":1,"values":{"a":1}}`)
		d.silent()
		close(s.hold)
		d.acked(packets.PUBREC, 9)
		d.send([]byte{0x62, 2, 0, 9})
		if c := d.acked(packets.PUBCOMP, 9); c != 0 {
			t.Errorf("code %#x", c)
		}
		if s.times("u1//1") != 1 {
			t.Error("stored twice or never")
		}
	})
}

func TestQoS2WithoutReleaseIsLimited(t *testing.T) {
	n := &notes{}
	b := open(t, func(c *Config) { c.Refused = n.refused })
	d := online(t, b, 4, "u1")
	for i := 1; i <= maxPubrecs; i++ {
		d.publish(uint16(i), 2, fieldunit.TelemetryTopic("u1"), `{"values":{"a":1}}`)
		d.acked(packets.PUBREC, uint16(i))
	}
	d.publish(uint16(maxPubrecs+1), 2, fieldunit.TelemetryTopic("u1"), `{"values":{"a":1}}`)
	d.closed()
	if l := n.all(); len(l) != 1 || !strings.Contains(l[0], "use QoS 1") {
		t.Errorf("reported: %q", l)
	}
}

func TestWindowHoldsBackOneUnitAlone(t *testing.T) {
	s := &store{hold: make(chan struct{})}
	b := open(t, func(c *Config) { c.Recorder = s; c.Window = 3 })
	d := online(t, b, 5, "u1")
	for i := 1; i <= 10; i++ {
		d.record(uint16(i), i)
	}
	eventually(t, "three are being recorded", func() bool { return s.called() == 3 })
	e := online(t, b, 5, "u2")
	e.record(1, 1)
	eventually(t, "the other unit is served", func() bool { return s.called() == 4 })
	close(s.hold)
	for i := 1; i <= 10; i++ {
		d.acked(packets.PUBACK, uint16(i))
	}
	e.acked(packets.PUBACK, 1)
}

func TestDoor(t *testing.T) {
	for _, tt := range []struct {
		name         string
		user, secret string
		down         error
		v3, v5       byte
	}{
		{"wrong secret", "u1", "no", nil, 5, 0x86},
		{"no user name", "", "xu1", nil, 5, 0x86},
		{"a user name that is no unit's", "a/b", "xa/b", nil, 5, 0x86},
		{"not able to decide: try again later", "u1", "xu1", errors.New("no database"), 3, 0x88},
	} {
		for v, want := range map[byte]byte{4: tt.v3, 5: tt.v5} {
			t.Run(fmt.Sprintf("%s, version %d", tt.name, v), func(t *testing.T) {
				n := &notes{}
				b := open(t, func(c *Config) { c.Doorkeeper = secrets{tt.down}; c.Refused = n.refused })
				d := dial(t, b, v, tt.user)
				if got := d.connect(tt.secret); got != want {
					t.Errorf("CONNACK %#x, want %#x", got, want)
				}
				d.closed()
				if len(b.Sessions()) != 0 || len(n.all()) != 1 {
					t.Errorf("sessions %v, reported %q", b.Sessions(), n.all())
				}
			})
		}
	}
}

func TestSecondConnectionDisplacesTheFirst(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		b := open(t, nil)
		d := online(t, b, v, "u1")
		other := dial(t, b, v, "u1")
		if c := other.connect("wrong"); c == 0 {
			t.Fatal("admitted with a wrong secret")
		}
		d.silent()
		e := online(t, b, v, "u1")
		if code := d.closed(); v == 5 && code != 0x8E {
			t.Errorf("DISCONNECT %#x", code)
		}
		e.record(1, 1)
		e.acked(packets.PUBACK, 1)
		if len(b.Sessions()) != 1 {
			t.Errorf("sessions: %+v", b.Sessions())
		}
	})
}

func TestClientIDNeverReachesAnotherUnit(t *testing.T) {
	b := open(t, nil)
	d := online(t, b, 4, "u1")
	e := dial(t, b, 4, "u2")
	e.send(connectBytes(4, "u1", "u2", "xu2", 30)) // client id of the other
	if kind, body, err := e.next(); err != nil || kind != packets.CONNACK || body[1] != 0 {
		t.Fatalf("%d %x %v", kind, body, err)
	}
	d.silent()
	e.publish(1, 1, "fieldunit/u1/telemetry", `{"values":{"a":1}}`)
	e.closed()
	d.silent()
}

func TestRefusedContentDoesNotComeBackForEver(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		n, s := &notes{}, &store{}
		b := open(t, func(c *Config) { c.Refused = n.refused; c.Recorder = s })
		bad := `{"values":"none"}`
		d := online(t, b, v, "u1")
		d.publish(3, 1, "fieldunit/u1/telemetry", bad)
		if v == 4 {
			d.closed() // its user sees an error
			d = online(t, b, v, "u1")
			d.publish(3, 1, "fieldunit/u1/telemetry", bad)
		}
		if code := d.acked(packets.PUBACK, 3); v == 5 && code != 0x99 {
			t.Errorf("PUBACK %#x", code)
		}
		d.record(4, 4)
		d.acked(packets.PUBACK, 4)
		if l := n.all(); len(l) == 0 || !strings.HasPrefix(l[0], `u1|fieldunit/u1/telemetry|values: is "none": send an object`) {
			t.Errorf("reported: %q", l)
		}
		if len(s.seen) != 1 {
			t.Errorf("stored: %v", s.seen)
		}
	})
}

func TestRecorderMayRefuseForGood(t *testing.T) {
	s := &store{fail: fmt.Errorf("%w: another value at the same key", ErrRefused)}
	b := open(t, func(c *Config) { c.Recorder = s })
	d := online(t, b, 5, "u1")
	d.record(1, 1)
	if c := d.acked(packets.PUBACK, 1); c != 0x83 {
		t.Errorf("PUBACK %#x", c)
	}
	d.silent()
}

func TestRefusalsAreReportedWithALimit(t *testing.T) {
	n := &notes{}
	b := open(t, func(c *Config) { c.Refused = n.refused })
	d := online(t, b, 5, "u1")
	for i := 1; i <= 100; i++ {
		d.publish(uint16(i), 1, "fieldunit/u1/telemetry", "x")
		d.acked(packets.PUBACK, uint16(i))
	}
	if l := len(n.all()); l < 1 || l > 2*reportBurst {
		t.Errorf("%d reports of 100 refusals", l)
	}
}

func TestSubscriptionsAreForOwnCommandsAlone(t *testing.T) {
	b := open(t, nil)
	d := online(t, b, 4, "u1")
	for filter, want := range map[string]byte{"fieldunit/u1/command": 1, "#": 0x80, "fieldunit/u2/command": 0x80, "fieldunit/u1/telemetry": 0x80} {
		d.send(packet(0x82, append(append([]byte{0, 5}, str(filter)...), 1)))
		kind, body, err := d.next()
		if err != nil || kind != packets.SUBACK || (body[2] >= 0x80) != (want >= 0x80) {
			t.Errorf("%s: %d %x %v", filter, kind, body, err)
		}
	}
}

func TestCloseCutsEverySession(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		s := &store{hold: make(chan struct{})}
		var ended []string
		b := open(t, func(c *Config) {
			c.Recorder = s
			c.Disconnected = func(s Session, reason string) { ended = append(ended, s.Unit+": "+reason) }
		})
		d := online(t, b, v, "u1")
		d.record(1, 1)
		eventually(t, "it is being recorded", func() bool { return s.called() == 1 })
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if code := d.closed(); v == 5 && code != 0x8B {
			t.Errorf("DISCONNECT %#x", code)
		}
		if len(ended) != 1 || ended[0] != "u1: server shutting down" {
			t.Errorf("ended: %q", ended)
		}
	})
}

func TestDrainAcknowledgesWhatItTook(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		s := &store{hold: make(chan struct{})}
		b := open(t, func(c *Config) { c.Recorder = s })
		d := online(t, b, v, "u1")
		d.record(1, 1)
		d.record(2, 2)
		eventually(t, "both are being recorded", func() bool { return s.called() == 2 })
		done := make(chan error, 1)
		go func() { done <- b.Drain(context.Background()) }()
		eventually(t, "the gate is shut", func() bool { b.gate.mu.Lock(); defer b.gate.mu.Unlock(); return b.gate.closed })
		d.record(3, 3)
		close(s.hold)
		d.acked(packets.PUBACK, 1)
		d.acked(packets.PUBACK, 2)
		d.closed()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if s.times("u1/b/3") != 0 {
			t.Error("took a message while draining")
		}
	})
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	s := &store{hold: make(chan struct{})}
	b := open(t, func(c *Config) { c.Recorder = s })
	d := online(t, b, 4, "u1")
	d.record(1, 1)
	eventually(t, "it is being recorded", func() bool { return s.called() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := b.Drain(ctx); err == nil || !strings.Contains(err.Error(), "1 messages were not recorded") {
		t.Errorf("%v", err)
	}
	d.closed()
}

func TestDisconnectEndsOneSession(t *testing.T) {
	b := open(t, nil)
	d, e := online(t, b, 5, "u1"), online(t, b, 5, "u2")
	b.Disconnect("u1", "the unit was removed")
	if c := d.closed(); c != 0x98 {
		t.Errorf("DISCONNECT %#x", c)
	}
	e.silent()
}

func TestOpenTakesAllPortsOrNone(t *testing.T) {
	b := open(t, nil)
	_, err := Open(context.Background(), Config{Recorder: &store{}, Doorkeeper: secrets{}, Endpoints: []Endpoint{
		{Address: "127.0.0.1:0", Plain: true}, {Address: b.Addrs()[0].String(), Plain: true}}})
	if err == nil || !strings.Contains(err.Error(), "free the port") {
		t.Error(err)
	}
	if _, err := Open(context.Background(), Config{Recorder: &store{}, Doorkeeper: secrets{}, Endpoints: []Endpoint{{Address: "127.0.0.1:0"}}}); err == nil {
		t.Error("opened for TLS without a certificate")
	}
}
