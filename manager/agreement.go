package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

// agreement is what all members of a running pool have the same beside the data. The Primary
// changes it by an entry of the log, so both Managers get it, whenever they return; the Arbiter
// gets its part from the leader. Each Manager puts its own view of it into its settings.
type agreement struct {
	Revision    uint64          `json:"revision"`
	Incarnation string          `json:"incarnation"`
	Members     []pool.Member   `json:"members"`
	Gone        []pool.Gone     `json:"gone,omitempty"`
	Timing      settings.Timing `json:"timing"`
	VIP         netip.Prefix    `json:"vip"`
	Active      bool            `json:"active"`
	// Certificate of the virtual IP, PEM; its key stays as it was, on both Managers.
	Certificate string `json:"certificate,omitempty"`
	// Home is who is to be Primary again once everybody works by this; empty: all do.
	Home pool.MemberID `json:"home,omitempty"`
}

// agreementKey is the replicated setting that holds it.
const agreementKey = "pool.agreement"

// agreed reads the agreement of this pool; false when nothing was changed since the forming.
func (e *engine) agreed(ctx context.Context) (a agreement, found bool, err error) {
	text, err := e.db.Setting(ctx, agreementKey)
	if errors.Is(err, database.ErrNotFound) {
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return a, false, fmt.Errorf("read the pool's agreement: %w", err)
	}
	return a, a.Incarnation == e.pool.Record().Incarnation, nil
}

// present is the agreement, made of the forming's plan when nothing was changed since.
func (e *engine) present(ctx context.Context) (agreement, error) {
	a, found, err := e.agreed(ctx)
	if err != nil || found {
		return a, err
	}
	rec := e.pool.Record()
	a = agreement{Revision: rec.Revision, Incarnation: rec.Incarnation, Members: append([]pool.Member(nil), rec.Members...), Gone: rec.Gone, Timing: e.settings.Timing, VIP: e.settings.VIP, Active: rec.Active}
	a.Timing = withPool(a.Timing, rec.Timing)
	return a, nil
}

// withPool puts the pool's times over a node's settings.
func withPool(s settings.Timing, t pool.Timing) settings.Timing {
	s.HeartbeatPeriod, s.HeartbeatTimeout, s.MissedHeartbeats = t.HeartbeatPeriod, t.HeartbeatTimeout, t.MissedHeartbeats
	s.ConnectTimeout, s.LongLivedTimeout, s.ConnectionWait = t.ConnectTimeout, t.LongLivedTimeout, t.ConnectionWait
	s.StabilityDelay, s.DiskTimeout, s.HoldTimeout = t.StabilityDelay, t.DiskTimeout, t.HoldTimeout
	return s
}

// takeTiming makes this node, which is joining, work by the pool's times.
func (m *Manager) takeTiming(t pool.Timing) error {
	s := m.settingsNow()
	s.Timing = withPool(s.Timing, t)
	if err := settings.Save(m.cfg.Dir, s); err != nil {
		return err
	}
	m.mu.Lock()
	m.settings = s
	m.mu.Unlock()
	return nil
}

// onDuty reports whether this Manager serves as Primary. One that has just become it takes its
// duties up in a moment, which is waited for.
func (e *engine) onDuty(ctx context.Context) bool {
	for end := time.Now().Add(3 * time.Second); ; {
		if e.duty.Load() != nil {
			return true
		}
		if e.pool.State().Status != pool.Primary || time.Now().After(end) || !rest(ctx, nil, pace/5) {
			return false
		}
	}
}

// agree changes the agreement, on the Primary. When it returns, the change is committed and holds
// here; the others follow.
func (e *engine) agree(ctx context.Context, why string, change func(*agreement) error) error {
	e.m.agreeing.Lock()
	defer e.m.agreeing.Unlock()
	if !e.onDuty(ctx) {
		return refuse("not_primary", "do it on the Primary", "this Manager is not Primary")
	}
	a, err := e.present(ctx)
	if err != nil {
		return err
	}
	if err := change(&a); err != nil {
		return err
	}
	a.Revision++
	if _, err := e.proposer.propose(ctx, database.SettingPut{Key: agreementKey, Value: asJSON(a)}); err != nil {
		return fmt.Errorf("store the change in the pool's log: %w", err)
	}
	e.m.event(journal.Info, "pool", "agreed", why, map[string]any{"revision": a.Revision})
	return e.adopt(a)
}

