package transport

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func FuzzReadFrame(f *testing.F) {
	var b bytes.Buffer
	if err := WriteFrame(&b, Hello{Version: 1, Kind: KindLink, Pool: "p", From: "m", To: "b", Path: 1}); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte{0, 0, 0, 2, '{', '}'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0, 0, 0, 9, '{', '}'})
	f.Add([]byte{0, 0, 0, 4, 'n', 'u', 'l', 'l'})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(append(bytes.Clone(in), "rest"...))
		var h Hello
		if err := ReadFrame(bytes.NewReader(in), &h); err != nil {
			return
		}
		if err := ReadFrame(r, &h); err != nil {
			t.Errorf("bytes behind the frame matter: %v", err)
		}
		var out bytes.Buffer
		var again Hello
		if err := WriteFrame(&out, h); err != nil {
			t.Fatal(err)
		}
		if err := ReadFrame(&out, &again); err != nil || again != h {
			t.Errorf("%+v became %+v (%v)", h, again, err)
		}
	})
}

func testPort(t *testing.T) (*Port, tls.Certificate) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := NewPort(ln, PortConfig{
		TLS:              &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13},
		Fingerprint:      func(tls.ConnectionState) (string, error) { return "f", nil },
		HandshakeTimeout: 300 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	return p, cert
}

// Whatever comes in on the port, it neither panics nor keeps anyone else waiting, and nothing of
// it is left behind.
func TestGarbageOnThePortHarmsNobody(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	p, cert := testPort(t)
	defer p.Close()
	var mu sync.Mutex
	var heard [][]byte
	p.HandleFarewell(func(s []byte) { mu.Lock(); heard = append(heard, bytes.Clone(s)); mu.Unlock() })
	p.Handle(KindLink, "pool", nil, func(c *Conn) { c.Close() })
	junk := make([]byte, 4096)
	if _, err := rand.Read(junk); err != nil {
		t.Fatal(err)
	}
	var open []net.Conn
	for _, raw := range [][]byte{
		nil, {0x16}, {0x16, 3, 1, 0xff, 0xff}, []byte("GET / HTTP/1.1\r\n\r\n"), junk, append([]byte{0x16}, junk...),
		[]byte("F"), []byte("FAREWELL2 x"), bytes.Repeat([]byte("FAREWELL1 "), 100_000/10), {0},
	} {
		c, err := net.Dial("tcp", p.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		_, _ = c.Write(raw) // the port may have hung up already
	}
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	d := Dialer{TLS: func(string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	}}
	for _, c := range []struct {
		name string
		h    Hello
		code string
	}{
		{"a pool that is served", Hello{Kind: KindLink, Pool: "pool"}, ""},
		{"a pool that is not", Hello{Kind: KindLink, Pool: "other"}, "unknown_pool"},
		{"a kind that nobody serves", Hello{Kind: KindRaft, Pool: "pool"}, "unknown_pool"},
		{"a kind that does not exist", Hello{Kind: "x", Pool: "pool"}, "unknown_pool"},
		{"an unknown method", Hello{Kind: KindCall, Method: "x"}, "unknown_pool"},
	} {
		conn, err := d.Dial(t.Context(), p.Addr().String(), "f", c.h)
		if c.code == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			conn.Close()
			continue
		}
		var r *Refusal
		if !asRefusal(err, &r) || r.Code != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	c, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(FarewellMessage([]byte("the secret"))); err != nil {
		t.Fatal(err)
	}
	c.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		mu.Lock()
		found := false
		for _, s := range heard {
			found = found || string(s) == "the secret"
		}
		mu.Unlock()
		if found {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the farewell behind the garbage is not heard")
		}
	}
}

func asRefusal(err error, r **Refusal) bool {
	if err == nil {
		return false
	}
	got, ok := err.(*Refusal)
	*r = got
	return ok
}
