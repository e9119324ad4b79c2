package web

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// selfSigned makes a certificate with a name that tells which one it is.
func selfSigned(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestListenersCertificatesAndClose(t *testing.T) {
	src := newSource(full())
	cfg := testConfig(src)
	cfg.HTTP, cfg.HTTPS = "127.0.0.1:0", "0.0.0.0:0"
	node, pool := selfSigned(t, "node"), selfSigned(t, "pool")
	vip := netip.MustParseAddr("127.0.0.50") // every 127.x is this machine's
	cfg.Certificate = func(local netip.Addr, _ string) (*tls.Certificate, error) {
		if local == vip {
			return pool, nil
		}
		return node, nil
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	closed := sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	defer closed()
	_, port, _ := strings.Cut(s.HTTPSAddr().String(), "]:")
	if port == "" {
		_, port, _ = strings.Cut(s.HTTPSAddr().String(), ":")
	}
	for addr, want := range map[string]string{"127.0.0.1": "node", "127.0.0.50": "pool"} {
		c, err := tls.Dial("tcp", addr+":"+port, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().PeerCertificates[0].DNSNames[0]; got != want {
			t.Errorf("%s shows the certificate of %s, want %s", addr, got, want)
		}
		c.Close()
	}
	t.Run("connections to the virtual IP are ended, others stay", func(t *testing.T) {
		dial := func(addr string) *tls.Conn {
			c, err := tls.Dial("tcp", addr+":"+port, &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
				t.Fatal(err)
			}
			return c
		}
		toVIP, toNode := dial("127.0.0.50"), dial("127.0.0.1")
		request := "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
		answers := func(c *tls.Conn) bool {
			if _, err := io.WriteString(c, request); err != nil {
				return false
			}
			_, err := c.Read(make([]byte, 1024))
			return err == nil
		}
		if !answers(toVIP) || !answers(toNode) {
			t.Fatal("no answer")
		}
		s.CloseConnections(vip)
		if answers(toVIP) {
			t.Error("the connection to the virtual IP lives")
		}
		if !answers(toNode) {
			t.Error("the connection to the node's address died")
		}
	})
	t.Run("live updates", func(t *testing.T) {
		client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.HTTPAddr().String()+"/api/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth("ann", "right")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		next := func() string {
			for lines.Scan() {
				if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
					var r Redundancy
					if err := json.Unmarshal([]byte(data), &r); err != nil {
						t.Fatal(err)
					}
					return r.Status
				}
			}
			return "end"
		}
		if got := next(); got != "primary" {
			t.Errorf("first %s", got)
		}
		src.set("online")
		if got := next(); got != "online" {
			t.Errorf("then %s", got)
		}
		start := time.Now()
		closed() // with the stream open
		if d := time.Since(start); d > closeWait {
			t.Errorf("close took %v: it waited for the stream", d)
		}
		if got := next(); got != "end" {
			t.Errorf("after Close %s", got)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"plain HTTP in the LAN", func(c *Config) { c.HTTP = "0.0.0.0:0" }, "readable in the LAN"},
		{"an address that is not here", func(c *Config) { c.HTTPS = "192.0.2.1:0" }, "192.0.2.1"},
		{"nothing to ask", func(c *Config) { c.Source = nil }, "needs Source"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig(newSource(full()))
			tt.change(&cfg)
			if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestLiveUpdatesAreBounded(t *testing.T) {
	cfg := testConfig(newSource(full()))
	cfg.MaxStreams = 1
	s := built(t, cfg)
	s.streams <- struct{}{}
	if code := ask(s, here, "GET", "/api/v1/events", nil).StatusCode; code != http.StatusServiceUnavailable {
		t.Errorf("answers %d", code)
	}
}
