package agent_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"redundancypool/fieldunit"
	"redundancypool/fieldunit/agent"
	"redundancypool/fieldunit/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// database is what both Managers of a test share: it keeps each record once by its key, as the
// replicated database does.
type database struct {
	mu    sync.Mutex
	keys  map[string]int
	again int
	down  error
}

func (d *database) Record(_ context.Context, list []fieldunit.Telemetry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down != nil {
		return d.down
	}
	for _, t := range list {
		k := key(t.Boot, t.Seq)
		if d.keys[k]++; d.keys[k] > 1 {
			d.again++
		}
	}
	return nil
}

func (d *database) Admit(_ context.Context, _, secret string) error {
	if secret != "secret" {
		return broker.ErrDenied
	}
	return nil
}

func (d *database) set(down error) { d.mu.Lock(); d.down = down; d.mu.Unlock() }

func (d *database) len() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.keys) }

func key(boot string, seq uint64) string { return fmt.Sprintf("%s/%d", boot, seq) }

// acks is the ledger of a test.
type acks struct {
	mu   sync.Mutex
	keys map[string]int
	last uint64
}

func (a *acks) stored(r *agent.Record, _ time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys == nil {
		a.keys = make(map[string]int)
	}
	a.keys[key(r.Boot, r.Seq)]++
	a.last = r.Seq
}

func (a *acks) len() int { a.mu.Lock(); defer a.mu.Unlock(); return len(a.keys) }

func manager(t testing.TB, address string, d *database, conf *tls.Config) *broker.Broker {
	t.Helper()
	var b *broker.Broker
	eventually(t, "the port is free", func() bool {
		var err error
		b, err = broker.Open(context.Background(), broker.Config{
			Endpoints: []broker.Endpoint{{Address: address, Plain: conf == nil}}, TLS: conf, Recorder: d, Doorkeeper: d})
		return err == nil
	})
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func profile(b *broker.Broker) fieldunit.Profile {
	return fieldunit.Profile{Name: "pool", Type: fieldunit.TypeManager, Host: "127.0.0.1", Port: b.Addrs()[0].(*net.TCPAddr).Port,
		Username: "u1", Password: "secret", Autoconnect: true}
}

func spool(t testing.TB, dir string) *agent.Spool {
	t.Helper()
	s, err := agent.OpenSpool(agent.SpoolConfig{Dir: dir, Unit: "u1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// start runs an agent until stop is called or the test ends.
func start(t testing.TB, cfg agent.Config) (a *agent.Agent, stop func()) {
	t.Helper()
	a, err := agent.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(stop)
	return a, stop
}

func fill(t testing.TB, s *agent.Spool, n int) {
	t.Helper()
	for i := range n {
		err := s.Append(fieldunit.Telemetry{Node: "n", Group: "g", Readings: []fieldunit.Reading{{Tag: "a", Value: fieldunit.IntValue(int64(i))}}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func flush(t testing.TB, a *agent.Agent) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if n := a.Flush(ctx); n != 0 {
		t.Fatalf("%d records are left: %+v", n, a.Stats())
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func newDatabase() *database { return &database{keys: make(map[string]int)} }

func TestDeliversInOrder(t *testing.T) {
	d, led := newDatabase(), &acks{}
	b := manager(t, "127.0.0.1:0", d, nil)
	s := spool(t, "")
	fill(t, s, 500)
	a, _ := start(t, agent.Config{Profile: profile(b), Spool: s, Stored: led.stored})
	fill(t, s, 500)
	flush(t, a)
	if d.len() != 1000 || led.len() != 1000 || led.last != 1000 || d.again != 0 {
		t.Errorf("stored %d (%d again), acknowledged %d up to %d", d.len(), d.again, led.len(), led.last)
	}
	if st := a.Stats(); !st.Connected || st.Stored != 1000 || st.Connections != 1 {
		t.Errorf("%+v", st)
	}
}

func TestTakeoversUnderLoadLoseNothing(t *testing.T) {
	d, led := newDatabase(), &acks{}
	b := manager(t, "127.0.0.1:0", d, nil)
	address := b.Addrs()[0].String()
	dir := t.TempDir()
	s := spool(t, dir)
	a, _ := start(t, agent.Config{Profile: profile(b), Spool: s, Stored: led.stored})
	stop := make(chan struct{})
	var feeding sync.WaitGroup
	feeding.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				fill(t, s, 5)
			}
		}
	})
	for i := range 8 {
		before := led.len()
		eventually(t, "acknowledgements flow", func() bool { return led.len() > before+50 })
		switch i % 3 {
		case 0:
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := b.Drain(context.Background()); err != nil {
				t.Fatal(err)
			}
		case 2:
			d.set(errors.New("no quorum")) // the Primary lost its right, then its ports
			_ = b.Close()
			d.set(nil)
		}
		b = manager(t, address, d, nil)
	}
	close(stop)
	feeding.Wait()
	flush(t, a)
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, n := range led.keys {
		if d.keys[k] == 0 {
			t.Errorf("%s was acknowledged but not stored", k)
		}
		if n != 1 {
			t.Errorf("%s was acknowledged %d times", k, n)
		}
	}
	if len(led.keys) != len(d.keys) {
		t.Errorf("acknowledged %d, stored %d", len(led.keys), len(d.keys))
	}
	t.Logf("%d records, %d came again, %d connections", len(d.keys), d.again, a.Stats().Connections)
}

func TestCommitThatFailsIsSentAgain(t *testing.T) {
	d, led := newDatabase(), &acks{}
	d.set(errors.New("no quorum"))
	b := manager(t, "127.0.0.1:0", d, nil)
	s := spool(t, "")
	fill(t, s, 10)
	a, _ := start(t, agent.Config{Profile: profile(b), Spool: s, Stored: led.stored})
	eventually(t, "it has tried three times", func() bool { return a.Stats().Connections >= 3 })
	if led.len() != 0 {
		t.Fatal("acknowledged what was not stored")
	}
	d.set(nil)
	flush(t, a)
	if d.len() != 10 || led.len() != 10 {
		t.Errorf("stored %d, acknowledged %d", d.len(), led.len())
	}
}

func TestTLSChecksTheManager(t *testing.T) {
	certOf := func() (tls.Certificate, string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	cert, ca := certOf()
	_, stranger := certOf()
	d := newDatabase()
	b := manager(t, "127.0.0.1:0", d, &tls.Config{Certificates: []tls.Certificate{cert}})
	t.Run("the right authority", func(t *testing.T) {
		p := profile(b)
		p.TLS, p.CA = true, ca
		s := spool(t, "")
		fill(t, s, 3)
		a, stop := start(t, agent.Config{Profile: p, Spool: s})
		flush(t, a)
		stop()
	})
	t.Run("a stranger's authority: no byte of the secret leaves", func(t *testing.T) {
		p := profile(b)
		p.TLS, p.CA = true, stranger
		a, stop := start(t, agent.Config{Profile: p, Spool: spool(t, "")})
		eventually(t, "it says why", func() bool { return a.Stats().LastError != "" })
		stop()
		if a.Stats().Connections != 0 {
			t.Error("connected")
		}
	})
}

func TestWithoutAutoconnectTheFirstFailureEndsIt(t *testing.T) {
	b := manager(t, "127.0.0.1:0", newDatabase(), nil)
	p := profile(b)
	p.Autoconnect, p.Password = false, "wrong"
	a, err := agent.New(agent.Config{Profile: p, Spool: spool(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	var denied *agent.DeniedError
	if err := a.Run(context.Background()); !errors.As(err, &denied) || denied.Code != 0x86 {
		t.Errorf("%v", err)
	}
}
