package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"redundancypool/arbiter"
	"redundancypool/fieldunit/broker"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/vip"
)

// engine is what runs behind the pages in one mode: the database, the membership in the pool and
// the virtual IP's keeper. A Backup on hold has none of the last two.
type engine struct {
	m        *Manager
	settings settings.Settings
	db       *database.Store
	pool     *pool.Pool
	proposer *proposer
	keeper   *vip.Keeper
	vipErr   error // why there is no keeper although there should be
	survivor bool  // goes on alone with the virtual IP after the others were lost

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{} // closed once pool and proposer are set
	events chan journal.Event

	duty     atomic.Pointer[duty]  // while this node is Primary
	drilling atomic.Pointer[drill] // under way, led by this node
	link     linkCheck
	// transfer is the last whole copy of the database that was sent or received.
	transfer *transfer
}

// openEngine opens what the settings and folders say.
func (m *Manager) openEngine(ctx context.Context) (*engine, error) {
	s, prog, _ := m.snapshot()
	e := &engine{m: m, settings: s, events: make(chan journal.Event, 256), ready: make(chan struct{}), transfer: newTransfer()}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if !exists(m.poolDir()) && s.Mode == settings.Backup {
		e.startHold(prog)
		return e, nil
	}
	rec, err := m.ownRecord(s)
	if err != nil {
		return nil, err
	}
	e.survivor = rec.Phase == pool.PhaseForced || survivorForms(prog)
	if err := e.openMember(ctx, rec); err != nil {
		e.cancel()
		return nil, err
	}
	if s.Mode != settings.Standalone && s.Mode != "" {
		e.wg.Go(func() { e.watch(e.ctx) })
	}
	if s.Mode == settings.Master && prog.Forming {
		e.wg.Go(func() { e.form(e.ctx) })
	}
	if s.Mode == settings.Backup && prog.Forming {
		e.wg.Go(func() { e.awaitEffective(e.ctx) })
	}
	return e, nil
}

// ownRecord reads the pool record, or founds a pool of one in an empty folder.
func (m *Manager) ownRecord(s settings.Settings) (pool.Record, error) {
	rec, err := pool.ReadRecord(m.poolDir())
	switch {
	case err == nil:
		return m.renew(rec, s)
	case !errors.Is(err, fs.ErrNotExist):
		return pool.Record{}, err
	}
	if exists(m.databaseDir()) && !exists(m.poolDir()) {
		return pool.Record{}, fmt.Errorf("folder %s has a database but no pool record: restore %s from the same backup, or start on an empty folder and use \"manager database restore\"", m.cfg.Dir, m.poolDir())
	}
	if err := os.MkdirAll(m.poolDir(), 0o700); err != nil {
		return pool.Record{}, err
	}
	return pool.Create(m.poolDir(), m.self(s), poolTiming(s))
}

// renew brings this node's own changeable facts and, in a pool of one, the timing up to date.
func (m *Manager) renew(rec pool.Record, s settings.Settings) (pool.Record, error) {
	before := asJSON(rec)
	me := m.self(s)
	for i, old := range rec.Members {
		if old.ID != rec.Self {
			continue
		}
		me.ID, me.Role, me.Deactivated = old.ID, old.Role, old.Deactivated
		if !me.Address.IsValid() {
			me.Address = old.Address
		}
		members := append([]pool.Member(nil), rec.Members...)
		members[i] = me
		rec.Members = members
	}
	if rec.Phase == pool.PhaseSingle {
		rec.Timing = poolTiming(s)
	}
	if rec.Phase == pool.PhaseForced && s.Mode == settings.Standalone {
		rec.Phase, rec.VIP = pool.PhaseSingle, ""
		me.Role = pool.Standalone
		rec.Members = []pool.Member{me}
	}
	if asJSON(rec) == before {
		return rec, nil
	}
	return rec, pool.WriteRecord(m.poolDir(), rec)
}

