package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// wire is the link as seen for one address on one interface.
type wire interface {
	// probe asks who has the address, without claiming it.
	probe() error
	// announce claims the address for mac, this host's.
	announce(mac net.HardwareAddr) error
	// claims delivers the hardware address of each other host that claims the address, be it
	// in answer to a probe or by itself. When nobody reads, claims are dropped.
	claims() <-chan net.HardwareAddr
	// close ends reading and waits for it.
	close() error
}

// openWire opens the wire of address a on interface ifi: ARP for IPv4, neighbour discovery for
// IPv6. It needs CAP_NET_RAW.
func openWire(ifi *net.Interface, a netip.Addr) (wire, error) {
	if a.Is4() {
		return openARP(ifi, a)
	}
	return openNDP(ifi, a)
}

// pauseAfterError keeps a reader from spinning when the interface is down.
const pauseAfterError = 10 * time.Millisecond

type arpWire struct {
	conn    *packet.Conn
	mac     net.HardwareAddr
	address netip.Addr
	claimed chan net.HardwareAddr
	done    chan struct{}
}

func openARP(ifi *net.Interface, a netip.Addr) (*arpWire, error) {
	if len(ifi.HardwareAddr) != 6 {
		return nil, fmt.Errorf("interface %s has no Ethernet address: choose an Ethernet interface", ifi.Name)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ARP, nil)
	if err != nil {
		return nil, fmt.Errorf("listen for ARP on %s: %w", ifi.Name, err)
	}
	w := &arpWire{conn: conn, mac: ifi.HardwareAddr, address: a,
		claimed: make(chan net.HardwareAddr, 16), done: make(chan struct{})}
	go w.read()
	return w, nil
}

func (w *arpWire) close() error {
	err := w.conn.Close()
	<-w.done
	return err
}

func (w *arpWire) claims() <-chan net.HardwareAddr { return w.claimed }

func (w *arpWire) read() {
	defer close(w.done)
	buf := make([]byte, 2048)
	for {
		n, _, err := w.conn.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EBADF) {
			return
		}
		if err != nil { // the interface went down: reading works again once it is up
			time.Sleep(pauseAfterError)
			continue
		}
		if mac := arpClaim(buf[:n], w.address); mac != nil {
			select {
			case w.claimed <- mac:
			default:
			}
		}
	}
}

// arpClaim returns the sender's hardware address if the frame claims address a (RFC 5227, 2.4:
// any ARP packet with a as its sender address), else nil. Malformed frames claim nothing.
func arpClaim(frame []byte, a netip.Addr) net.HardwareAddr {
	var f ethernet.Frame
	if err := f.UnmarshalBinary(frame); err != nil || f.EtherType != ethernet.EtherTypeARP {
		return nil
	}
	var p arp.Packet
	if err := p.UnmarshalBinary(f.Payload); err != nil || p.SenderIP != a {
		return nil
	}
	return bytes.Clone(p.SenderHardwareAddr)
}

func (w *arpWire) probe() error {
	frame, err := arpProbe(w.mac, w.address)
	if err != nil {
		return err
	}
	return w.send(frame)
}

func (w *arpWire) announce(mac net.HardwareAddr) error {
	frames, err := arpAnnouncements(mac, w.address)
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range frames {
		errs = append(errs, w.send(f))
	}
	return errors.Join(errs...)
}

func (w *arpWire) send(frame []byte) error {
	if _, err := w.conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast}); err != nil {
		return fmt.Errorf("send ARP: %w", err)
	}
	return nil
}

// arpProbe is the ARP Probe of RFC 5227, 2.1.1: a request whose sender address is 0.0.0.0, so
// that no cache learns from it.
func arpProbe(mac net.HardwareAddr, a netip.Addr) ([]byte, error) {
	return arpFrame(arp.OperationRequest, mac, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a)
}

// arpAnnouncements are the two forms of a gratuitous ARP; some devices heed only one. The reply
// has the sender's own hardware address as its target: Linux takes no other reply for
// gratuitous, and ignores the rest within a second of the entry's last change.
func arpAnnouncements(mac net.HardwareAddr, a netip.Addr) ([][]byte, error) {
	request, err := arpFrame(arp.OperationRequest, mac, a, make(net.HardwareAddr, 6), a)
	if err != nil {
		return nil, err
	}
	reply, err := arpFrame(arp.OperationReply, mac, a, mac, a)
	if err != nil {
		return nil, err
	}
	return [][]byte{request, reply}, nil
}

func arpFrame(op arp.Operation, mac net.HardwareAddr, sender netip.Addr, target net.HardwareAddr, a netip.Addr) ([]byte, error) {
	p, err := arp.NewPacket(op, mac, sender, target, a)
	if err != nil {
		return nil, fmt.Errorf("build ARP packet: %w", err)
	}
	payload, err := p.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build ARP packet: %w", err)
	}
	frame, err := (&ethernet.Frame{Destination: ethernet.Broadcast, Source: mac,
		EtherType: ethernet.EtherTypeARP, Payload: payload}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("build ARP frame: %w", err)
	}
	return frame, nil
}
