package pool

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"redundancypool/manager/pool/transport"
)

// node is one member in this process: its folder, port and pool, and the tables it built.
type node struct {
	t       *testing.T
	name    string
	dir     string
	cert    tls.Certificate
	fp      string
	addr    netip.AddrPort
	port    *transport.Port
	pool    *Pool
	machine *memory
	net     *network
	timing  Timing

	tune func(*raft.Config)
	disk func(string) error

	mu      sync.Mutex
	ruling  uint64 // term in which Serve runs; 0: none
	serving atomic.Int64
	live    atomic.Pointer[Pool]
	events  []Event
}

// network lets tests cut connections between members, by refusing new ones and closing old ones
// silently: a cut connection's bytes go nowhere.
type network struct {
	mu  sync.Mutex
	cut map[[2]string]bool // from, to (names)
	all []*net.TCPListener

	watch   sync.Mutex
	reigns  map[string]Reign  // who serves
	terms   map[uint64]string // who served in a term
	crimes  []string
	reigned int
}

// begin notes that a node serves from now on and that nobody else has the right to at this moment.
func (n *network) begin(name string, r Reign) {
	n.watch.Lock()
	defer n.watch.Unlock()
	n.reigned++
	for other, o := range n.reigns {
		if until := o.Until(); other != name && until > Now() {
			n.crimes = append(n.crimes, fmt.Sprintf("%s is Primary in term %d while %s has the right of term %d for another %v", name, r.Term, other, o.Term, until.Sub(Now())))
		}
	}
	if was := n.terms[r.Term]; was != "" && was != name {
		n.crimes = append(n.crimes, fmt.Sprintf("both %s and %s were Primary in term %d", was, name, r.Term))
	}
	n.reigns[name], n.terms[r.Term] = r, name
}

func (n *network) end(name string) {
	n.watch.Lock()
	defer n.watch.Unlock()
	delete(n.reigns, name)
}

func newNetwork() *network {
	return &network{cut: map[[2]string]bool{}, reigns: map[string]Reign{}, terms: map[uint64]string{}}
}

func (n *network) blocked(from, to string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[[2]string{from, to}]
}

// heal opens every way.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
}

// part cuts the ways between two names in both directions.
func (n *network) part(a, b string) { n.set(a, b, true); n.set(b, a, true) }

func (n *network) set(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = cut
}

// relay forwards a's bytes to b while the way is open and swallows them while it is cut.
func (n *network) relay(from, to string, target string) netip.AddrPort {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	n.mu.Lock()
	n.all = append(n.all, ln.(*net.TCPListener))
	n.mu.Unlock()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go n.carry(c, from, to, target)
		}
	}()
	return netip.MustParseAddrPort(ln.Addr().String())
}

func (n *network) carry(c net.Conn, from, to, target string) {
	if n.blocked(from, to) || n.blocked(to, from) { // no handshake gets through; hold it like a lost SYN
		time.Sleep(400 * time.Millisecond)
		c.(*net.TCPConn).Close()
		return
	}
	d, err := net.Dial("tcp", target)
	if err != nil { // refused: pass it on as a reset
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		return
	}
	pipe := func(dst, src net.Conn, a, b string) {
		buf := make([]byte, 64<<10)
		for {
			k, err := src.Read(buf)
			for n.blocked(a, b) {
				time.Sleep(5 * time.Millisecond)
				if err != nil {
					break
				}
			}
			if k > 0 {
				if _, werr := dst.Write(buf[:k]); werr != nil {
					break
				}
			}
			if err != nil {
				break
			}
		}
		dst.Close()
		src.Close()
	}
	go pipe(d, c, from, to)
	pipe(c, d, to, from)
}

func testCert(t *testing.T, name string) (tls.Certificate, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, testPrint(leaf)
}

func testPrint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func peerPrint(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", errors.New("no certificate")
	}
	return testPrint(cs.PeerCertificates[0]), nil
}

func newNode(t *testing.T, network *network, name string) *node {
	n := &node{t: t, name: name, dir: filepath.Join(t.TempDir(), name), net: network, timing: testTiming()}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	n.cert, n.fp = testCert(t, name)
	n.listen("127.0.0.1:0")
	n.machine = newMemory()
	return n
}

// testTiming leaves room for a machine that runs other tests at the same time.
func testTiming() Timing {
	d := DefaultTiming()
	d.ConnectionWait = 500 * time.Millisecond
	d.MissedHeartbeats = 18 // detection 0.5 s: three members and the load of the test share one process
	return d
}