// survivorForms tells that the one who forms a pool anew is a survivor that went on alone.
func survivorForms(p settings.Progress) bool {
	return p.Forming && p.Before != nil && p.Before.Mode != settings.Standalone && p.Before.Mode != ""
}

func asJSON(v any) string { b, _ := json.Marshal(v); return string(b) }

// self is this node as a member, without its id.
func (m *Manager) self(s settings.Settings) pool.Member {
	text, _ := m.trust.Fingerprint().MarshalText()
	return pool.Member{
		Name: nodeName(s, m.trust), Role: pool.Standalone, Address: localAddr(s), Second: s.Local.SecondAddrPort(),
		Fingerprint: string(text), MAC: macOf(s), Symbol: s.Local.Symbol, Comment: s.Local.Comment,
	}
}

// macOf returns the hardware address of the interface that will carry the VIP, empty if unknown.
func macOf(s settings.Settings) string {
	all, err := vip.LocalAddresses()
	if err != nil {
		return ""
	}
	for _, a := range all {
		if a.Address.Addr() == s.Local.Address && s.Local.Address.IsValid() || s.Interface != "" && a.Interface == s.Interface {
			return a.MAC.String()
		}
	}
	return ""
}

func poolTiming(s settings.Settings) pool.Timing {
	t := s.Timing
	return pool.Timing{
		HeartbeatPeriod: t.HeartbeatPeriod, HeartbeatTimeout: t.HeartbeatTimeout, MissedHeartbeats: t.MissedHeartbeats,
		ConnectTimeout: t.ConnectTimeout, LongLivedTimeout: t.LongLivedTimeout, ConnectionWait: t.ConnectionWait,
		StabilityDelay: t.StabilityDelay, DiskTimeout: t.DiskTimeout, HoldTimeout: t.HoldTimeout,
	}
}

// openMember opens database, keeper and pool.
func (e *engine) openMember(ctx context.Context, rec pool.Record) (err error) {
	m := e.m
	if e.db, err = database.Open(ctx, database.Config{Dir: m.databaseDir(), Log: m.log}); err != nil {
		return err
	}
	if e.settings.Mode != settings.Standalone && e.settings.VIP.IsValid() {
		e.openKeeper(ctx)
	}
	e.pool, err = pool.Open(pool.Config{
		Dir: m.poolDir(), Record: rec, Port: m.port, Dialer: m.dialer, Machine: machine{e.db, e.transfer},
		Expelled: e.expelled,
		Serve:    e.serve, Canary: e.canary, Event: e.poolEvent, Fit: e.fit, Version: m.cfg.Version, Log: m.log,
		Maintenance: e.settings.Deactivated || deactivated(rec), Facts: e.facts,
	})
	if err != nil {
		return errors.Join(err, e.closeKeeper(), e.db.Close())
	}
	e.proposer = newProposer(e.pool)
	close(e.ready)
	e.wg.Go(func() { e.replicateEvents(e.ctx) })
	e.wg.Go(func() { e.tellNoPrimary(e.ctx) })
	e.wg.Go(func() { m.logs.collect(e.ctx, e.pool) })
	e.wg.Go(func() {
		arbiter.WatchMembers(e.ctx, e.pool, func(ev journal.Event) { ev.Node = m.name(); m.record(ev) })
	})
	e.wg.Go(func() { e.follow(e.ctx) })
	e.wg.Go(func() { e.tend(e.ctx) })
	return nil
}

// deactivated reports whether the pool agreed on maintenance of this member.
func deactivated(rec pool.Record) bool {
	me, _ := rec.Member(rec.Self)
	return me.Deactivated
}

func (e *engine) openKeeper(ctx context.Context) {
	c := vip.DefaultConfig()
	t := e.settings.Timing
	c.Address, c.Interface, c.GuardCommand = e.settings.VIP, e.settings.Interface, e.m.cfg.GuardCommand
	c.AnnounceCount, c.AnnounceInterval, c.AnnouncePeriod = t.AnnounceCount, t.AnnounceInterval, t.AnnouncePeriod
	c.Log, c.Event = e.m.log, e.vipEvent
	if e.keeper, e.vipErr = vip.Open(ctx, c); e.vipErr != nil {
		e.keeper = nil
		e.m.event(journal.Error, "vip", "vip_unavailable", "the virtual IP cannot be held here: "+e.vipErr.Error(), nil)
	}
}

