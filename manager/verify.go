package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/vip"
)

// findings are what can be checked of settings on this host and on the wire.
type findings struct{ checks []control.Check }

func (f *findings) add(code, member, result, text, fix string) {
	f.checks = append(f.checks, control.Check{Code: code, Member: member, Result: result, Text: text, Fix: fix})
}

// The results of a check.
const (
	ok      = "ok"
	warning = "warning"
	failed  = "failed"
	unknown = "unknown"
)

// fieldOf names the form's field of a check.
var fieldOf = map[string]string{
	"local_address": "local.address", "interface": "interface", "vip_free": "vip", "bind_right": "vip", "timing": "timing",
	"master_connect": "peer.address", "backup_connect": "peer.address", "arbiter_connect": "arbiter.address",
}

// Verify implements control.Redundancy.
func (f faces) Verify(ctx context.Context, form control.Form) (control.VerifyReport, error) {
	s, _, _ := f.m.snapshot()
	next, err := s.Apply(form.Values)
	if err != nil {
		return control.VerifyReport{}, fieldErrors(err)
	}
	var out findings
	if err := next.Validate(); err != nil {
		var es settings.Errors
		if !errors.As(err, &es) {
			return control.VerifyReport{}, err
		}
		for _, e := range es {
			out.add(e.Field+"_"+e.Code, "", failed, e.Message, e.Fix)
		}
	}
	f.m.inspect(ctx, next, &out)
	f.m.tryConnect(ctx, next, &out)
	r := control.VerifyReport{OK: true, Checks: out.checks}
	for _, c := range out.checks {
		r.OK = r.OK && c.Result != failed
	}
	return r, nil
}

// checkBeforeSet refuses settings that cannot work, beside their field; nothing is changed then.
func (m *Manager) checkBeforeSet(ctx context.Context, next settings.Settings, _ control.Form) error {
	var f findings
	m.inspect(ctx, next, &f)
	out := &control.Error{Code: "invalid", Message: "the settings cannot be used"}
	for _, c := range f.checks {
		if c.Result == failed {
			out.Fields = append(out.Fields, control.FieldError{Field: fieldOf[c.Code], Code: c.Code, Message: c.Text, Fix: c.Fix})
		}
	}
	if len(out.Fields) > 0 {
		return out
	}
	return nil
}

// inspect looks at this host and asks the wire.
func (m *Manager) inspect(ctx context.Context, s settings.Settings, f *findings) {
	if s.Mode == settings.Standalone || s.Mode == "" {
		f.add("mode", "", ok, "Standalone needs no partner", "")
		return
	}
	if err := poolTiming(s).Validate(); err != nil {
		f.add("timing", "", failed, err.Error(), "correct the advanced settings")
	} else {
		f.add("timing", "", ok, fmt.Sprintf("worst-case takeover %v", poolTiming(s).WorstTakeover()), "")
	}
	if err := vip.Permitted(); err != nil {
		f.add("bind_right", "", failed, err.Error(), "run the Manager as root or give it CAP_NET_ADMIN and CAP_NET_RAW")
		return
	}
	m.inspectLocal(s, f)
	c := vip.DefaultConfig()
	c.Address, c.Interface, c.GuardCommand = s.VIP, s.Interface, m.cfg.GuardCommand
	if err := c.Validate(); err != nil {
		f.add("interface", "", failed, err.Error(), "correct the virtual IP or its interface")
		return
	}
	_, _, e := m.snapshot()
	if e != nil && e.keeper != nil && e.keeper.State().Bound && e.settings.VIP == s.VIP {
		f.add("vip_free", "", ok, "this Manager holds the virtual IP", "")
		return
	}
	owner, found, err := vip.Probe(ctx, interfaceFor(s), s.VIP.Addr(), vip.DefaultProbeRounds, nil)
	switch {
	case errors.Is(err, vip.ErrNotPermitted):
		f.add("bind_right", "", failed, err.Error(), "run the Manager as root or give it CAP_NET_ADMIN and CAP_NET_RAW")
	case err != nil:
		f.add("vip_free", "", unknown, err.Error(), "")
	case found && !m.isMember(owner) && !isPeer(ctx, s, owner):
		f.add("vip_free", "", failed, fmt.Sprintf("the virtual IP %v is held by %v", s.VIP.Addr(), owner), "look for a second host with this address, or choose another")
	case found:
		f.add("vip_free", "", ok, "the other Manager holds the virtual IP", "")
	default:
		f.add("vip_free", "", ok, fmt.Sprintf("nobody answers for the virtual IP %v", s.VIP.Addr()), "")
	}
}

