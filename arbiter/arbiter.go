// Package arbiter is the voter without data: a process on a small third machine that takes part
// in a pool's election, stores positions and never payload, never leads and holds no address.
//
// It runs manager/pool in the Arbiter's role and adds what a process needs: identity, pairing,
// its control socket and reset. It links neither SQLite nor MQTT, netlink or the web server, so
// that it stays small. cmd/arbiter runs it.
package arbiter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/trust"
)

// Config describes one Arbiter process.
type Config struct {
	Dir     string
	Listen  string // host:port of the pool port; empty: all addresses, port 8099
	Version string
	Log     *slog.Logger
}

// DefaultListen is the pool port on all addresses.
const DefaultListen = ":8099"

// Arbiter is the running process' state. Its folder holds one sub-folder per pool, so that more
// than one can follow; today it takes part in one.
type Arbiter struct {
	cfg    Config
	trust  *trust.Store
	port   *transport.Port
	dialer *transport.Dialer
	// journal has this Arbiter's own events: it is the witness of what both Managers did.
	journal *journal.Journal
	ending  <-chan struct{}
	watch   context.CancelFunc // ends the look at the member's statuses; nil: none
	facts   *Facts

	// seen is member once more, for the status, which must not wait for mu: it is held while a
	// disk may hang.
	seen atomic.Pointer[pool.Pool]
	// stray is a folder of a pool that cannot be one of this Arbiter's; nil: there is none.
	stray atomic.Pointer[string]

	mu      sync.Mutex
	member  *pool.Pool
	dir     string      // of member, or of the join that waits for its plan
	attempt pending     // of an unfinished forming
	timer   *time.Timer // counts its time down; nil: none
}

// ErrBusy is returned by Reset while the process runs.
var ErrBusy = errors.New("the Arbiter is running on this folder")

// Run serves until ctx ends.
func Run(ctx context.Context, cfg Config) error {
	RaisePriority(cfg.Log)
	debug.SetMemoryLimit(24 << 20)
	debug.SetGCPercent(50)
	if cfg.Listen == "" {
		cfg.Listen = DefaultListen
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("data folder %s: %w; choose a folder that this user may write with --data", cfg.Dir, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "settings.toml")); err == nil {
		return fmt.Errorf("%s is a Manager's data folder; choose another with --data", cfg.Dir)
	}
	a := &Arbiter{cfg: cfg, facts: NewFacts(cfg.Dir)}
	srv, err := a.control() // takes the folder's lock first
	if err != nil {
		return err
	}
	defer srv.Close()
	if a.trust, err = trust.Open(cfg.Dir); err != nil {
		return err
	}
	a.journal, a.ending = openJournal(cfg, a.name()), ctx.Done()
	defer a.journal.Close()
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen on the pool port %s: %w; choose another with --listen, or stop what uses it", cfg.Listen, err)
	}
	a.port = transport.NewPort(ln, transport.PortConfig{TLS: a.trust.ServerTLS(), Fingerprint: PeerFingerprint, Log: cfg.Log})
	defer a.port.Close()
	a.dialer = NewDialer(a.trust)
	a.register()
	if err := a.resume(); err != nil {
		return err
	}
	defer a.stop()
	cfg.Log.Info("arbiter serves", "port", ln.Addr().String(), "fingerprint", a.trust.Fingerprint().String())
	a.event(journal.Info, "node", "started", "this Arbiter serves on "+ln.Addr().String())
	go a.facts.Run(ctx) // not waited for: a disk that hangs would keep it
	<-ctx.Done()
	a.event(journal.Info, "node", "stopping", "this Arbiter is being stopped")
	return nil
}

// PeerFingerprint is the transport's way to a peer's identity.
func PeerFingerprint(cs tls.ConnectionState) (string, error) {
	fp, err := trust.Peer(cs)
	if err != nil {
		return "", err
	}
	b, err := fp.MarshalText()
	return string(b), err
}

// NewDialer connects to members whose fingerprint (64 hex digits) is known.
func NewDialer(s *trust.Store) *transport.Dialer {
	return &transport.Dialer{TLS: func(text string) *tls.Config {
		fp, err := trust.ParseFingerprint(text)
		if err != nil {
			fp = trust.Fingerprint{} // belongs to nobody: the handshake fails and says so
		}
		return s.ClientTLS(fp)
	}}
}

