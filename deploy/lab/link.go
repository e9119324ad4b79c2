package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Link is the cable between one interface of a host and the bridge.
type Link struct {
	host  *Host
	index int

	mu    sync.Mutex
	cut   bool // silent: the port forwards nothing, the host keeps its carrier
	down  bool // the port is down: the host loses its carrier
	relay *relay
}

// Interface is the interface's name in the host: eth0 or eth1.
func (k *Link) Interface() string { return fmt.Sprintf("eth%d", k.index) }

// Addr is the host's own address on this link.
func (k *Link) Addr() netip.Prefix { return onPath(k.host.addr, k.index) }

// Cut stops all traffic of the link in silence: the host still sees a carrier, as behind a switch
// whose other cable was pulled.
func (k *Link) Cut() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
	return k.sync()
}

// Unplug stops all traffic and takes the carrier away, as when the host's own cable is pulled.
func (k *Link) Unplug() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = true
	return k.sync()
}

// Heal undoes Cut and Unplug.
func (k *Link) Heal() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut, k.down = false, false
	return k.sync()
}

// Impair delays and drops frames of the link from now on; the zero Impairment ends that. Frames
// then pass through this process, so figures measured meanwhile include its scheduling.
func (k *Link) Impair(i Impairment) error {
	if err := i.Validate(); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.relay != nil && i != (Impairment{}):
		k.relay.set(i)
		return nil
	case k.relay != nil:
		return k.removeRelay()
	case i != (Impairment{}):
		return k.insertRelay(i)
	}
	return nil
}

// cable is the switch's end of the veth pair whose other end is the host's interface.
func (k *Link) cable() string {
	if k.index == 0 {
		return k.host.name
	}
	return fmt.Sprintf("%s-%d", k.host.name, k.index)
}

// port is the interface that is a port of the bridge: the cable, or the relay's end.
func (k *Link) port() string {
	if k.relay != nil {
		return k.cable() + "-r"
	}
	return k.cable()
}

// sync makes the port's state what cut and down say. The caller holds k.mu.
func (k *Link) sync() error {
	if err := setUp(k.host.lab.swtch.nl, k.cable(), !k.down); err != nil {
		return err
	}
	if k.down {
		return nil // the kernel refuses a state for a port without carrier; Heal comes back here
	}
	return k.setPortState()
}

// Port states of the bridge (linux/if_bridge.h). The bridges run without STP, so the kernel
// leaves a state that was set from outside alone until the port loses its carrier.
const (
	portDisabled   = 0
	portForwarding = 3
)

func (k *Link) setPortState() error {
	state := uint8(portForwarding)
	if k.cut {
		state = portDisabled
	}
	link, err := k.host.lab.swtch.nl.LinkByName(k.port())
	if err != nil {
		return fmt.Errorf("find port %s: %w", k.port(), err)
	}
	err = k.host.lab.swtch.do(func() error {
		req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(link.Attrs().Index)
		req.AddData(msg)
		info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
		info.AddRtAttr(nl.IFLA_BRPORT_STATE, nl.Uint8Attr(state))
		req.AddData(info)
		_, err := req.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
	// ENETDOWN: carrier is still on its way up; a port comes up forwarding, so only a cut waits.
	if errors.Is(err, unix.ENETDOWN) && !k.cut {
		return nil
	}
	if err != nil {
		return fmt.Errorf("set state of port %s: %w", k.port(), err)
	}
	return nil
}

// reset forgets the faults of a link whose cable is new.
func (k *Link) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut, k.down = false, false
}

// disconnect removes the cable, both ends at once, and a relay with it.
func (k *Link) disconnect() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var errs []error
	handle := k.host.lab.swtch.nl
	if k.relay != nil {
		errs = append(errs, k.relay.close())
		if port, err := handle.LinkByName(k.port()); err == nil {
			errs = append(errs, handle.LinkDel(port))
		}
		k.relay = nil
	}
	link, err := handle.LinkByName(k.cable())
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("find cable %s: %w", k.cable(), err))...)
	}
	if err := handle.LinkDel(link); err != nil {
		errs = append(errs, fmt.Errorf("remove cable %s: %w", k.cable(), err))
	}
	return errors.Join(errs...)
}
