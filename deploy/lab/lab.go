// Package lab builds a small LAN on one machine: hosts with a network namespace each, joined by
// a bridge that stands in a namespace of its own, so that the machine's own network is not
// touched. It starts processes in the hosts and breaks things on purpose: kill, freeze, power
// off, cut and heal of links, one-way blocks between two hosts, delay, loss, faulty disks.
//
// It knows nothing of Managers and pools; package trial puts a pool into it. It measures nothing
// either, but Observe and WatchAddress say on which host an address was, and when.
// cmd/poollab and tests call it. Linux only; it needs CAP_SYS_ADMIN and CAP_NET_ADMIN, which a
// normal user gets from EnterUserNamespace where the kernel allows that.
//
// What it cannot do: step the clock of one host (namespaces share the machine's wall clock), and
// power off without the page cache surviving (what a process wrote but did not fsync is still
// there after PowerOn).
package lab

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// Config says what a lab consists of.
type Config struct {
	Dir        string       // holds everything of the running lab; absolute, created if missing
	Hosts      []HostConfig // at least one
	SecondPath bool         // a second bridge: every host has eth1 as well, on 10.0.1.0/24
	Log        *slog.Logger
}

// HostConfig names one host of the LAN.
type HostConfig struct {
	Name string       // also its port's name on the bridge: 1 to 10 characters of [a-z0-9]
	Addr netip.Prefix // IPv4 address and prefix of eth0
}

// The well-known addresses of the default LAN.
var (
	MasterAddr   = netip.MustParsePrefix("10.0.0.1/24")
	BackupAddr   = netip.MustParsePrefix("10.0.0.2/24")
	ArbiterAddr  = netip.MustParsePrefix("10.0.0.3/24")
	ClientAddr   = netip.MustParsePrefix("10.0.0.10/24")
	StrangerAddr = netip.MustParsePrefix("10.0.0.66/24")
	VirtualAddr  = netip.MustParsePrefix("10.0.0.50/24")
)

// observerAddr is the bridge's own address: ARP requests of Observe come from it.
var observerAddr = netip.MustParsePrefix("10.0.0.9/24")

// DefaultConfig is a LAN of a Master, a Backup, an Arbiter, a client for field units, and a
// stranger that owns no service.
func DefaultConfig(dir string, log *slog.Logger) Config {
	return Config{
		Dir: dir,
		Hosts: []HostConfig{
			{"master", MasterAddr}, {"backup", BackupAddr}, {"arbiter", ArbiterAddr},
			{"client", ClientAddr}, {"stranger", StrangerAddr},
		},
		Log: log,
	}
}

// Validate reports the first field that cannot work, with the reason.
func (c Config) Validate() error {
	if !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("lab directory %q is not absolute: give a full path", c.Dir)
	}
	// A control socket and the Managers' own sockets stand below Dir; a socket path holds 107 bytes.
	if len(c.Dir) > 64 {
		return fmt.Errorf("lab directory %q is longer than 64 bytes: choose a shorter path, Unix sockets stand below it", c.Dir)
	}
	if len(c.Hosts) == 0 {
		return errors.New("lab: no hosts configured")
	}
	names, addrs := map[string]bool{}, map[netip.Addr]bool{}
	for _, h := range c.Hosts {
		if !validName(h.Name) {
			return fmt.Errorf("host name %q: use 1 to 10 characters of a-z and 0-9", h.Name)
		}
		if names[h.Name] {
			return fmt.Errorf("host name %q is used twice", h.Name)
		}
		if !h.Addr.IsValid() || !h.Addr.Addr().Is4() {
			return fmt.Errorf("host %s: address %v is not an IPv4 prefix such as 10.0.0.1/24", h.Name, h.Addr)
		}
		if addrs[h.Addr.Addr()] {
			return fmt.Errorf("host %s: address %v is used twice", h.Name, h.Addr.Addr())
		}
		names[h.Name], addrs[h.Addr.Addr()] = true, true
	}
	return nil
}

func validName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 10 && s != switchName
}

// Lab is a running LAN. Its methods and those of its hosts are safe for concurrent use.
type Lab struct {
	cfg    Config
	lock   *os.File // flock: one owner per directory
	swtch  *namespace
	hosts  map[string]*Host
	order  []*Host
	mu     sync.Mutex // guards blocks and closed
	blocks map[[2]string]bool
	closed bool
}

// ErrBusy is returned by Open and Sweep while another process owns the lab's directory.
var ErrBusy = errors.New("lab directory is in use by a running lab")

// Open removes what an earlier, killed lab left in cfg.Dir and builds the LAN anew. The caller
// pairs it with Close.
//
// Errors: ErrBusy while another process runs a lab in the same directory; a PrivilegeError when
// this process may not create namespaces.
func Open(cfg Config) (*Lab, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("create lab directory: %w", err)
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	l := &Lab{cfg: cfg, lock: lock, hosts: map[string]*Host{}, blocks: map[[2]string]bool{}}
	if err := l.build(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build() error {
	if err := sweep(l.cfg.Dir); err != nil {
		return fmt.Errorf("remove leftovers of an earlier lab: %w", err)
	}
	sw, err := newNamespace(l.nsPath(switchName))
	if err != nil {
		return err
	}
	l.swtch = sw
	if err := l.buildBridges(); err != nil {
		return err
	}
	for _, hc := range l.cfg.Hosts {
		h := &Host{lab: l, name: hc.Name, addr: hc.Addr, procs: map[string]*Process{}}
		h.links = append(h.links, &Link{host: h, index: 0})
		if l.cfg.SecondPath {
			h.links = append(h.links, &Link{host: h, index: 1})
		}
		l.hosts[hc.Name] = h
		l.order = append(l.order, h)
		if err := h.PowerOn(); err != nil {
			return err
		}
	}
	return nil
}

// Dir is the directory that holds everything of this lab.
func (l *Lab) Dir() string { return l.cfg.Dir }

// Host returns the named host, or an error that lists the names there are.
func (l *Lab) Host(name string) (*Host, error) {
	if h := l.hosts[name]; h != nil {
		return h, nil
	}
	names := ""
	for _, h := range l.order {
		names += " " + h.name
	}
	return nil, fmt.Errorf("no host %q: there are%s", name, names)
}

// Hosts returns all hosts in the order of the configuration.
func (l *Lab) Hosts() []*Host { return append([]*Host(nil), l.order...) }

// HealAll heals every link, lifts every block and impairment, and thaws every host. It does not
// power on, start or repair disks.
func (l *Lab) HealAll() error {
	var errs []error
	for _, h := range l.order {
		if !h.On() {
			continue
		}
		errs = append(errs, h.Thaw())
		for _, k := range h.links {
			errs = append(errs, k.Heal(), k.Impair(Impairment{}))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.blocks)
	return errors.Join(append(errs, l.syncBlocks())...)
}

// Close ends every process of the lab, waits for them, and removes namespaces and mounts. The
// hosts' files stay in the directory. Calling it again does nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	var errs []error
	for _, h := range l.order {
		errs = append(errs, h.close())
	}
	if l.swtch != nil {
		errs = append(errs, l.swtch.close())
	}
	errs = append(errs, sweep(l.cfg.Dir), l.lock.Close())
	return errors.Join(errs...)
}

func (l *Lab) nsPath(name string) string { return filepath.Join(l.cfg.Dir, "ns", name) }

// lockDir makes the caller the one owner of dir until the file is closed or the process ends.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lab's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w: end it with 'poollab down', or choose another --dir", dir, ErrBusy)
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
