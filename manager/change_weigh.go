package manager

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
	"redundancypool/vip"
)

// weigh checks the changes on the wire and with the members, puts the members' part into a, and
// returns the consequences.
func (e *engine) weigh(ctx context.Context, a *agreement, was, next settings.Settings) ([]control.Question, error) {
	var out []control.Question
	say := func(code, word, format string, args ...any) {
		out = append(out, control.Question{Code: code, Text: fmt.Sprintf(format, args...), Word: word})
	}
	if next.VIP != was.VIP {
		if next.VIP.Addr() != was.VIP.Addr() {
			owner, found, err := vip.Probe(ctx, interfaceFor(e.settings), next.VIP.Addr(), vip.DefaultProbeRounds, nil)
			if err != nil {
				return nil, fmt.Errorf("probe the new virtual IP: %w", err)
			}
			if found {
				return nil, fieldError("vip", "held", fmt.Sprintf("%v is held by %v", next.VIP.Addr(), owner), "choose a free address")
			}
		}
		say("vip", "change", "Clients are cut: %v is released, %v is bound and announced. Field units (%d connected now) and browsers must use the new address: give each unit a new profile. The pool's certificate gets the new address with the same key.",
			was.VIP.Addr(), next.VIP.Addr(), len(e.sessions()))
	}
	a.Members = slices.Clone(a.Members)
	for i := range a.Members {
		m := &a.Members[i]
		to := map[pool.Role]settings.Member{pool.Master: next.Local, pool.Backup: next.Peer, pool.Arbiter: next.Arbiter}[m.Role]
		moved := *m
		moved.Address, moved.Second, moved.Symbol, moved.Comment = to.AddrPort(), to.SecondAddrPort(), to.Symbol, to.Comment
		if moved.Address != m.Address || moved.Second != m.Second {
			warning, err := e.checkMoved(ctx, *m, moved)
			if err != nil {
				return nil, err
			}
			say("address", "", "%s is reached at %v from then on%s.", m.Name, moved.Address, warning)
		} else if moved != *m {
			say("name", "", "Symbol and comment of %s are changed; nothing is interrupted.", m.Name)
		}
		*m = moved
	}
	if next.Active != was.Active {
		if next.Active {
			say("active", "", "The Master takes Primary back by itself once it is up, in step and stable.")
		} else {
			say("active", "", "The Backup stays Primary after a takeover until somebody hands over.")
		}
	}
	if next.Timing != was.Timing {
		say("timing", "", "All members work by the new times; the worst-case takeover is %v then.", poolTiming(next).WorstTakeover())
	}
	test := *a
	test.VIP, test.Timing, test.Active = next.VIP, next.Timing, next.Active
	if e.runsOld(test.applied(e.m.settingsNow(), e.pool.Record().Self)) {
		if reasons := e.pool.State().Reasons; len(reasons) == 0 {
			say("restart", "", "The members restart their services one after another, the Primary last: Primary moves to the other Manager and back, each time for well under a second. Clients reconnect by themselves.")
		} else {
			say("restart", "", "The other Manager cannot take over now (%s), so this one restarts its services itself if that one stays away: an interruption of some seconds.", reasons[0].Text)
		}
	}
	return out, nil
}

// checkMoved makes sure that a member is there at its new address, before anybody counts on it.
func (e *engine) checkMoved(ctx context.Context, was, now pool.Member) (warning string, err error) {
	field := was.Role.String() + ".address"
	if !now.Address.IsValid() {
		return "", fieldError(field, "required", "the address is missing", "give the address of "+was.Name)
	}
	alive := was.ID == e.pool.Record().Self
	for _, o := range e.pool.State().Members {
		alive = alive || o.ID == was.ID && (o.Status == pool.Online || o.Status == pool.Primary)
	}
	if alive && was.Role != pool.Arbiter {
		if was.ID == e.pool.Record().Self {
			err = e.m.prepare(now)
		} else {
			err = e.m.call(ctx, was.Address, was.Fingerprint, methodPrepare, now, nil)
		}
		if err != nil {
			return "", fieldError(field, "not_there", fmt.Sprintf("%s cannot be reached there: %v", was.Name, err), "give that host the address first")
		}
	}
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, at := range []netip.AddrPort{now.Address, now.Second} {
		if !at.IsValid() || at == was.Address || at == was.Second {
			continue
		}
		if err := e.m.call(short, at, was.Fingerprint, pool.MethodGreet, struct{}{}, nil); err != nil {
			if alive {
				return "", fieldError(field, "unreachable", fmt.Sprintf("%s does not answer at %v: %v", was.Name, at, err), "check the address, and that it listens there")
			}
			warning = "; it does not answer there now"
		}
	}
	return warning, nil
}

// onPrepare answers whether this Manager can be reached at an address.
func (m *Manager) onPrepare(_ context.Context, at pool.Member) (any, error) {
	return struct{}{}, m.prepare(at)
}

// prepare checks that this host has the addresses, and listens on the pool port if it is a new one.
func (m *Manager) prepare(at pool.Member) error {
	all, err := vip.LocalAddresses()
	if err != nil {
		return err
	}
	for _, want := range []netip.AddrPort{at.Address, at.Second} {
		if want.IsValid() && !slices.ContainsFunc(all, func(a vip.LocalAddress) bool { return a.Address.Addr() == want.Addr() }) {
			return transport.Refuse("not_there", "this host has no address %v", want.Addr())
		}
	}
	port := at.Address.Port()
	if m.port.Listens(port) {
		return nil
	}
	if m.cfg.PoolListen != "" {
		return transport.Refuse("fixed_port", "this Manager was started with --pool-listen %s: start it without, or with the new port", m.cfg.PoolListen)
	}
	ln, err := net.Listen("tcp", ":"+strconv.Itoa(int(port)))
	if err != nil {
		return transport.Refuse("port", "listen on port %d: %v", port, err)
	}
	return m.port.Listen(ln)
}

// certify puts the new virtual IP into the pool's certificate. The key stays, so that no profile
// of a field unit has to trust another one.
func (e *engine) certify(a *agreement, was, next settings.Settings) error {
	if next.VIP.Addr() == was.VIP.Addr() {
		return nil
	}
	cert, key, err := e.m.trust.PoolCertificatePEM()
	if err != nil {
		return err
	}
	fresh, err := trust.RenewPoolCertificate(cert, key, next.VIP.Addr(), was.VIP.Addr())
	if err != nil {
		return err
	}
	a.Certificate = string(fresh)
	return nil
}
