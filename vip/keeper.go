package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// eventQueue is how many events wait for a slow Config.Event before some are dropped.
const eventQueue = 64

// linkLocalWait is how long Open waits for a link-local address that the kernel still checks
// for duplicates, about 1-2 s after the interface has come up.
const linkLocalWait = 3 * time.Second

// Keeper keeps one virtual IP address on this host. Its methods are safe for concurrent use.
type Keeper struct {
	cfg       Config
	log       *slog.Logger
	address   netip.Addr
	ifaceName string
	guardian  *guardian
	watcher   *watcher
	stop      chan struct{}
	checks    sync.WaitGroup

	events chan Event
	told   chan struct{} // closed when the last event has been delivered
	hostMu sync.Mutex    // orders the uses of host
	host   *host

	mu           sync.Mutex
	closed       bool
	wire         wire
	ifi          net.Interface // as the wire and the rules were made for
	fenced       bool
	lease        *Lease // the last one; it may have ended
	holds        uint64
	lastConflict *Conflict
}

// Conflict is a claim of another host to the address.
type Conflict struct {
	MAC  net.HardwareAddr
	At   time.Time
	Peer bool // Right.HeldBy knew the MAC
}

// State is what a status page shows.
type State struct {
	Address   netip.Prefix
	Interface string
	MAC       net.HardwareAddr
	// Bound: a Lease holds the address now, since Since.
	Bound bool
	Since time.Time
	// LinkUp: the interface is there, up and has a carrier; without it nothing can be acquired.
	LinkUp bool
	// GuardPID is 0 while there is no guard.
	GuardPID int
	// Fenced: the kernel stops the address's packets within Config.FenceTimeout when manager and
	// guard both stand still. Otherwise only the address lifetime does.
	Fenced bool
	// LastConflict is nil if none was seen since Open.
	LastConflict *Conflict
}

// Open checks c, removes a VIP that an earlier process left behind, installs the nftables
// rules and starts the guard. From then on TCP addressed to the VIP that reaches this host
// while it does not hold it is answered with a reset. ctx bounds Open only.
//
// Errors: ErrNotPermitted, the errors of Validate, ErrGuard. Kernels that lack parts of
// nftables are no error; EventNoFence and State.Fenced tell.
func Open(ctx context.Context, c Config) (*Keeper, error) {
	if err := c.validateSettings(); err != nil {
		return nil, err
	}
	local, err := LocalAddresses()
	if err != nil {
		return nil, err
	}
	name, err := c.chooseInterface(local)
	if err != nil {
		return nil, err
	}
	if err := checkPermission(); err != nil {
		return nil, err
	}
	k := &Keeper{cfg: c, log: c.Log, address: c.Address.Addr(), ifaceName: name, stop: make(chan struct{}),
		events: make(chan Event, eventQueue), told: make(chan struct{})}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	if k.host, err = openHost(false); err != nil {
		return nil, err
	}
	go k.tell()
	if err := k.start(ctx, local); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

func (k *Keeper) start(ctx context.Context, local []LocalAddress) error {
	for _, l := range local {
		if l.leftoverOf(k.address) {
			if err := k.takeDown(binding{Address: k.address, Index: l.Index}); err != nil {
				return err
			}
			k.event(Event{Kind: EventLeftover, Text: fmt.Sprintf("an earlier process had left %v on %s; it was removed", k.address, l.Interface)})
		}
	}
	err := k.attach()
	for end := time.Now().Add(linkLocalWait); errors.Is(err, unix.EADDRNOTAVAIL) && time.Now().Before(end); err = k.attach() {
		if err := pause(ctx, linkLocalWait/100); err != nil {
			return err
		}
	}
	if err != nil {
		if !errors.Is(err, ErrLinkDown) {
			return err
		}
		k.log.Warn("interface is down: the address cannot be held", "interface", k.ifaceName, "error", err)
	}
	if k.watcher, err = watchKernel(k.poke); err != nil {
		return err
	}
	k.guardian = &guardian{argv: k.cfg.GuardCommand, log: k.log, deliver: k.deliver, changed: k.poke,
		event: func(kind EventKind, text string) { k.event(Event{Kind: kind, Text: text}) },
		stop:  make(chan struct{}), done: make(chan struct{})}
	first := make(chan error, 1)
	go k.guardian.run(first)
	select {
	case err := <-first:
		if err != nil {
			return fmt.Errorf("%w: %w", ErrGuard, err)
		}
	case <-ctx.Done():
		return fmt.Errorf("start guard: %w", context.Cause(ctx))
	}
	k.checks.Go(k.checkFence)
	return nil
}

// Close releases the address and takes everything away again: guard and nftables rules. It
// waits until all that is done. A second call does nothing.
func (k *Keeper) Close() error {
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil
	}
	k.closed = true
	lease := k.lease
	k.mu.Unlock()

	var errs []error
	if lease != nil {
		errs = append(errs, lease.Release())
	}
	close(k.stop)
	k.checks.Wait()
	if k.guardian != nil {
		close(k.guardian.stop)
		<-k.guardian.done
		errs = append(errs, k.guardian.err)
	}
	if k.watcher != nil {
		k.watcher.close()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wire != nil {
		errs = append(errs, k.wire.close())
		k.wire = nil
	}
	k.hostMu.Lock()
	defer k.hostMu.Unlock()
	k.host.fence.remove(k.address)
	k.host.close()
	close(k.events) // whoever sent has ended
	<-k.told
	return errors.Join(errs...)
}

// State returns the present state.
func (k *Keeper) State() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := State{Address: k.cfg.Address, Interface: k.ifaceName, MAC: k.ifi.HardwareAddr,
		LinkUp: lookAtLink(k.ifi.Index).up, Fenced: k.fenced, LastConflict: k.lastConflict}
	if k.lease != nil {
		s.Bound, s.Since = k.lease.holding()
	}
	if g := k.guardian.current(); g != nil {
		s.GuardPID = g.pid()
	}
	return s
}