// adopt makes this Manager work by a, as far as that needs no new start of its services.
func (e *engine) adopt(a agreement) error {
	rec := e.pool.Record()
	next := rec
	next.Members = append([]pool.Member(nil), a.Members...)
	me := -1
	for i, o := range next.Members {
		if o.ID == rec.Self {
			me = i
		}
	}
	if me < 0 {
		return nil // another has this member's place: it is told so when it calls
	}
	own, _ := rec.Member(rec.Self)
	next.Members[me].Name, next.Members[me].MAC = own.Name, own.MAC
	e.m.mu.Lock()
	s := a.applied(e.m.settings, rec.Self)
	changed := s != e.m.settings
	e.m.mu.Unlock()
	if err := e.keepCertificate(a.Certificate); err != nil {
		return err
	}
	if changed {
		if s.Mode == settings.Master && exists(e.m.asideDir()) { // else it would be taken for this node's own data
			if err := os.RemoveAll(e.m.asideDir()); err != nil {
				return err
			}
		}
		if err := settings.Save(e.m.cfg.Dir, s); err != nil {
			return err
		}
		e.m.mu.Lock()
		e.m.settings = s
		e.m.mu.Unlock()
	}
	next.Revision, next.Gone, next.Timing, next.VIP, next.Active = a.Revision, a.Gone, poolTiming(s), a.VIP.String(), a.Active
	if err := e.pool.Update(next); err != nil {
		return err
	}
	e.pool.SetMaintenance(s.Deactivated || next.Members[me].Deactivated)
	e.pool.SetStale(e.runsOld(s))
	return nil
}

// runsOld reports whether this engine was opened with values that are no longer agreed.
func (e *engine) runsOld(s settings.Settings) bool {
	o := e.settings
	return o.Timing != s.Timing || o.VIP != s.VIP || o.Local.AddrPort() != s.Local.AddrPort() || o.Local.SecondAddrPort() != s.Local.SecondAddrPort()
}

// applied puts the agreement over the settings of the member self.
func (a agreement) applied(s settings.Settings, self pool.MemberID) settings.Settings {
	member := func(m pool.Member) settings.Member {
		return settings.Member{Address: m.Address.Addr(), Port: m.Address.Port(), Second: m.Second.Addr(), Symbol: m.Symbol, Comment: m.Comment}
	}
	s.VIP, s.Timing = a.VIP, a.Timing
	for _, m := range a.Members {
		switch {
		case m.ID == self:
			s.Local = member(m)
			s.Mode = map[pool.Role]settings.Mode{pool.Master: settings.Master, pool.Backup: settings.Backup}[m.Role]
		case m.Role == pool.Arbiter:
			s.Arbiter = member(m)
		default:
			s.Peer = member(m)
		}
	}
	s.Active = a.Active && s.Mode == settings.Master
	return s
}

func (e *engine) keepCertificate(pem string) error {
	if pem == "" {
		return nil
	}
	have, key, err := e.m.trust.PoolCertificatePEM()
	if err != nil || string(have) == pem {
		return err
	}
	if err := e.m.trust.SavePoolCertificate([]byte(pem), key); err != nil {
		return err
	}
	e.m.certs.forget()
	return nil
}

// follow takes over what was agreed, as it comes with the log or with a copy of the database.
func (e *engine) follow(ctx context.Context) {
	seen := ^uint64(0)
	for {
		changed := e.pool.Changed()
		_, prog, _ := e.m.snapshot()
		at, _ := e.db.Applied()
		if rec := e.pool.Record(); at != seen && rec.Phase == pool.PhaseEffective && !prog.Forming {
			if err := e.followOnce(ctx, rec); err == nil {
				seen = at
			} else if ctx.Err() == nil {
				e.m.log.Warn("the pool's agreement is not taken over; trying again", "error", err)
			}
		}
		if !rest(ctx, nil, pace) || !rest(ctx, changed, pace) {
			return
		}
	}
}

func (e *engine) followOnce(ctx context.Context, rec pool.Record) error {
	a, found, err := e.agreed(ctx)
	if err != nil || !found || a.Revision < rec.Revision {
		return err
	}
	s, _, _ := e.m.snapshot()
	if a.Revision == rec.Revision && a.applied(s, rec.Self) == s {
		return nil
	}
	e.m.agreeing.Lock()
	defer e.m.agreeing.Unlock()
	return e.adopt(a)
}
