package vip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// Errors that callers may test for with errors.Is.
var (
	// ErrNotPermitted: the process lacks CAP_NET_ADMIN or CAP_NET_RAW.
	ErrNotPermitted = errors.New("vip: not permitted")
	// ErrRightEnded: the right to the address has run out.
	ErrRightEnded = errors.New("vip: the right to the address has ended")
	// ErrLinkDown: the interface is gone, administratively down, or has no carrier.
	ErrLinkDown = errors.New("vip: the interface is down")
	// ErrGuard: the guard process died and could not be replaced in time.
	ErrGuard = errors.New("vip: no guard process")
	// ErrAddress: the kernel refused to bind the address or to put it back.
	ErrAddress = errors.New("vip: the address cannot be bound")
	// ErrReleased: Release was called.
	ErrReleased = errors.New("vip: released")
	// ErrHeld: Acquire was called while a Lease of the same Keeper is still held.
	ErrHeld = errors.New("vip: already held")
	// ErrClosed: the Keeper is closed.
	ErrClosed = errors.New("vip: closed")
)

// Config says which address is kept, where and how. Start from DefaultConfig.
type Config struct {
	// Address is the VIP with its subnet's prefix length. The prefix serves validation; the
	// address is bound as /32 or /128, because with the subnet's prefix the kernel would treat
	// it as a secondary address and delete it together with the node's own.
	Address netip.Prefix
	// Interface is the name of the interface, such as eth0; empty: the one interface that has
	// an address in the VIP's subnet.
	Interface string
	// GuardCommand is the argv of the guard process, whose main calls RunGuard.
	GuardCommand []string

	// ProbeWait is how long Acquire waits for somebody to answer for the address.
	ProbeWait time.Duration
	// HeldLimit bounds how long Acquire waits for the other Manager to let go (see Right.HeldBy).
	HeldLimit time.Duration

	// AnnounceCount announcements make one burst, AnnounceInterval after the first, then at
	// doubling distances: 0, 100, 300, 700, 1500, 3100 ms by default.
	AnnounceCount    int
	AnnounceInterval time.Duration
	// AnnouncePeriod is the distance of announcements for as long as the address is held.
	AnnouncePeriod time.Duration

	// Lifetime is the address's lifetime in the kernel, whole seconds. The kernel removes the
	// address between Lifetime and Lifetime + 0.5 s after the last refresh.
	Lifetime time.Duration
	// FenceTimeout is the timeout of the nftables element that lets the VIP's packets out.
	FenceTimeout time.Duration
	// RenewInterval is how often Right.Until is asked and the guard told.
	RenewInterval time.Duration
	// GuardMargin is how long before the end of the right the guard acts.
	GuardMargin time.Duration

	// Log may be nil. Event, if set, is called for each Event in order, by one goroutine of the
	// Keeper; it may take its time, but not call Close.
	Log   *slog.Logger
	Event func(Event)
}

// DefaultConfig returns every setting but Address, Interface, Log and Event.
func DefaultConfig() Config {
	return Config{
		GuardCommand:     []string{"/proc/self/exe", "guard"},
		ProbeWait:        8 * time.Millisecond,
		HeldLimit:        2600 * time.Millisecond, // Lifetime + 0.6 s: gone by then whatever happened there
		AnnounceCount:    6,
		AnnounceInterval: 100 * time.Millisecond,
		AnnouncePeriod:   30 * time.Second,
		Lifetime:         2 * time.Second,
		FenceTimeout:     500 * time.Millisecond,
		RenewInterval:    20 * time.Millisecond,
		GuardMargin:      5 * time.Millisecond,
	}
}

// Validate checks the settings, alone and against this host's addresses. The error names the
// setting and the fix. It does not ask the wire: Probe does.
func (c Config) Validate() error {
	if err := c.validateSettings(); err != nil {
		return err
	}
	local, err := LocalAddresses()
	if err != nil {
		return err
	}
	_, err = c.chooseInterface(local)
	return err
}

func (c Config) validateSettings() error {
	if err := validateAddress(c.Address); err != nil {
		return err
	}
	if len(c.GuardCommand) == 0 {
		return errors.New("guard command is empty: give the argv of a program that calls vip.RunGuard")
	}
	if c.Lifetime < time.Second || c.Lifetime%time.Second != 0 {
		return fmt.Errorf("lifetime %v: the kernel counts whole seconds, give 1s or more", c.Lifetime)
	}
	if c.AnnounceCount < 1 || c.AnnounceCount > 10 {
		return fmt.Errorf("announce count %d: give 1 to 10", c.AnnounceCount)
	}
	for _, d := range []struct {
		name     string
		is       time.Duration
		min, max time.Duration
	}{
		{"probe wait", c.ProbeWait, time.Millisecond, time.Second},
		{"held limit", c.HeldLimit, c.ProbeWait, time.Minute},
		{"announce interval", c.AnnounceInterval, time.Millisecond, 10 * time.Second},
		{"announce period", c.AnnouncePeriod, time.Second, time.Hour},
		{"fence timeout", c.FenceTimeout, 100 * time.Millisecond, c.Lifetime},
		{"renew interval", c.RenewInterval, time.Millisecond, c.FenceTimeout / 3},
		{"guard margin", c.GuardMargin, 0, time.Second},
	} {
		if d.is < d.min || d.is > d.max {
			return fmt.Errorf("%s %v: give %v to %v", d.name, d.is, d.min, d.max)
		}
	}
	return nil
}

