package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// Gateways lists the routers that this host sends to, each once. It needs no privilege.
func Gateways() ([]netip.Addr, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []netip.Addr
	add := func(ip net.IP) {
		if a, ok := netip.AddrFromSlice(ip); ok && !a.IsUnspecified() && !slices.Contains(out, a.Unmap()) {
			out = append(out, a.Unmap())
		}
	}
	for _, r := range routes {
		add(r.Gw)
		for _, hop := range r.MultiPath {
			add(hop.Gw)
		}
	}
	return out, nil
}

// Way is how this host reaches an address.
type Way struct {
	Interface string
	Router    netip.Addr // invalid: straight, on the link of Interface
}

// WayTo asks the kernel's routing for a. It sends nothing and needs no privilege.
func WayTo(a netip.Addr) (Way, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return Way{}, fmt.Errorf("route to %v: %w", a, err)
	}
	if len(routes) == 0 {
		return Way{}, fmt.Errorf("route to %v: there is none", a)
	}
	r := routes[0]
	ifi, err := net.InterfaceByIndex(r.LinkIndex)
	if err != nil {
		return Way{}, fmt.Errorf("route to %v: interface %d: %w", a, r.LinkIndex, err)
	}
	w := Way{Interface: ifi.Name}
	if gw, ok := netip.AddrFromSlice(r.Gw); ok && !gw.IsUnspecified() {
		w.Router = gw.Unmap()
	}
	return w, nil
}
