package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LocalAddress is one address of one interface of this host. An interface without addresses
// appears once, with an invalid Address.
type LocalAddress struct {
	Interface string
	Index     int
	MAC       net.HardwareAddr
	Address   netip.Prefix
	// Dynamic: the address has a limited lifetime, as one from DHCP or router advertisements.
	Dynamic  bool
	Loopback bool
	// Up: administratively up and with carrier.
	Up bool
}

// leftoverOf tells whether l is what a process like this one leaves behind: the VIP bound as a
// /32 or /128 with a limited lifetime. An address that somebody configured has neither.
func (l LocalAddress) leftoverOf(vip netip.Addr) bool {
	return l.Dynamic && l.Address.Addr() == vip && l.Address.IsSingleIP()
}

// LocalAddresses lists the interfaces and addresses of this host, in the kernel's order. It
// needs no privilege.
func LocalAddresses() ([]LocalAddress, error) {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []LocalAddress
	for _, link := range links {
		at := link.Attrs()
		l := LocalAddress{
			Interface: at.Name,
			Index:     at.Index,
			MAC:       at.HardwareAddr,
			Loopback:  at.Flags&net.FlagLoopback != 0,
			Up:        linkUp(at),
		}
		before := len(out)
		for _, a := range addrs {
			ip, ok := netip.AddrFromSlice(a.IP)
			if !ok || a.LinkIndex != at.Index {
				continue
			}
			ones, _ := a.Mask.Size()
			l.Address = netip.PrefixFrom(ip.Unmap(), ones)
			l.Dynamic = a.Flags&unix.IFA_F_PERMANENT == 0
			out = append(out, l)
		}
		if len(out) == before {
			out = append(out, l)
		}
	}
	return out, nil
}

// linkUp: IFF_UP is the administrator's wish, IFF_RUNNING the driver's word that frames pass.
func linkUp(at *netlink.LinkAttrs) bool {
	return at.RawFlags&unix.IFF_UP != 0 && at.RawFlags&unix.IFF_RUNNING != 0
}