func (a *Arbiter) register() {
	p := a.port
	p.HandleCall(pool.MethodPair, nil, func(_ context.Context, c *transport.Conn, body []byte) (any, error) {
		ans, err := AcceptPairing(a.trust, c, body, pool.Arbiter, a.name())
		if err != nil {
			a.event(journal.Warning, "trust", "pairing_refused", fmt.Sprintf("pairing from %v was refused: %v", c.RemoteAddr(), err))
		} else {
			a.event(journal.Info, "trust", "paired", fmt.Sprintf("the Master at %v is trusted", c.RemoteAddr()))
		}
		return ans, err
	})
	p.HandleCall(MethodEvents, a.fromManager, AnswerEvents(a.journal, a.ending))
	greeter := &Greeter{Self: a.introduction, Met: a.met}
	p.HandleCall(pool.MethodGreet, nil, greeter.Answer)
	p.HandleCall(pool.MethodJoin, a.fromMaster, handle(a.join))
	p.HandleCall(pool.MethodPlan, a.fromMaster, handle(a.plan))
	p.HandleCall(pool.MethodAbandon, a.fromMaster, handle(a.abandon))
	p.HandleCall(pool.MethodDismiss, a.fromManager, handle(a.dismiss))
	p.HandleCall(pool.MethodReopen, a.fromManager, handle(a.reopen))
	p.HandleCall(pool.MethodResign, a.fromManager, handle(a.dismiss))
	p.HandleCall(pool.MethodSightings, a.fromManager, handle(a.sightings))
}

// handle decodes the body of a call.
func handle[T any](f func(context.Context, T) (any, error)) func(context.Context, *transport.Conn, []byte) (any, error) {
	return func(ctx context.Context, _ *transport.Conn, body []byte) (any, error) {
		var v T
		if err := json.Unmarshal(body, &v); err != nil {
			return nil, transport.Refuse("malformed", "message cannot be read: %v", err)
		}
		return f(ctx, v)
	}
}

func (a *Arbiter) fromMaster(_ transport.Hello, fingerprint string) error {
	return FromMaster(a.trust, fingerprint)
}

// fromManager admits either Manager of the pool: a survivor may be the Backup.
func (a *Arbiter) fromManager(_ transport.Hello, fingerprint string) error {
	if p := a.seen.Load(); p != nil {
		for _, m := range p.Record().Members {
			if m.Fingerprint == fingerprint && m.Role != pool.Arbiter {
				return nil
			}
		}
	}
	return transport.Refuse("not_a_member", "%s is not a Manager of this Arbiter's pool", short(fingerprint))
}

// FromMaster admits only an approved Manager.
func FromMaster(s *trust.Store, fingerprint string) error {
	fp, err := trust.ParseFingerprint(fingerprint)
	if err != nil {
		return err
	}
	r, ok := s.Lookup(fp)
	switch {
	case !ok:
		return transport.Refuse("not_trusted", "%s is not trusted here: pair it with a token of this node, or approve its fingerprint", short(fingerprint))
	case r.Role != pool.Master.String() && r.Role != pool.Backup.String(): // a Backup may be the one that goes on
		return transport.Refuse("not_master", "%s is trusted here as %s, not as a Manager", short(fingerprint), r.Role)
	}
	return nil
}

func short(s string) string { return s[:min(12, len(s))] }

func (a *Arbiter) name() string { return "arbiter-" + short(a.fingerprint()) }

func (a *Arbiter) fingerprint() string {
	b, _ := a.trust.Fingerprint().MarshalText()
	return string(b)
}

// folder is where a pool's store is kept; the id comes from another node and is checked.
func (a *Arbiter) folder(id string) (string, error) {
	for _, c := range id {
		if (c < 'a' || c > 'f') && (c < '0' || c > '9') {
			return "", transport.Refuse("malformed", "pool id %q is not hexadecimal", short(id))
		}
	}
	if len(id) != 32 {
		return "", transport.Refuse("malformed", "pool id has %d digits, not 32", len(id))
	}
	return filepath.Join(a.cfg.Dir, "pools", id), nil
}

// pending is the part of a join that waits for its plan, kept beside the store.
type pending struct {
	Join pool.JoinRequest `json:"join"` // its Remaining is counted down
	ID   pool.MemberID    `json:"id"`
}

const joinFile = "join.json"

func (p pending) save(dir string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, joinFile+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, joinFile))
}

func readPending(dir string) (p pending, err error) {
	b, err := os.ReadFile(filepath.Join(dir, joinFile))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p, err
}

// join decides whether this Arbiter takes part: only when it belongs to no other pool.
func (a *Arbiter) join(_ context.Context, q pool.JoinRequest) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if q.As != pool.Arbiter {
		return nil, transport.Refuse("wrong_role", "this node is an Arbiter and cannot join as %v", q.As)
	}
	if diff := q.Differences(netip.AddrPort{}, netip.AddrPort{}, netip.AddrPort{}, netip.Prefix{}, a.cfg.Version); len(diff) > 0 {
		return nil, pool.MismatchError(diff)
	}
	dir, err := a.folder(q.Pool)
	if err != nil {
		return nil, err
	}
	if err := a.takenLocked(q.Pool); err != nil {
		return nil, err
	}
	if err := a.forgetLocked("a newer attempt"); err != nil { // or one that ended without a word
		return nil, fmt.Errorf("remove an unfinished attempt: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of the pool: %w", err)
	}
	p := pending{Join: q, ID: pool.MemberID(pool.NewID())}
	if err := p.save(dir); err != nil {
		return nil, fmt.Errorf("keep join: %w", err)
	}
	a.countDownLocked(dir, p)
	return pool.JoinAnswer{ID: p.ID, Name: a.name()}, nil
}