func (n *node) listen(addr string) {
	var ln net.Listener
	var err error
	for range 100 {
		if ln, err = net.Listen("tcp", addr); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	n.addr = netip.MustParseAddrPort(ln.Addr().String())
	n.port = transport.NewPort(ln, transport.PortConfig{
		TLS:         &tls.Config{Certificates: []tls.Certificate{n.cert}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13},
		Fingerprint: peerPrint, Log: slog.New(slog.DiscardHandler),
	})
}

func (n *node) log() *slog.Logger {
	if os.Getenv("POOL_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", n.name)
}

func (n *node) open(rec Record) {
	n.t.Helper()
	cfg := Config{
		Dir: n.dir, Record: rec, Port: n.port, Log: n.log(),
		Dialer: &transport.Dialer{TLS: func(fp string) *tls.Config {
			return &tls.Config{
				Certificates: []tls.Certificate{n.cert}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
				VerifyConnection: func(cs tls.ConnectionState) error {
					if got, err := peerPrint(cs); err != nil || got != fp {
						return fmt.Errorf("peer has %s, not %s", got, fp)
					}
					return nil
				},
			}
		}},
		Event: func(e Event) { n.mu.Lock(); n.events = append(n.events, e); n.mu.Unlock() },
		Serve: func(ctx context.Context, r Reign) {
			n.mu.Lock()
			n.ruling = r.Term
			n.mu.Unlock()
			n.serving.Add(1)
			n.net.begin(n.name, r)
			<-ctx.Done()
			n.net.end(n.name)
			n.serving.Add(-1)
			n.mu.Lock()
			n.ruling = 0
			n.mu.Unlock()
		},
	}
	cfg.tune, cfg.disk = n.tune, n.disk
	if rec.me().Role != Arbiter {
		cfg.Machine = n.machine
	}
	p, err := Open(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	n.pool = p
	n.live.Store(p)
}

func (n *node) close() {
	if n.pool == nil {
		return
	}
	n.live.Store(nil)
	if err := n.pool.Close(); err != nil {
		n.t.Errorf("close %s: %v", n.name, err)
	}
	n.pool = nil
	n.port.Close()
}

// kill ends the node as kill -9 would: no message leaves, its port refuses.
func (n *node) kill() {
	n.live.Store(nil)
	closed := make(chan error, 1)
	go func() { closed <- n.port.Close() }() // it waits for its links, which end with the pool
	if err := n.pool.end(false); err != nil {
		n.t.Errorf("kill %s: %v", n.name, err)
	}
	<-closed
	n.pool = nil
}

func (n *node) reopen() {
	n.t.Helper()
	rec, err := ReadRecord(n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	n.listen(n.addr.String())
	n.open(rec)
}

func (n *node) member(role Role, id MemberID) Member {
	return Member{ID: id, Name: n.name, Role: role, Address: n.addr, Fingerprint: n.fp}
}

// trio is a formed pool of three in one process.
type trio struct {
	t       *testing.T
	net     *network
	m, b, a *node
}

func newTrio(t *testing.T) *trio { t.Helper(); return newTrioWith(t, options{}) }

// options are what a trio may differ in.
type options struct {
	direct bool // no relays: a dead node's port refuses, and nothing can be cut
	second bool // a second path, whose relays go by the names "m2", "b2", "a2"
	tune   func(*raft.Config)
	timing func(*Timing)

	masterDisk func(kind string) error
}

func newTrioWith(t *testing.T, o options) *trio {
	t.Helper()
	net := newNetwork()
	stop := make(chan struct{})
	var sampling sync.WaitGroup
	tr := &trio{t: t, net: net, m: newNode(t, net, "m"), b: newNode(t, net, "b"), a: newNode(t, net, "a")}
	for _, n := range []*node{tr.m, tr.b, tr.a} {
		n.tune = o.tune
		if o.timing != nil {
			o.timing(&n.timing)
		}
	}
	tr.m.disk = o.masterDisk
	t.Cleanup(func() {
		close(stop)
		sampling.Wait()
		net.watch.Lock()
		for _, c := range net.crimes {
			t.Error(c)
		}
		net.watch.Unlock()
		net.heal()
		for _, n := range []*node{tr.a, tr.b, tr.m} {
			n.close()
		}
		net.mu.Lock()
		for _, l := range net.all {
			l.Close()
		}
		net.mu.Unlock()
	})
	sampling.Go(func() { tr.sample(stop) })
	rec, err := Create(tr.m.dir, tr.m.member(Standalone, ""), tr.m.timing)
	if err != nil {
		t.Fatal(err)
	}
	tr.m.open(rec)
	tr.wait("standalone Primary", func() bool { return tr.m.pool.State().Status == Alone })
	rec.Incarnation, rec.Phase = NewID(), PhaseForming
	me := tr.m.member(Master, rec.Self)
	bm, am := tr.b.member(Backup, MemberID(NewID())), tr.a.member(Arbiter, MemberID(NewID()))
	// Each member gets its own record, in which the others' addresses lead through a relay that
	// can be cut.
	via := func(self *node, m Member, to *node) Member {
		if self != to && !o.direct {
			m.Address = net.relay(self.name, to.name, to.addr.String())
		}
		if o.second {
			m.Second = to.addr
			if self != to {
				m.Second = net.relay(self.name+"2", to.name+"2", to.addr.String())
			}
		}
		return m
	}
	for _, n := range []*node{tr.b, tr.a, tr.m} {
		r := rec
		r.Members = []Member{via(n, me, tr.m), via(n, bm, tr.b), via(n, am, tr.a)}
		switch n {
		case tr.m:
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			if err := tr.m.pool.Form(ctx, r, func(s Step) { t.Log(s.Text) }); err != nil {
				t.Fatal(err)
			}
		case tr.b:
			r.Self = bm.ID
			if err := Join(n.dir, r); err != nil {
				t.Fatal(err)
			}
			n.open(r)
		case tr.a:
			r.Self = am.ID
			if err := Join(n.dir, r); err != nil {
				t.Fatal(err)
			}
			n.open(r)
		}
	}
	tr.wait("protected everywhere", func() bool {
		for _, n := range []*node{tr.m, tr.b, tr.a} {
			if n.pool.State().Health != Protected {
				return false
			}
		}
		return tr.m.pool.State().Status == Primary
	})
	return tr
}

// sample looks again and again whether both Managers have Status Primary at one instant.
func (tr *trio) sample(stop <-chan struct{}) {
	status := func(n *node) (bool, uint64) {
		p := n.live.Load()
		if p == nil {
			return false, 0
		}
		s := p.State()
		return s.Status == Primary, s.Term
	}
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		m, term := status(tr.m)
		b, other := status(tr.b)
		if again, same := status(tr.m); m && b && again && same == term {
			tr.net.watch.Lock()
			tr.net.crimes = append(tr.net.crimes, fmt.Sprintf("both Managers had Status Primary at one instant, in terms %d and %d", term, other))
			tr.net.watch.Unlock()
		}
	}
}

// primary returns the Manager that is Primary, or nil.
func (tr *trio) primary() *node {
	for _, n := range []*node{tr.m, tr.b} {
		if p := n.live.Load(); p != nil && p.State().Status == Primary {
			return n
		}
	}
	return nil
}

// waitProtected waits until a Manager is Primary and both say that the pool is Protected.
func (tr *trio) waitProtected() {
	tr.t.Helper()
	tr.wait("protected", func() bool {
		return tr.primary() != nil && tr.m.live.Load() != nil && tr.m.pool.State().Health == Protected &&
			tr.b.live.Load() != nil && tr.b.pool.State().Health == Protected
	})
}

// writers write until stopped, each row again and again until it is acknowledged.
type writers struct {
	tr    *trio
	stop  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	acked []string
	last  time.Time
	gap   time.Duration // longest time without an acknowledgement
}

func (tr *trio) write(count int) *writers {
	w := &writers{tr: tr, stop: make(chan struct{}), last: time.Now()}
	for i := range count {
		w.wg.Go(func() {
			for k := 0; ; k++ {
				text := fmt.Sprintf("w%d-%d", i, k)
				for !w.try(text) {
					select {
					case <-w.stop:
						return
					case <-time.After(2 * time.Millisecond):
					}
				}
				select {
				case <-w.stop:
					return
				default:
				}
			}
		})
	}
	return w
}

func (w *writers) try(text string) bool {
	n := w.tr.primary()
	if n == nil {
		return false
	}
	p := n.live.Load()
	if p == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := p.Apply(ctx, []byte(text)); err != nil {
		return false
	}
	w.mu.Lock()
	w.acked = append(w.acked, text)
	w.gap, w.last = max(w.gap, time.Since(w.last)), time.Now()
	w.mu.Unlock()
	return true
}

func (w *writers) count() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.acked) }

