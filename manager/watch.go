package manager

import (
	"context"
	"fmt"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/web"
)

// How often a running pool verifies itself. One round costs each member a TLS handshake.
const (
	watchFirst = 3 * time.Second
	watchEvery = 30 * time.Second
)

// watched is what the last round came to.
type watched struct {
	at      time.Time // zero: none yet
	checks  []control.Check
	licence web.Licence
}

// watch verifies a running pool again and again: what the members' heartbeats do not tell.
func (e *engine) watch(ctx context.Context) {
	defer e.m.setWatched(watched{})
	for wait := min(watchFirst, e.m.cfg.VerifyEvery); ; wait = e.m.cfg.VerifyEvery {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if e.pool.Record().Phase != pool.PhaseEffective {
			e.m.setWatched(watched{})
			continue
		}
		w := e.verifyRunning(ctx)
		if ctx.Err() != nil {
			return
		}
		e.m.tellWatched(e.m.setWatched(w), w)
	}
}

func (m *Manager) setWatched(w watched) (before watched) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, m.watched = m.watched, w
	return before
}

func (m *Manager) lastWatched() watched {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.watched
}

// verifyRunning is one round.
func (e *engine) verifyRunning(ctx context.Context) watched {
	s, st := e.settings, e.pool.State()
	w := watched{licence: web.Licence{State: licenceUnknown, Text: "Unknown; the other Manager has not been heard"}}
	var f findings
	verifyTiming(s, &f)
	verifyReachableFromAll(s, &f)
	verifyLocal(s, &f)
	verifyGateway(s, &f)
	verifyClock(&f)
	e.m.verifySaved(&f)
	e.verifyHolder(&f)
	for _, o := range st.Members {
		if o.ID == st.Record.Self {
			continue
		}
		p := partner{role: o.Role, field: "peer.address", at: o.Address}
		if o.Role == pool.Arbiter {
			p.field = "arbiter.address"
		}
		if o.Status == pool.Unreachable || o.Status == pool.Unknown {
			f.add(o.Role.String()+"_connect", p.field, o.Role.String(), unknown, o.Name+" is not heard now", "")
			continue // the pool itself says so, and says more
		}
		var of findings
		e.m.verifyMember(ctx, s, p, &of)
		if p.role != pool.Arbiter {
			verifyLayer2(ctx, s, p, &of)
		}
		for i, c := range of.checks {
			if strings.HasSuffix(c.Code, "_connect") && c.Result == failed {
				of.checks[i].Result = unknown // the heartbeats come through the same port
			}
			if strings.HasSuffix(c.Code, "_licence") {
				w.licence = licenceOf(c)
			}
		}
		f.checks = append(f.checks, of.checks...)
	}
	w.at, w.checks = time.Now(), f.checks
	return w
}

func licenceOf(c control.Check) web.Licence {
	l := web.Licence{State: licenceMatch, Text: strings.TrimPrefix(c.Text, "licences: ")}
	if c.Result == failed {
		l.State = licenceMismatch
	}
	return l
}

// verifyHolder tells what the keeper of the virtual IP has seen on the wire.
func (e *engine) verifyHolder(f *findings) {
	switch {
	case e.keeper == nil && e.vipErr != nil:
		f.add("bind_right", "vip", "", failed, e.vipErr.Error(), "mend it, then restart this Manager")
		return
	case e.keeper == nil:
		return
	}
	f.add("bind_right", "vip", "", ok, "this Manager may bind addresses and send raw frames", "")
	c := e.keeper.State().LastConflict
	if c != nil && time.Since(c.At) < 2*watchEvery && !c.Peer {
		f.add("vip_free", "vip", "", failed, fmt.Sprintf("the virtual IP %v is also claimed by %v", e.settings.VIP.Addr(), c.MAC), "look for a second host with this address")
	} else {
		f.add("vip_free", "vip", "", ok, fmt.Sprintf("no other host claims the virtual IP %v", e.settings.VIP.Addr()), "")
	}
}

// key tells one check from another.
func key(c control.Check) string { return c.Code + " " + c.Field + " " + c.Member }

// tellWatched makes an event of each check that fails now and did not, and of each that did.
func (m *Manager) tellWatched(before, now watched) {
	failing := func(w watched) map[string]control.Check {
		out := map[string]control.Check{}
		for _, c := range w.checks {
			if c.Result == failed {
				out[key(c)] = c
			}
		}
		return out
	}
	old, fresh := failing(before), failing(now)
	for _, c := range now.checks {
		k := key(c)
		_, was := old[k]
		_, is := fresh[k]
		switch {
		case is && !was:
			m.event(journal.Warning, "verify", "verify_"+c.Code, c.Text+": "+c.Fix, map[string]any{"field": c.Field, "member": c.Member})
		case was && c.Result == ok:
			m.event(journal.Info, "verify", "verify_passed", c.Text, map[string]any{"check": c.Code, "field": c.Field, "member": c.Member})
		}
	}
}

// describeWatched adds what failed to the reasons, and the pair's licence.
func (m *Manager) describeWatched(r *web.Redundancy) {
	w := m.lastWatched()
	if w.licence.State != "" {
		r.Licence = w.licence
	}
	for _, c := range w.checks {
		if c.Result == failed && c.Code != "vip_free" { // a conflict has a reason of its own
			r.Reasons = append(r.Reasons, web.Reason{Code: "verify_" + c.Code, Text: c.Text, Fix: c.Fix})
		}
	}
}

func (m *Manager) webWatched() web.Watched {
	w := m.lastWatched()
	return web.Watched{At: w.at, Checks: webChecks(w.checks)}
}