// plan starts this member.
func (a *Arbiter) plan(_ context.Context, pl pool.Plan) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	dir, err := a.folder(pl.Record.Pool)
	if err != nil {
		return nil, err
	}
	if a.member != nil {
		return nil, transport.Refuse("belongs_to_pool", "this Arbiter has already started in pool %s", short(a.member.Record().Pool))
	}
	p, err := readPending(dir)
	if err != nil || p.Join.Incarnation != pl.Record.Incarnation {
		return nil, transport.Refuse("no_join", "this Arbiter was not asked to join that attempt first")
	}
	rec := pl.Record
	rec.Self = p.ID
	if err := ApproveMembers(a.trust, rec); err != nil {
		return nil, err
	}
	if err := pool.Join(dir, rec); err != nil {
		return nil, err
	}
	if err := a.openLocked(dir, rec); err != nil {
		return nil, err
	}
	p.Join.Remaining = pl.Remaining
	a.countDownLocked(dir, p)
	return struct{}{}, nil
}

// ApproveMembers trusts the other members that an approved Master introduced.
func ApproveMembers(s *trust.Store, rec pool.Record) error {
	for _, m := range rec.Members {
		if m.ID == rec.Self {
			continue
		}
		fp, err := trust.ParseFingerprint(m.Fingerprint)
		if err != nil {
			return transport.Refuse("malformed", "fingerprint of %s: %v", m.Name, err)
		}
		p := trust.PeerRecord{Fingerprint: fp, Role: m.Role.String(), Name: m.Name, Address: m.Address.String(), How: trust.ByMaster}
		if known, ok := s.Lookup(fp); ok && known.Role == p.Role && known.How != "" {
			p.How = known.How // how a person came to trust it says more
		}
		if err := s.Approve(p); err != nil {
			return fmt.Errorf("approve %s: %w", m.Name, err)
		}
	}
	return nil
}

func (a *Arbiter) openLocked(dir string, rec pool.Record) error {
	p, err := pool.Open(pool.Config{
		Dir: dir, Record: rec, Port: a.port, Dialer: a.dialer, Version: a.cfg.Version, Log: a.cfg.Log, Facts: a.facts.Now,
		Event: a.poolEvent,
		Expelled: func(why transport.Refusal) {
			if why.Code == pool.GoneLeft {
				a.left(rec.Pool, why.Text)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("start in pool %s: %w", short(rec.Pool), err)
	}
	a.member, a.dir = p, dir
	a.seen.Store(p)
	a.event(journal.Info, "pool", "joined", "this Arbiter takes part in pool "+short(rec.Pool))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	a.watch = func() { cancel(); <-done }
	go func() {
		defer close(done)
		WatchMembers(ctx, p, func(e journal.Event) { a.journal.Append(e) })
	}()
	return nil
}

// countDownLocked forgets an attempt that does not become effective in its time. The time left is
// kept on disk, so that a restart neither loses nor gains any.
func (a *Arbiter) countDownLocked(dir string, p pending) {
	const step = 2 * time.Second
	if a.timer != nil {
		a.timer.Stop()
	}
	a.dir, a.attempt = dir, p
	began := time.Now()
	var t *time.Timer
	t = time.AfterFunc(max(0, min(step, p.Join.Remaining)), func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.timer != t { // stopped while it waited for the lock
			return
		}
		a.timer = nil
		if a.member != nil && (a.member.Record().Phase == pool.PhaseEffective || a.member.Votes()) {
			return
		}
		if p.Join.Remaining -= time.Since(began); p.Join.Remaining <= 0 {
			if err := a.forgetLocked("the pool did not become effective in time"); err != nil {
				a.cfg.Log.Error("cannot forget an unfinished pool", "error", err)
			}
			return
		}
		if err := p.save(dir); err != nil {
			a.cfg.Log.Warn("cannot keep the time left", "error", err)
		}
		a.countDownLocked(dir, p)
	})
	a.timer = t
}

// abandon forgets an attempt that its Master gave up; a pool that is effective is not one.
func (a *Arbiter) abandon(_ context.Context, t pool.Attempt) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	same := a.timer != nil && a.attempt.Join.Pool == t.Pool && a.attempt.Join.Incarnation == t.Incarnation
	if a.member != nil {
		rec := a.member.Record()
		same = rec.Pool == t.Pool && rec.Incarnation == t.Incarnation
	}
	if !same {
		return nil, transport.Refuse("unknown_pool", "this Arbiter is not in that attempt")
	}
	if !t.Removed && a.member != nil && (a.member.Record().Phase == pool.PhaseEffective || a.member.Votes()) {
		return nil, transport.Refuse("effective", "the pool is effective: leave it in order")
	}
	return struct{}{}, a.forgetLocked("abandoned: " + t.Why)
}

// left forgets a pool that was left while this Arbiter was away, as a former member says.
func (a *Arbiter) left(id, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.member == nil || a.member.Record().Pool != id {
		return
	}
	if err := a.forgetLocked(why); err != nil {
		a.cfg.Log.Error("cannot forget a pool that was left", "error", err)
	}
}

// dismiss forgets a pool that its Master has taken this Arbiter out of.
func (a *Arbiter) dismiss(_ context.Context, t pool.Attempt) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.member == nil || a.member.Record().Pool != t.Pool {
		return nil, transport.Refuse("unknown_pool", "this Arbiter does not belong to that pool")
	}
	return struct{}{}, a.forgetLocked("dismissed: " + t.Why)
}

