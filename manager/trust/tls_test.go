package trust

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
)

// handshake connects client to server on loopback and returns what each side made of it.
func handshake(t *testing.T, client, server *tls.Config) (c, s *tls.Conn, cerr, serr error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	cp, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	sp, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cp.Close(); sp.Close() })
	c, s = tls.Client(cp, client), tls.Server(sp, server)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil { // TLS 1.3: the client learns of a refusal at its first read only
			_, err = s.Write([]byte{1})
		}
		if err != nil {
			sp.Close()
		}
		done <- err
	}()
	if cerr = c.Handshake(); cerr == nil {
		_, cerr = c.Read(make([]byte, 1))
	}
	if cerr != nil {
		cp.Close()
	}
	return c, s, cerr, <-done
}

func TestPeersArePinnedByKey(t *testing.T) {
	a, b, stranger := open(t, t.TempDir()), open(t, t.TempDir()), open(t, t.TempDir())
	t.Run("the expected peer: both learn who the other is", func(t *testing.T) {
		c, s, cerr, serr := handshake(t, a.ClientTLS(b.Fingerprint()), b.ServerTLS())
		if cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
		if got, err := Peer(c.ConnectionState()); err != nil || got != b.Fingerprint() {
			t.Errorf("client sees %v (%v)", got, err)
		}
		if got, err := Peer(s.ConnectionState()); err != nil || got != a.Fingerprint() {
			t.Errorf("server sees %v (%v)", got, err)
		}
		cb, err1 := Binding(c.ConnectionState())
		sb, err2 := Binding(s.ConnectionState())
		if err1 != nil || err2 != nil || !bytes.Equal(cb, sb) || len(cb) != 32 {
			t.Errorf("bindings %x and %x (%v, %v)", cb, sb, err1, err2)
		}
	})
	t.Run("a stranger at the address is refused by name", func(t *testing.T) {
		_, _, cerr, _ := handshake(t, a.ClientTLS(b.Fingerprint()), stranger.ServerTLS())
		var pe *PeerError
		if !errors.As(cerr, &pe) || pe.Got != stranger.Fingerprint() || pe.Want != b.Fingerprint() {
			t.Errorf("error %v", cerr)
		}
	})
	t.Run("expecting nobody accepts nobody", func(t *testing.T) {
		_, _, cerr, _ := handshake(t, a.ClientTLS(Fingerprint{}), b.ServerTLS())
		if cerr == nil || !strings.Contains(cerr.Error(), "approve it first") {
			t.Errorf("error %v", cerr)
		}
	})
	t.Run("probing meets anyone and tells who it is", func(t *testing.T) {
		c, _, cerr, serr := handshake(t, a.ProbeTLS(), stranger.ServerTLS())
		if cerr != nil || serr != nil {
			t.Fatal(cerr, serr)
		}
		if got, _ := Peer(c.ConnectionState()); got != stranger.Fingerprint() {
			t.Errorf("sees %v", got)
		}
	})
	t.Run("a client without a certificate is refused", func(t *testing.T) {
		_, _, cerr, serr := handshake(t, &tls.Config{InsecureSkipVerify: true}, b.ServerTLS())
		if cerr == nil || serr == nil {
			t.Errorf("accepted: %v, %v", cerr, serr)
		}
	})
	t.Run("TLS 1.2 is refused", func(t *testing.T) {
		old := a.ClientTLS(b.Fingerprint())
		old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if _, _, cerr, _ := handshake(t, old, b.ServerTLS()); cerr == nil {
			t.Error("accepted")
		}
	})
	if _, err := Peer(tls.ConnectionState{}); !errors.Is(err, ErrNoPeer) {
		t.Errorf("no connection: %v", err)
	}
}
