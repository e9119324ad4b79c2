package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// binding is what the guard needs to know to hold an address.
type binding struct {
	Address  netip.Addr    `json:"address"`
	Index    int           `json:"index"`    // of the interface
	Lifetime time.Duration `json:"lifetime"` // whole seconds
	Fence    time.Duration `json:"fence"`    // timeout of the fence's element; 0: there is no fence
	Farewell []Farewell    `json:"farewell"`
}

// host is the kernel as the guard sees it, through netlink sockets that were opened beforehand,
// so that the last minute needs no permission.
type host struct {
	route *netlink.Handle
	fence *fence
	diag  *diag
}

// openHost opens the sockets; guard: the nftables one too, see openFence.
func openHost(guard bool) (*host, error) {
	route, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	d, err := openDiag()
	if err != nil {
		route.Close()
		return nil, err
	}
	f, err := openFence(guard)
	if err != nil {
		route.Close()
		d.close()
		return nil, err
	}
	return &host{route: route, fence: f, diag: d}, nil
}

func (h *host) close() {
	h.route.Close()
	h.diag.close()
	h.fence.close()
}

// bind adds the address or refreshes its lifetime. The kernel adds it even when it has expired,
// so the caller looks at the clock before and after.
func (h *host) bind(b binding) error {
	a := kernelAddr(b.Address)
	a.LinkIndex = b.Index
	a.ValidLft = int(b.Lifetime / time.Second)
	// A preferred lifetime of 0 keeps IPv6 from choosing the VIP as a source address.
	a.PreferedLft = 0
	a.Flags = unix.IFA_F_NODAD // for IPv6; Acquire has probed already
	if b.Address.Is4() {
		a.PreferedLft = a.ValidLft
		a.Flags = 0
	}
	if err := h.route.AddrReplace(nil, a); err != nil {
		return fmt.Errorf("bind %v: %w", b.Address, err)
	}
	if b.Address.Is6() {
		return h.awaitLocal(b.Address)
	}
	return nil
}

// awaitLocal waits until the kernel takes packets to a for its own: it makes the route of an
// IPv6 address in a work queue, after the address is there.
func (h *host) awaitLocal(a netip.Addr) error {
	for range 250 {
		routes, err := h.route.RouteGet(a.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
		time.Sleep(200 * time.Microsecond)
	}
	return fmt.Errorf("bind %v: the kernel has made no route for it in 50 ms", a)
}

// unbind removes the address; that it is not there is no error.
func (h *host) unbind(address netip.Addr, index int) error {
	a := kernelAddr(address)
	a.LinkIndex = index
	err := h.route.AddrDel(nil, a)
	if err == nil || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return fmt.Errorf("remove %v: %w", address, err)
}

// bound tells whether the address is on the interface.
func (h *host) bound(address netip.Addr, index int) (bool, error) {
	family := netlink.FAMILY_V4
	if address.Is6() {
		family = netlink.FAMILY_V6
	}
	have, err := h.route.AddrList(nil, family)
	if err != nil {
		return false, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range have {
		if ip, ok := netip.AddrFromSlice(a.IP); ok && ip.Unmap() == address && a.LinkIndex == index {
			return true, nil
		}
	}
	return false, nil
}

// admit lets the address's packets pass for b.Fence from now; fresh allows that they did not
// pass before. Without fresh the error is errLapsed when the time had run out.
func (h *host) admit(b binding, fresh bool) error { return h.fence.admit(b, fresh) }

// shut stops the address's packets, resets excepted, and answers TCP to it with a reset.
func (h *host) shut(b binding) error { return h.fence.shut(b) }

// destroy ends the TCP connections of the address; their peers get a reset.
func (h *host) destroy(address netip.Addr) (int, error) { return h.diag.destroy(address) }

func kernelAddr(a netip.Addr) *netlink.Addr {
	bits := a.BitLen()
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(bits, bits)}}
}
