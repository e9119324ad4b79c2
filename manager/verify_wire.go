package manager

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"

	"redundancypool/manager/settings"
	"redundancypool/vip"
)

// verifyWire asks the LAN who has the virtual IP.
func (m *Manager) verifyWire(ctx context.Context, s settings.Settings, f *findings) {
	if !s.VIP.IsValid() {
		return
	}
	if err := vip.Permitted(); err != nil {
		f.add("vip_free", "vip", "", unknown, "asking on the wire needs CAP_NET_RAW", "")
		return
	}
	on := interfaceFor(s)
	if on == "" {
		f.add("vip_free", "vip", "", unknown, "the interface is not known: this host has no address "+s.Local.Address.String(), "")
		return
	}
	_, _, e := m.snapshot()
	if e != nil && e.keeper != nil && e.keeper.State().Bound && e.settings.VIP == s.VIP {
		f.add("vip_free", "vip", "", ok, "this Manager holds the virtual IP", "")
		return
	}
	owner, found, err := vip.Probe(ctx, on, s.VIP.Addr(), vip.DefaultProbeRounds, nil)
	switch {
	case err != nil:
		f.add("vip_free", "vip", "", unknown, err.Error(), "")
	case found && !m.isMember(owner) && !isPeer(ctx, s, owner):
		f.add("vip_free", "vip", "", failed, fmt.Sprintf("the virtual IP %v is held by %v", s.VIP.Addr(), owner), "look for a second host with this address, or choose another")
	case found:
		f.add("vip_free", "vip", "", ok, "the other Manager holds the virtual IP", "")
	default:
		f.add("vip_free", "vip", "", ok, fmt.Sprintf("nobody answers for the virtual IP %v", s.VIP.Addr()), "")
	}
}

// verifyLayer2 checks that a member is a neighbour: a virtual IP does not cross a router.
func verifyLayer2(ctx context.Context, s settings.Settings, p partner, f *findings) {
	const fix = "put both Managers into one layer-2 network: the virtual IP does not cross a router"
	code, role, at := p.role.String()+"_layer2", p.role.String(), p.at.Addr()
	way, err := vip.WayTo(at)
	on := interfaceFor(s)
	switch {
	case err != nil:
		f.add(code, p.field, role, failed, err.Error(), "correct the address, or this host's routes")
		return
	case way.Router.IsValid():
		f.add(code, p.field, role, failed, fmt.Sprintf("%v is behind the router %v", at, way.Router), fix)
		return
	case on != "" && way.Interface != on:
		f.add(code, p.field, role, failed, fmt.Sprintf("%v is reached through %s, and the virtual IP is on %s", at, way.Interface, on), fix)
		return
	}
	if vip.Permitted() != nil || on == "" {
		f.add(code, p.field, role, unknown, "whether it is a neighbour cannot be asked without CAP_NET_RAW and a local address", "")
		return
	}
	switch owner, found, err := vip.Probe(ctx, on, at, vip.DefaultProbeRounds, nil); {
	case err != nil:
		f.add(code, p.field, role, unknown, err.Error(), "")
	case found:
		f.add(code, p.field, role, ok, fmt.Sprintf("%v is a neighbour on %s: %v answers for it directly", at, on, owner), "")
	default:
		f.add(code, p.field, role, unknown, fmt.Sprintf("nobody on %s answers for %v", on, at), "check that it runs; if it does, it is not in this layer-2 network, and the virtual IP cannot move to it")
	}
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

// probeVIP asks the wire for an owner of the virtual IP that is not this node.
func (m *Manager) probeVIP(ctx context.Context, e *engine) (net.HardwareAddr, bool, error) {
	if e.keeper == nil {
		return nil, false, errors.New("no virtual IP is configured")
	}
	return e.keeper.Probe(ctx, nil)
}
