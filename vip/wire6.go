package vip

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/sys/unix"
)

type ndpWire struct {
	conn    *ndp.Conn
	mac     net.HardwareAddr
	address netip.Addr
	group   netip.Addr // solicited-node multicast address of the VIP
	claimed chan net.HardwareAddr
	done    chan struct{}
}

func openNDP(ifi *net.Interface, a netip.Addr) (*ndpWire, error) {
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %s has no Ethernet address: choose an Ethernet interface", ifi.Name)
	}
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return nil, fmt.Errorf("solicited-node address of %v: %w", a, err)
	}
	conn, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, fmt.Errorf("listen for neighbour discovery on %s (it needs a link-local address): %w", ifi.Name, err)
	}
	// Unsolicited advertisements of others go to all nodes; a bound socket hears only groups it joined.
	if err := conn.JoinGroup(netip.IPv6LinkLocalAllNodes()); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("join all-nodes group on %s: %w", ifi.Name, err)
	}
	w := &ndpWire{conn: conn, mac: ifi.HardwareAddr, address: a, group: group,
		claimed: make(chan net.HardwareAddr, 16), done: make(chan struct{})}
	go w.read()
	return w, nil
}

func (w *ndpWire) close() error {
	err := w.conn.Close()
	<-w.done
	return err
}

func (w *ndpWire) claims() <-chan net.HardwareAddr { return w.claimed }

func (w *ndpWire) read() {
	defer close(w.done)
	for {
		m, _, _, err := w.conn.ReadFrom()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		if err != nil { // malformed message, or the interface went down
			time.Sleep(pauseAfterError)
			continue
		}
		if mac := ndpClaim(m, w.address); mac != nil {
			select {
			case w.claimed <- mac:
			default:
			}
		}
	}
}

// ndpClaim returns the hardware address in a neighbour advertisement for address a, else nil.
func ndpClaim(m ndp.Message, a netip.Addr) net.HardwareAddr {
	na, ok := m.(*ndp.NeighborAdvertisement)
	if !ok || na.TargetAddress != a {
		return nil
	}
	for _, o := range na.Options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == ndp.Target {
			return l.Addr
		}
	}
	return nil
}

// probe sends a neighbour solicitation from the link-local address, which asks for an answer
// that carries the owner's hardware address (RFC 4861, 7.2.2).
func (w *ndpWire) probe() error {
	m := &ndp.NeighborSolicitation{TargetAddress: w.address,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: w.mac}}}
	if err := w.conn.WriteTo(m, nil, w.group); err != nil {
		return fmt.Errorf("send neighbour solicitation: %w", err)
	}
	return nil
}

// announce sends an unsolicited neighbour advertisement to all nodes (RFC 4861, 7.2.6).
func (w *ndpWire) announce(mac net.HardwareAddr) error {
	if err := w.conn.WriteTo(ndpAnnouncement(mac, w.address), nil, netip.IPv6LinkLocalAllNodes()); err != nil {
		return fmt.Errorf("send neighbour advertisement: %w", err)
	}
	return nil
}

func ndpAnnouncement(mac net.HardwareAddr, a netip.Addr) *ndp.NeighborAdvertisement {
	return &ndp.NeighborAdvertisement{Override: true, TargetAddress: a,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}}}
}