func (e *engine) closeKeeper() error {
	if e.keeper == nil {
		return nil
	}
	return e.keeper.Close()
}

// close lays everything down, in the order of dependence.
func (e *engine) close() error {
	e.cancel()
	e.wg.Wait()
	var errs []error
	if e.pool != nil {
		errs = append(errs, e.pool.Close())
	}
	errs = append(errs, e.closeKeeper())
	if e.db != nil {
		errs = append(errs, e.db.Close())
	}
	return errors.Join(errs...)
}

// handOverOnStop moves Primary to the other Manager before this process ends, if that is safe.
func (e *engine) handOverOnStop() {
	if e.pool == nil || e.pool.State().Status != pool.Primary {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	term, began := e.pool.State().Term, time.Now()
	steps := func(s string) { e.m.log.Info("hand over", "step", s) }
	for {
		err := e.pool.HandOverFor(ctx, pool.CauseStopped, "this Manager is being stopped", steps)
		if err == nil {
			break
		}
		// A Backup that has just fallen an entry behind is in step again in a moment.
		if time.Since(began) > time.Second || e.pool.State().Status != pool.Primary || e.pool.State().Health == pool.Failure {
			e.m.log.Warn("stopping without a hand over", "error", err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	// The new Primary's first entries still want this node's copy: it goes once they are there.
	if _, err := e.awaitHandOver(ctx, "", began, term, steps); err != nil {
		e.m.log.Warn("stopping before the other Manager has the virtual IP", "error", err)
	}
}

// facts are shown of this Manager by every member. It does not block.
func (e *engine) facts() pool.Facts {
	f := e.m.facts.Now()
	f.FieldUnits, f.Browsers = len(e.sessions()), e.m.pages.Browsers()
	return f
}

// canary writes through the whole path.
func (e *engine) canary(ctx context.Context) error {
	_, err := e.proposer.propose(ctx, database.Canary{})
	if errors.Is(err, pool.ErrRefused) {
		return nil // leadership is just moving; that is not this node's disk
	}
	return err
}

// fit says why this node could not serve as Primary of a pool now.
func (e *engine) fit() error {
	if e.vipErr != nil {
		return fmt.Errorf("the virtual IP cannot be held here: %w", e.vipErr)
	}
	if e.keeper == nil {
		return nil
	}
	return e.link.up(e.settings.Local.Address)
}

// linkCheck remembers for a moment whether the interface towards the LAN works.
type linkCheck struct {
	mu   sync.Mutex
	at   time.Time
	last error
}

func (l *linkCheck) up(local netip.Addr) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) < 200*time.Millisecond {
		return l.last
	}
	l.at, l.last = time.Now(), nil
	all, err := vip.LocalAddresses()
	if err != nil {
		return nil // not knowing is no reason to stop
	}
	for _, a := range all {
		if a.Address.Addr() == local {
			if !a.Up {
				l.last = fmt.Errorf("interface %s has no carrier or is down", a.Interface)
			}
			return l.last
		}
	}
	l.last = fmt.Errorf("this host has no address %v any more", local)
	return l.last
}

// sessions returns the connected field units.
func (e *engine) sessions() []broker.Session {
	if d := e.duty.Load(); d != nil && d.broker != nil {
		return d.broker.Sessions()
	}
	return nil
}

// knownMAC tells the other Manager's hardware address from a stranger's.
func (e *engine) knownMAC(mac net.HardwareAddr) bool {
	rec := e.pool.Record()
	for _, m := range rec.Members {
		if m.ID != rec.Self && m.MAC != "" && m.MAC == mac.String() {
			return true
		}
	}
	return false
}