func validateAddress(p netip.Prefix) error {
	if !p.IsValid() {
		return errors.New("virtual IP is missing: give an address with its subnet's prefix, such as 10.0.0.50/24")
	}
	a := p.Addr()
	longest := 30
	if a.Is6() {
		longest = 126
	}
	switch {
	case a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("virtual IP %v: write it as a plain IPv4 or IPv6 address without a zone", p)
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast():
		return fmt.Errorf("virtual IP %v is not an address that clients can be given: choose a free unicast address of the LAN", p)
	case p.Bits() < 1 || p.Bits() > longest:
		return fmt.Errorf("virtual IP %v: the prefix is that of the subnet, at most /%d here, such as /24", p, longest)
	case a == p.Masked().Addr():
		return fmt.Errorf("virtual IP %v is the network's own address: choose a free host address of %v", a, p.Masked())
	case a.Is4() && a == lastAddress(p):
		return fmt.Errorf("virtual IP %v is the broadcast address of %v: choose a free host address", a, p.Masked())
	}
	return nil
}

// chooseInterface names the interface for the VIP, given this host's addresses.
func (c Config) chooseInterface(local []LocalAddress) (string, error) {
	vip := c.Address.Addr()
	var fit []string
	named, addressed := false, false
	for _, l := range local {
		named = named || l.Interface == c.Interface
		if !l.Address.IsValid() || l.leftoverOf(vip) {
			continue
		}
		if l.Address.Addr() == vip {
			return "", fmt.Errorf("virtual IP %v is this host's own address on %s: choose a free address, or remove it there",
				vip, l.Interface)
		}
		if l.Loopback || !l.Address.Contains(vip) {
			continue
		}
		if l.Interface == c.Interface {
			addressed = true
		}
		if len(fit) == 0 || fit[len(fit)-1] != l.Interface {
			fit = append(fit, l.Interface)
		}
	}
	switch {
	case c.Interface != "" && !named:
		return "", fmt.Errorf("interface %q does not exist: name one of this host's interfaces", c.Interface)
	case c.Interface != "" && !addressed:
		return "", fmt.Errorf("interface %s has no address in the subnet %v of the virtual IP: give it one, or name another interface",
			c.Interface, c.Address.Masked())
	case c.Interface != "":
		return c.Interface, nil
	case len(fit) == 0:
		return "", fmt.Errorf("no interface of this host has an address in the subnet %v of the virtual IP: correct the virtual IP, or give an interface an address there",
			c.Address.Masked())
	case len(fit) > 1:
		return "", fmt.Errorf("interfaces %v all have an address in the subnet %v of the virtual IP: name one", fit, c.Address.Masked())
	}
	return fit[0], nil
}

func lastAddress(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// An EventKind says what happened to the address.
type EventKind string

// The kinds of Event.
const (
	// EventConflict: another host claims the address; MAC is its hardware address.
	EventConflict EventKind = "conflict"
	// EventDefended: the address was announced because of a conflict (at most once in 10 s).
	EventDefended EventKind = "defended"
	// EventRestored: another tool had removed the address; it is back.
	EventRestored EventKind = "restored"
	// EventLinkDown: carrier lost, interface down or gone; the lease is lost.
	EventLinkDown EventKind = "link_down"
	// EventGuardRespawned: the guard had died or hung; a new one runs.
	EventGuardRespawned EventKind = "guard_respawned"
	// EventLeftover: an address left by an earlier process was removed.
	EventLeftover EventKind = "leftover_removed"
	// EventForeign: the address is on this host although no Lease holds it, and not put there by
	// a Keeper: another tool has added it. On a host with State.Fenced its packets do not leave.
	EventForeign EventKind = "foreign_address"
	// EventNoFence: the kernel refused the nftables rules; only the address lifetime stands
	// behind the guard, or TCP to the absent address is not answered with a reset.
	EventNoFence EventKind = "no_fence"
	// EventLost: the lease ended other than by Release; Text has the cause.
	EventLost EventKind = "lost"
)

// Event is something an operator may want to read.
type Event struct {
	Kind EventKind
	At   time.Time
	MAC  net.HardwareAddr // EventConflict and EventDefended
	Text string           // one sentence
}
