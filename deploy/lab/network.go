package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// bridgeName is the bridge of path i: br0 carries eth0 of every host, br1 carries eth1.
func bridgeName(i int) string { return fmt.Sprintf("br%d", i) }

// buildBridges makes one bridge per path in the switch's namespace. Multicast snooping is off:
// it would hold back the first seconds of IPv6 neighbour discovery.
func (l *Lab) buildBridges() error {
	paths := 1
	if l.cfg.SecondPath {
		paths = 2
	}
	for i := range paths {
		off := false
		attrs := netlink.NewLinkAttrs()
		attrs.Name = bridgeName(i)
		attrs.HardwareAddr = hardwareAddr(onPath(observerAddr, i).Addr())
		br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
		if err := l.swtch.nl.LinkAdd(br); err != nil {
			return fmt.Errorf("add bridge %s: %w", attrs.Name, err)
		}
		if err := addAddr(l.swtch.nl, attrs.Name, onPath(observerAddr, i)); err != nil {
			return err
		}
		if err := l.swtch.nl.LinkSetUp(br); err != nil {
			return fmt.Errorf("raise bridge %s: %w", attrs.Name, err)
		}
	}
	return nil
}

// connect makes the cable between a host's interface and its port on the bridge, both up.
func (k *Link) connect(host *namespace) error {
	l := k.host.lab
	attrs := netlink.NewLinkAttrs()
	attrs.Name = k.cable()
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         k.Interface(),
		PeerNamespace:    netlink.NsFd(host.handle),
		PeerHardwareAddr: hardwareAddr(k.Addr().Addr()),
	}
	if err := l.swtch.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("add cable of %s: %w", k.host.name, err)
	}
	if err := k.enslave(k.cable()); err != nil {
		return err
	}
	if err := addAddr(host.nl, k.Interface(), k.Addr()); err != nil {
		return err
	}
	return setUp(host.nl, k.Interface(), true)
}

// enslave makes the named interface of the switch a port of this path's bridge and raises it.
func (k *Link) enslave(name string) error {
	nl := k.host.lab.swtch.nl
	br, err := nl.LinkByName(bridgeName(k.index))
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	port, err := nl.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find port %s: %w", name, err)
	}
	if err := nl.LinkSetMaster(port, br); err != nil {
		return fmt.Errorf("join %s to the bridge: %w", name, err)
	}
	return setUp(nl, name, true)
}

func addAddr(nl *netlink.Handle, ifname string, p netip.Prefix) error {
	link, err := nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", ifname, err)
	}
	if err := nl.AddrReplace(link, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
		return fmt.Errorf("add address %v to %s: %w", p, ifname, err)
	}
	return nil
}

func setUp(nl *netlink.Handle, ifname string, up bool) error {
	link, err := nl.LinkByName(ifname)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", ifname, err)
	}
	set, word := nl.LinkSetDown, "down"
	if up {
		set, word = nl.LinkSetUp, "up"
	}
	if err := set(link); err != nil {
		return fmt.Errorf("set %s %s: %w", ifname, word, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	a := p.Addr()
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(p.Bits(), a.BitLen())}
}

// onPath moves an address of the first path to path i: 10.0.0.7 is 10.0.1.7 on the second.
func onPath(p netip.Prefix, i int) netip.Prefix {
	b := p.Addr().As4()
	b[2] += byte(i)
	return netip.PrefixFrom(netip.AddrFrom4(b), p.Bits())
}

// hardwareAddr derives a locally administered MAC from an IPv4 address, so that a host keeps its
// MAC through power off and a capture can be read.
func hardwareAddr(a netip.Addr) net.HardwareAddr {
	b := a.As4()
	return net.HardwareAddr{0x02, 0x00, b[0], b[1], b[2], b[3]}
}
