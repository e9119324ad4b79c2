package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is one machine of the LAN: a network namespace, its links, the processes in it.
type Host struct {
	lab   *Lab
	name  string
	addr  netip.Prefix
	links []*Link

	mu      sync.Mutex // guards what follows
	ns      *namespace // nil: powered off
	procs   map[string]*Process
	disk    *disk
	watches []*AddressWatch
}

// ErrOff is returned by what needs a host that is powered off.
var ErrOff = errors.New("host is powered off")

// Name is the host's name in the LAN.
func (h *Host) Name() string { return h.name }

// Addr is the address of eth0.
func (h *Host) Addr() netip.Addr { return h.addr.Addr() }

// MAC is the hardware address of eth0; it survives power off.
func (h *Host) MAC() net.HardwareAddr { return hardwareAddr(h.addr.Addr()) }

// Link returns the host's link on path i: 0 is eth0; 1 is eth1 and exists with Config.SecondPath.
func (h *Host) Link(i int) (*Link, error) {
	if i < 0 || i >= len(h.links) {
		return nil, fmt.Errorf("host %s has no eth%d: start the lab with a second path", h.name, i)
	}
	return h.links[i], nil
}

// Namespace is the path at which the host's network namespace is mounted ("nsenter --net=PATH").
func (h *Host) Namespace() string { return h.lab.nsPath(h.name) }

// Dir is the host's own folder; it survives power off. FaultyDisk mounts over its folder disk.
func (h *Host) Dir() string { return filepath.Join(h.lab.cfg.Dir, h.name) }

// On says whether the host is powered on.
func (h *Host) On() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ns != nil
}

// PowerOn gives the host a new namespace with eth0 up. Sockets of the time before PowerOff are
// gone, as on a machine that was switched off; files are still there. No process is started.
func (h *Host) PowerOn() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ns != nil {
		return fmt.Errorf("power on %s: it is on already", h.name)
	}
	if err := os.MkdirAll(h.Dir(), 0o755); err != nil {
		return fmt.Errorf("create the host's folder: %w", err)
	}
	ns, err := newNamespace(h.Namespace())
	if err != nil {
		return fmt.Errorf("power on %s: %w", h.name, err)
	}
	for _, k := range h.links {
		if err := k.connect(ns); err != nil {
			return errors.Join(fmt.Errorf("power on %s: %w", h.name, err), ns.close())
		}
		k.reset()
	}
	h.ns = ns
	for _, w := range h.watches {
		if err := w.attach(h.name, ns); err != nil {
			return fmt.Errorf("watch addresses of %s: %w", h.name, err)
		}
	}
	return nil
}

// PowerOff makes the host vanish: its links are cut in silence first, so that no FIN or RST of
// a dying socket leaves it, then everything in it is killed, then its namespace is removed. It
// returns the moment at which the links were cut.
func (h *Host) PowerOff() (time.Time, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ns == nil {
		return time.Time{}, fmt.Errorf("power off %s: %w", h.name, ErrOff)
	}
	var errs []error
	at := time.Now()
	for _, k := range h.links {
		errs = append(errs, k.Cut())
	}
	errs = append(errs, h.disk.thaw(), h.tearDown())
	if err := errors.Join(errs...); err != nil {
		return at, fmt.Errorf("power off %s: %w", h.name, err)
	}
	return at, nil
}

// tearDown kills everything in the host and removes its namespace. The caller holds h.mu.
func (h *Host) tearDown() error {
	if h.ns == nil {
		return nil
	}
	errs := []error{killAll(h.ns.path)}
	for _, w := range h.watches {
		w.detach(h.name, time.Now())
	}
	for name, p := range h.procs {
		<-p.done
		delete(h.procs, name)
	}
	for _, k := range h.links {
		errs = append(errs, k.disconnect())
	}
	errs = append(errs, h.ns.close())
	h.ns = nil
	return errors.Join(errs...)
}

func (h *Host) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	errs := []error{h.disk.thaw(), h.tearDown(), h.disk.close()}
	h.disk = nil
	return errors.Join(errs...)
}

// Freeze stops every process of the host with SIGSTOP, in no particular order; its kernel goes on
// answering ARP and acknowledging TCP.
func (h *Host) Freeze() error { return h.signalAll(unix.SIGSTOP) }

// Thaw lets every process of the host run again.
func (h *Host) Thaw() error { return h.signalAll(unix.SIGCONT) }

func (h *Host) signalAll(sig unix.Signal) error {
	ns, err := h.live()
	if err != nil {
		return err
	}
	found, err := pids(ns.path)
	for _, pid := range found {
		if kerr := unix.Kill(pid, sig); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
			err = errors.Join(err, fmt.Errorf("signal process %d: %w", pid, kerr))
		}
	}
	return err
}

// Do runs fn on a thread that is in the host's network namespace and waits for it. Sockets that
// fn opens belong to the host; goroutines that fn starts do not.
func (h *Host) Do(fn func() error) error {
	ns, err := h.live()
	if err != nil {
		return err
	}
	return ns.visit(fn)
}

// Dial connects from inside the host. addr is an IP address with a port.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := h.Do(func() error {
		var err error
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// AddAddr binds an address to eth0 as another tool would ("ip addr add").
func (h *Host) AddAddr(p netip.Prefix) error {
	ns, err := h.live()
	if err != nil {
		return err
	}
	return addAddr(ns.nl, "eth0", p)
}

// DeleteAddr removes an address from eth0 as another tool would ("ip addr del").
func (h *Host) DeleteAddr(a netip.Addr) error {
	ns, err := h.live()
	if err != nil {
		return err
	}
	link, err := ns.nl.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0 of %s: %w", h.name, err)
	}
	addrs, err := ns.nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", h.name, err)
	}
	for _, have := range addrs {
		if ip, ok := netip.AddrFromSlice(have.IP); ok && ip.Unmap() == a {
			if err := ns.nl.AddrDel(link, &have); err != nil {
				return fmt.Errorf("delete %v on %s: %w", a, h.name, err)
			}
			return nil
		}
	}
	return fmt.Errorf("host %s does not have %v", h.name, a)
}

func (h *Host) live() (*namespace, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ns == nil {
		return nil, fmt.Errorf("%s: %w", h.name, ErrOff)
	}
	return h.ns, nil
}
