package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// fenceCheck is how often the nftables tables are looked for: other tools flush whole rulesets.
const fenceCheck = 5 * time.Second

// attach makes wire and rules for the interface as it is now: its index changes when it is
// made anew, its name and its MAC when somebody sets them.
func (k *Keeper) attach() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	ifi, err := k.findInterface()
	if err != nil {
		return fmt.Errorf("%w: interface %s: %w", ErrLinkDown, k.ifaceName, err)
	}
	if k.ifi.Index != ifi.Index || k.ifi.Name != ifi.Name {
		k.installFence(ifi)
	}
	same := k.ifi.Index == ifi.Index && bytes.Equal(k.ifi.HardwareAddr, ifi.HardwareAddr)
	k.ifi = *ifi
	if k.wire != nil && same {
		return nil
	}
	if k.wire != nil {
		_ = k.wire.close()
	}
	if k.wire, err = openWire(ifi, k.address); err == nil {
		return nil
	}
	k.wire = nil
	if errors.Is(err, unix.EPERM) { // capabilities of a user namespace that does not own the network
		return fmt.Errorf("%w here, although the capabilities are there: %w", ErrNotPermitted, err)
	}
	if !lookAtLink(ifi.Index).up {
		return fmt.Errorf("%w: %w", ErrLinkDown, err)
	}
	return err
}

func (k *Keeper) currentWire() wire {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.wire
}

// findInterface finds the interface by the name that was chosen, or, when it has been renamed,
// by its index; k.mu is held.
func (k *Keeper) findInterface() (*net.Interface, error) {
	ifi, err := net.InterfaceByName(k.ifaceName)
	if err != nil && k.ifi.Index != 0 {
		if renamed, err := net.InterfaceByIndex(k.ifi.Index); err == nil {
			return renamed, nil
		}
	}
	return ifi, err
}

// installFence makes the rules anew; k.mu is held.
func (k *Keeper) installFence(ifi *net.Interface) {
	k.hostMu.Lock()
	noLease, noReset := k.host.fence.install(k.address, ifi.Name, ifi.Index)
	k.hostMu.Unlock()
	k.fenced = noLease == nil
	for _, err := range []error{noLease, noReset} {
		if err != nil {
			k.event(Event{Kind: EventNoFence, Text: err.Error()})
		}
	}
}

// checkFence puts the rules back when another tool has flushed the ruleset, or when the
// interface was made anew.
func (k *Keeper) checkFence() {
	t := time.NewTicker(fenceCheck)
	defer t.Stop()
	foreign := false
	for {
		select {
		case <-k.stop:
			return
		case <-t.C:
			if !k.State().Bound { // while it is, the guard notices, and a look would be in its way
				k.mendFence()
				if err := k.attach(); err != nil { // the interface may have been made anew
					k.log.Debug("interface cannot be used", "interface", k.ifaceName, "error", err)
				}
				foreign = k.checkForeign(foreign)
			}
		}
	}
}

// checkForeign tells whether somebody else has put the address on this host; it makes that
// known unless it was known before.
func (k *Keeper) checkForeign(known bool) bool {
	local, err := LocalAddresses()
	if err != nil {
		return known
	}
	for _, l := range local {
		if l.Address.IsValid() && l.Address.Addr() == k.address && !l.leftoverOf(k.address) {
			if !known {
				k.event(Event{Kind: EventForeign, Text: fmt.Sprintf("another tool has put %v on %s of this host: remove it there", k.address, l.Interface)})
			}
			return true
		}
	}
	return false
}

// mendFence installs the rules again if they are gone, and tells whether it did.
func (k *Keeper) mendFence() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.fenced {
		return false
	}
	k.hostMu.Lock()
	present := k.host.fence.present(k.address)
	k.hostMu.Unlock()
	if present {
		return false
	}
	k.log.Warn("nftables rules of the virtual address were gone; installing them again", "address", k.address)
	k.installFence(&k.ifi)
	if k.lease != nil {
		k.lease.wake()
	}
	return true
}