// Probe asks the wire for another owner of the address, DefaultProbeRounds rounds, about one
// second; see the function Probe.
func (k *Keeper) Probe(ctx context.Context, progress func(done int)) (owner net.HardwareAddr, found bool, err error) {
	return Probe(ctx, k.ifaceName, k.address, DefaultProbeRounds, progress)
}

// Sweep removes address and rules that a process which is gone left behind; iface empty: from
// every interface. It is for the service manager's clean-up after the process, and must not be
// called while a Keeper for the address is open in another process.
func Sweep(address netip.Prefix, iface string) error {
	if err := checkPermission(); err != nil {
		return err
	}
	local, err := LocalAddresses()
	if err != nil {
		return err
	}
	h, err := openHost(false)
	if err != nil {
		return err
	}
	defer h.close()
	var errs []error
	for _, l := range local {
		if l.leftoverOf(address.Addr()) && (iface == "" || iface == l.Interface) {
			errs = append(errs, takeDown(h, binding{Address: address.Addr(), Index: l.Index}))
		}
	}
	h.fence.remove(address.Addr())
	return errors.Join(errs...)
}

// takeDown removes the address without the guard's help.
func (k *Keeper) takeDown(b binding) error {
	k.hostMu.Lock()
	defer k.hostMu.Unlock()
	return takeDown(k.host, b)
}

func (k *Keeper) bound(index int) (bool, error) {
	k.hostMu.Lock()
	defer k.hostMu.Unlock()
	return k.host.bound(k.address, index)
}

// poke has the lease look at guard, link and address again.
func (k *Keeper) poke() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lease != nil {
		k.lease.wake()
	}
}

func (k *Keeper) deliver(g *guardProcess, r report) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lease != nil {
		k.lease.deliver(g, r)
	}
}

// event logs e and queues it for the owner, so that a callback that takes its time, or asks the
// Keeper something, stops nothing here.
func (k *Keeper) event(e Event) {
	e.At = time.Now()
	k.log.Info("virtual address event", "kind", string(e.Kind), "address", k.address, "mac", e.MAC.String(), "text", e.Text)
	select {
	case k.events <- e:
	default:
		k.log.Warn("virtual address event was not delivered: too many are waiting", "kind", string(e.Kind))
	}
}

func (k *Keeper) tell() {
	defer close(k.told)
	for e := range k.events {
		if k.cfg.Event != nil {
			k.cfg.Event(e)
		}
	}
}

func (k *Keeper) noteConflict(mac net.HardwareAddr, peer bool) {
	k.mu.Lock()
	k.lastConflict = &Conflict{MAC: mac, At: time.Now(), Peer: peer}
	k.mu.Unlock()
}

func errGuardSilent(argv []string) error {
	return fmt.Errorf("guard %q ended or said nothing within %v: the command must run a program that calls vip.RunGuard", argv, guardStart)
}