// reopen starts the member anew with the times that were agreed meanwhile.
func (a *Arbiter) reopen(_ context.Context, t pool.Attempt) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.member == nil || a.member.Record().Pool != t.Pool {
		return nil, transport.Refuse("unknown_pool", "this Arbiter does not belong to that pool")
	}
	rec, dir := a.member.Record(), a.dir
	a.unwatchLocked()
	a.seen.Store(nil)
	if err := a.member.Close(); err != nil {
		a.cfg.Log.Warn("closing the member", "error", err)
	}
	a.member = nil
	return struct{}{}, a.openLocked(dir, rec)
}

// sightings tells what this Arbiter has seen of the Primary of a term.
func (a *Arbiter) sightings(_ context.Context, q pool.SightingsRequest) (any, error) {
	p := a.seen.Load()
	if p == nil || p.Record().Pool != q.Pool {
		return nil, transport.Refuse("unknown_pool", "this Arbiter does not belong to that pool")
	}
	return p.Sightings(q.Term), nil
}

// forgetLocked closes the member and removes every pool's folder.
func (a *Arbiter) forgetLocked(why string) error {
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	if a.member != nil {
		a.unwatchLocked()
		a.seen.Store(nil)
		if err := a.member.Close(); err != nil {
			a.cfg.Log.Warn("closing the member", "error", err)
		}
		a.member = nil
	}
	if a.dir != "" {
		a.cfg.Log.Info("pool forgotten", "why", why)
		a.event(journal.Warning, "pool", "forgotten", "this Arbiter belongs to no pool any more: "+why)
	}
	a.dir, a.attempt = "", pending{}
	return os.RemoveAll(a.pools())
}

func (a *Arbiter) pools() string { return filepath.Join(a.cfg.Dir, "pools") }

// resume starts the pool that this Arbiter belonged to before.
func (a *Arbiter) resume() error {
	dirs, err := os.ReadDir(a.pools())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the Arbiter's folder: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range dirs {
		dir := filepath.Join(a.pools(), d.Name())
		rec, err := pool.ReadRecord(dir)
		if errors.Is(err, fs.ErrNotExist) && isStray(dir) {
			a.stray.Store(&dir)
			a.cfg.Log.Error("this Arbiter joins no pool: its folder has the store of a pool without its record; run \"arbiter reset\" on it", "folder", dir)
			continue
		}
		if errors.Is(err, fs.ErrNotExist) { // asked to join, never given a plan: its Master asks again
			if err := os.RemoveAll(dir); err != nil {
				return fmt.Errorf("remove an unfinished attempt: %w", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		if a.member != nil {
			return fmt.Errorf("folder %s holds two pools: this release serves one; run \"arbiter reset\" or remove the wrong one", a.cfg.Dir)
		}
		if err := a.openLocked(dir, rec); err != nil {
			return err
		}
		if rec.Phase != pool.PhaseEffective {
			p, err := readPending(dir)
			if err != nil {
				a.cfg.Log.Warn("the time left for forming is not known; one minute more is given", "error", err)
				p = pending{Join: pool.JoinRequest{Pool: rec.Pool, Incarnation: rec.Incarnation, Remaining: time.Minute}}
			}
			a.countDownLocked(dir, p)
		}
	}
	return nil
}

func (a *Arbiter) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.seen.Store(nil)
	a.unwatchLocked()
	if a.member != nil {
		if err := a.member.Close(); err != nil {
			a.cfg.Log.Warn("closing the member", "error", err)
		}
		a.member = nil
	}
}