// end stops the writers and checks that every acknowledged row is on both Managers once.
func (w *writers) end() {
	w.tr.t.Helper()
	close(w.stop)
	w.wg.Wait()
	w.tr.waitProtected()
	w.tr.wait("both Managers have the same", func() bool {
		_, a := w.tr.m.machine.Digest()
		_, b := w.tr.b.machine.Digest()
		return a == b
	})
	for _, n := range []*node{w.tr.m, w.tr.b} {
		have := n.machine.texts()
		missing := 0
		for _, s := range w.acked {
			if have[s] == 0 {
				missing++
			}
		}
		if missing > 0 {
			w.tr.t.Errorf("%d of %d acknowledged rows are missing on %s", missing, len(w.acked), n.name)
		}
		for s, k := range have {
			if k > 1 {
				w.tr.t.Errorf("row %s is on %s %d times", s, n.name, k)
			}
		}
	}
}

func (tr *trio) wait(what string, ok func() bool) {
	tr.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			for _, n := range []*node{tr.m, tr.b, tr.a} {
				if n.pool != nil {
					s := n.pool.State()
					tr.t.Logf("%s: %v %v term %d last %v reasons %v sick %q phase %v", n.name, s.Status, s.Health, s.Term, s.Last, s.Reasons, s.Sick, s.Record.Phase)
				}
			}
			tr.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

func write(n *node, text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := n.pool.Apply(ctx, []byte(text))
	return err
}
