package broker

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"os"

	"github.com/eclipse/paho.golang/packets"
)

func TestCutSubscribeDoesNotKill(t *testing.T) {
	each(t, func(t *testing.T, v byte) {
		n := &notes{}
		b := open(t, func(c *Config) { c.Refused = n.refused })
		d := online(t, b, v, "u1")
		for _, raw := range [][]byte{{0x82, 3, 0, 1, 0}, {0x82, 2, 0, 1}, {0x82, 6, 0, 1, 0, 0, 1, 'a'}, {0x82, 7, 0, 1, 0, 0, 4, 'a', 'b'}} {
			d.send(raw)
			d.closed()
			eventually(t, "the session is gone", func() bool { return len(b.Sessions()) == 0 })
			d = online(t, b, v, "u1")
		}
		d.record(1, 1)
		d.acked(packets.PUBACK, 1)
	})
}

func TestBytesThatAreNoMQTT(t *testing.T) {
	b := open(t, func(c *Config) { c.ConnectTimeout = 200 * time.Millisecond })
	for name, raw := range map[string][]byte{
		"nothing at all":               {},
		"half a CONNECT":               {0x10, 20, 0, 4, 'M', 'Q'},
		"a PUBLISH first":              publishBytes(4, 1, 1, "a", "b"),
		"HTTP":                         []byte("GET / HTTP/1.1\r\n\r\n"),
		"256 MB announced":             {0x10, 0xff, 0xff, 0xff, 0x7f},
		"MQTT 3.1":                     packet(0x10, append(append(str("MQIsdp"), 3, 2, 0, 30), str("u1")...)),
		"a length that does not end":   {0x10, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a CONNECT without a password": packet(0x10, append(append(str("MQTT"), 4, 2, 0, 30), str("u1")...)),
	} {
		t.Run(name, func(t *testing.T) {
			d := dial(t, b, 4, "u1")
			d.send(raw)
			d.closed()
		})
	}
}

func TestOversizedPacketCloses(t *testing.T) {
	b := open(t, nil)
	d := online(t, b, 4, "u1")
	d.send([]byte{0x32, 0xff, 0xff, 0xff, 0x7f})
	d.closed()
}

func TestTooManyConnectionsAreClosed(t *testing.T) {
	n := &notes{}
	b := open(t, func(c *Config) { c.MaxConnections = 2; c.Refused = n.refused })
	online(t, b, 4, "u1")
	online(t, b, 4, "u2")
	d := dial(t, b, 4, "u3")
	d.closed()
	if l := n.all(); len(l) != 1 || !strings.Contains(l[0], "all 2 connections are in use") {
		t.Errorf("reported: %q", l)
	}
}

func TestWillIsNeverPublished(t *testing.T) {
	s := &store{}
	b := open(t, func(c *Config) { c.Recorder = s })
	d := dial(t, b, 4, "u1")
	body := append(str("MQTT"), 4, 0xC6, 0, 30)
	for _, f := range []string{"u1", "fieldunit/u2/command", "boom", "u1", "xu1"} {
		body = append(body, str(f)...)
	}
	d.send(packet(0x10, body))
	if kind, ack, err := d.next(); err != nil || kind != packets.CONNACK || ack[1] != 0 {
		t.Fatalf("%d %x %v", kind, ack, err)
	}
	e := online(t, b, 4, "u2")
	e.send(packet(0x82, append(append([]byte{0, 5}, str("fieldunit/u2/command")...), 1)))
	if kind, _, err := e.next(); err != nil || kind != packets.SUBACK {
		t.Fatal(kind, err)
	}
	_ = d.c.Close() // without DISCONNECT
	eventually(t, "the session is gone", func() bool { return len(b.Sessions()) == 1 })
	e.silent()
}

func TestUnitThatDoesNotReadIsCutInTime(t *testing.T) {
	b := open(t, nil)
	d := online(t, b, 4, "u1")
	_ = d.c.(*net.TCPConn).SetReadBuffer(4096)
	ping := []byte(strings.Repeat("\xc0\x00", 1<<16))
	_ = d.c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	for {
		if _, err := d.c.Write(ping); err != nil {
			break // both directions are full
		}
	}
	start := time.Now()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	t.Logf("closed in %v", time.Since(start))
}

func TestTLS(t *testing.T) {
	cert, pem := certificate(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, []byte(pem), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &store{}
	b := open(t, func(c *Config) {
		c.Recorder = s
		c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		c.Endpoints = []Endpoint{{Address: "127.0.0.1:0"}}
	})
	t.Run("a client without TLS is closed", func(t *testing.T) {
		d := dial(t, b, 4, "u1")
		d.send(connectBytes(4, "u1", "u1", "xu1", 30))
		d.closed()
	})
	for _, v := range []string{"mqttv311", "mqttv5"} {
		t.Run("mosquitto_pub "+v, func(t *testing.T) {
			bin, err := exec.LookPath("mosquitto_pub")
			if err != nil {
				t.Skip("mosquitto_pub is not installed")
			}
			pub := func(secret, payload string) ([]byte, error) {
				port := fmt.Sprint(b.Addrs()[0].(*net.TCPAddr).Port)
				return exec.Command(bin, "-h", "127.0.0.1", "-p", port, "--cafile", ca, "-V", v, "-u", "u1", "-P", secret,
					"-q", "1", "-t", "fieldunit/u1/telemetry", "-m", payload).CombinedOutput()
			}
			if out, err := pub("xu1", `{"seq":1,"boot":"`+v+`","values":{"a":1}}`); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if s.times("u1/"+v+"/1") != 1 {
				t.Errorf("stored: %v", s.seen)
			}
			if out, err := pub("no", `{"values":{"a":1}}`); err == nil {
				t.Errorf("a wrong secret was admitted: %s", out)
			}
			if out, err := pub("xu1", `{`+v); err == nil && v == "mqttv311" {
				t.Errorf("nonsense was acknowledged: %s", out)
			}
		})
	}
}

// FuzzConnection sends raw bytes after an accepted CONNECT: nothing may kill the process, leave
// the session behind or be acknowledged without a record.
func FuzzConnection(f *testing.F) {
	f.Add(byte(4), publishBytes(4, 1, 1, "fieldunit/u1/telemetry", `{"values":{"a":1}}`))
	f.Add(byte(5), publishBytes(5, 1, 2, "fieldunit/u1/telemetry", `{"values":{"a":1}}`))
	f.Add(byte(5), []byte{0x82, 3, 0, 1, 0})
	f.Add(byte(4), []byte{0x82, 2, 0, 1, 0xa2, 2, 0, 1})
	f.Add(byte(5), []byte{0x62, 2, 0, 9, 0xe0, 0})
	f.Add(byte(5), []byte{0x32, 12, 0, 1, 'a', 0, 1, 3, 35, 0, 1, 'x', 'y', 'z'})
	f.Add(byte(5), []byte{0xf0, 2, 0x18, 0})
	f.Add(byte(4), []byte{0x10, 0, 0xc0, 0})
	b := open(f, nil)
	f.Fuzz(func(t *testing.T, version byte, raw []byte) {
		if version != 5 {
			version = 4
		}
		d := online(t, b, version, "u1")
		_, _ = d.c.Write(raw)
		_ = d.c.(*net.TCPConn).CloseWrite()
		for {
			if _, _, err := d.next(); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Fatal("the connection stayed open")
				}
				break
			}
		}
		e := online(t, b, 4, "u2")
		e.record(1, 1)
		e.acked(packets.PUBACK, 1)
	})
}

// FuzzConnect sends raw bytes first.
func FuzzConnect(f *testing.F) {
	f.Add(connectBytes(4, "u1", "u1", "xu1", 30))
	f.Add(connectBytes(5, "", "u1", "xu1", 0))
	f.Add([]byte{0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0})
	f.Add([]byte{0x16, 3, 1, 0, 5})
	b := open(f, func(c *Config) { c.ConnectTimeout = 100 * time.Millisecond })
	f.Fuzz(func(t *testing.T, raw []byte) {
		d := dial(t, b, 4, "u1")
		_, _ = d.c.Write(raw)
		_ = d.c.(*net.TCPConn).CloseWrite()
		for {
			if _, _, err := d.next(); err != nil {
				break
			}
		}
	})
}