func (m *Manager) inspectLocal(s settings.Settings, f *findings) {
	all, err := vip.LocalAddresses()
	if err != nil {
		f.add("local_address", "", unknown, err.Error(), "")
		return
	}
	for _, a := range all {
		if a.Address.Addr() != s.Local.Address {
			continue
		}
		if a.Dynamic {
			f.add("local_static", "", warning, fmt.Sprintf("%v on %s has a limited lifetime, as one from DHCP", s.Local.Address, a.Interface), "give this host a static address")
		} else {
			f.add("local_address", "", ok, fmt.Sprintf("%v is on %s", s.Local.Address, a.Interface), "")
		}
		return
	}
	f.add("local_address", "", failed, fmt.Sprintf("this host has no address %v", s.Local.Address), "choose one of this host's addresses")
}

// interfaceFor is the interface of the form, or the one that has the node's address.
func interfaceFor(s settings.Settings) string {
	if s.Interface != "" {
		return s.Interface
	}
	all, _ := vip.LocalAddresses()
	for _, a := range all {
		if a.Address.Addr() == s.Local.Address {
			return a.Interface
		}
	}
	return ""
}

// isMember tells whether a hardware address is the other Manager's.
func (m *Manager) isMember(mac net.HardwareAddr) bool {
	_, _, e := m.snapshot()
	return e != nil && e.pool != nil && e.knownMAC(mac)
}

// isPeer tells whether the other Manager's own address is at that hardware address: a survivor
// holds the virtual IP while its new partner is being set.
func isPeer(ctx context.Context, s settings.Settings, mac net.HardwareAddr) bool {
	owner, found, err := vip.Probe(ctx, interfaceFor(s), s.Peer.Address, vip.DefaultProbeRounds, nil)
	return err == nil && found && bytes.Equal(owner, mac)
}

// tryConnect opens a plain connection to each member and says exactly what it came to.
func (m *Manager) tryConnect(ctx context.Context, s settings.Settings, f *findings) {
	try := func(role string, at netip.AddrPort) {
		if !at.IsValid() {
			return
		}
		c, cancel := context.WithTimeout(ctx, s.Timing.ConnectTimeout)
		defer cancel()
		began := time.Now()
		conn, err := (&net.Dialer{}).DialContext(c, "tcp", at.String())
		took := time.Since(began).Round(10 * time.Microsecond)
		if err != nil {
			f.add(role+"_connect", role, failed, fmt.Sprintf("%v after %v: %v", at, took, err), "check address, port, firewall, and that it runs")
			return
		}
		conn.Close()
		f.add(role+"_connect", role, ok, fmt.Sprintf("%v answers after %v", at, took), "")
	}
	switch s.Mode {
	case settings.Master:
		try(pool.Backup.String(), s.Peer.AddrPort())
		try(pool.Arbiter.String(), s.Arbiter.AddrPort())
	case settings.Backup:
		try(pool.Master.String(), s.Peer.AddrPort())
	}
}

// probeVIP asks the wire for an owner of the virtual IP that is not this node.
func (m *Manager) probeVIP(ctx context.Context, e *engine) (net.HardwareAddr, bool, error) {
	if e.keeper == nil {
		return nil, false, errors.New("no virtual IP is configured")
	}
	return e.keeper.Probe(ctx, nil)
}
