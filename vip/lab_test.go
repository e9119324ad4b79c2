package vip

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// lab is a small LAN in network namespaces: hosts a, b and c with eth0 on one bridge,
// addresses 10.77.0.1, .2, .3 and fd77::1, ::2, ::3.
type lab struct {
	t    testing.TB
	name string
}

var (
	labs  atomic.Int32
	vip4  = netip.MustParsePrefix("10.77.0.50/24")
	vip6  = netip.MustParsePrefix("fd77::50/64")
	soon  = 10 * time.Second // for conditions that a busy machine may delay
	hosts = []string{"a", "b", "c"}
)

func newLab(t testing.TB) *lab {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs the ip tool (iproute2)")
	}
	l := &lab{t: t, name: fmt.Sprintf("vip%d-%d", os.Getpid(), labs.Add(1))}
	for i, h := range append([]string{"sw"}, hosts...) {
		if out, err := exec.Command("ip", "netns", "add", l.ns(h)).CombinedOutput(); err != nil {
			t.Skipf("cannot make network namespaces here: %s", out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", l.ns(h)).Run() })
		if h == "sw" {
			l.ip("sw", "link add br0 type bridge")
			l.ip("sw", "link set br0 up")
			continue
		}
		l.ip(h, "link set lo up")
		l.ip("sw", fmt.Sprintf("link add name port-%s type veth peer name eth0 netns %s", h, l.ns(h)))
		l.ip("sw", fmt.Sprintf("link set port-%s master br0 up", h))
		l.run(h, "sysctl -q -w net.ipv6.conf.eth0.accept_dad=0")
		l.ip(h, "link set eth0 up")
		l.ip(h, fmt.Sprintf("addr add 10.77.0.%d/24 dev eth0", i))
		l.ip(h, fmt.Sprintf("addr add fd77::%d/64 dev eth0 nodad", i))
	}
	return l
}

func (l *lab) ns(host string) string { return l.name + "-" + host }

func (l *lab) ip(host, args string) {
	l.t.Helper()
	l.run(host, "ip "+args)
}

func (l *lab) run(host, command string) string {
	l.t.Helper()
	args := append([]string{"netns", "exec", l.ns(host)}, strings.Fields(command)...)
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s on host %s: %v: %s", command, host, err, out)
	}
	return string(out)
}

// in runs f on a thread of its own inside the host's namespace; sockets that f opens stay there.
func (l *lab) in(host string, f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := netns.GetFromName(l.ns(host))
		if err == nil {
			err = netns.Set(ns)
			_ = ns.Close()
		}
		if err == nil {
			err = f()
		}
		result <- err
	}()
	return <-result
}

func (l *lab) handle(host string) *netlink.Handle {
	l.t.Helper()
	ns, err := netns.GetFromName(l.ns(host))
	if err != nil {
		l.t.Fatal(err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(h.Close)
	return h
}

func (l *lab) link(host string) *netlink.LinkAttrs {
	l.t.Helper()
	link, err := l.handle(host).LinkByName("eth0")
	if err != nil {
		l.t.Fatal(err)
	}
	return link.Attrs()
}

func (l *lab) mac(host string) string { return l.link(host).HardwareAddr.String() }
func (l *lab) index(host string) int  { return l.link(host).Index }

// has tells whether the address is on the host.
func has(t testing.TB, h *netlink.Handle, a netip.Addr) bool {
	t.Helper()
	addrs, err := h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range addrs {
		if ip, ok := netip.AddrFromSlice(x.IP); ok && ip.Unmap() == a {
			return true
		}
	}
	return false
}

// await waits until the condition holds and returns how long that took.
func await(t testing.TB, what string, limit time.Duration, condition func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !condition() {
		if time.Since(begin) > limit {
			t.Fatalf("%s: not within %v", what, limit)
		}
		time.Sleep(100 * time.Microsecond)
	}
	return time.Since(begin)
}

// neighbour returns the hardware address that host has cached for a.
func (l *lab) neighbour(host string, a netip.Addr) string {
	l.t.Helper()
	all, err := l.handle(host).NeighList(l.index(host), netlink.FAMILY_ALL)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, n := range all {
		if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a && n.HardwareAddr != nil {
			return n.HardwareAddr.String()
		}
	}
	return ""
}

// dial connects from a host; the connection belongs to that host's namespace.
func (l *lab) dial(host string, to netip.Addr, timeout time.Duration) (net.Conn, error) {
	var c net.Conn
	err := l.in(host, func() (err error) {
		c, err = net.DialTimeout("tcp", netip.AddrPortFrom(to, 7000).String(), timeout)
		return err
	})
	return c, err
}

// probe sends one ARP or neighbour probe from a host.
func (l *lab) probe(host string, a netip.Addr) (owner string) {
	l.t.Helper()
	err := l.in(host, func() error {
		mac, _, err := Probe(l.t.Context(), "eth0", a, 1, nil)
		owner = mac.String()
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return owner
}

// manager is a process of the manager role on a host.
type manager struct {
	t       testing.TB
	cmd     *exec.Cmd
	in      io.Writer
	answers chan answer
	seen    []answer
	stderr  bytes.Buffer
}

func (l *lab) manager(host string, set managerSettings) *manager {
	l.t.Helper()
	if !set.Address.IsValid() {
		set.Address = vip4
	}
	settings, err := json.Marshal(set)
	if err != nil {
		l.t.Fatal(err)
	}
	m := &manager{t: l.t, answers: make(chan answer, 1000)}
	m.cmd = exec.Command(os.Args[0], string(settings))
	// The race detector would have each process sleep for a second at its end.
	m.cmd.Env = append(os.Environ(), roleVariable+"=manager", "GORACE=atexit_sleep_ms=0")
	m.cmd.Stderr = &m.stderr
	if set.Powerless {
		m.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{Size: 1}}, GidMappings: []syscall.SysProcIDMap{{Size: 1}}}
	}
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		l.t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := l.in(host, m.cmd.Start); err != nil {
		l.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			var a answer
			if json.Unmarshal(s.Bytes(), &a) == nil {
				m.answers <- a
			}
		}
		close(m.answers)
	}()
	l.t.Cleanup(func() {
		_ = m.cmd.Process.Kill()
		<-read
		_ = m.cmd.Wait()
		if l.t.Failed() {
			l.t.Logf("manager on %s said %+v, and: %s", host, m.seen, m.stderr.String())
		}
	})
	return m
}

func (m *manager) command(c string) {
	m.t.Helper()
	if _, err := io.WriteString(m.in, c+"\n"); err != nil {
		m.t.Fatal(err)
	}
}

// next waits for an answer that fits, however many others come before; earlier ones count too
// if they have not been taken.
func (m *manager) next(what string, fits func(answer) bool) answer {
	m.t.Helper()
	for i, a := range m.seen {
		if fits(a) {
			m.seen = append(m.seen[:i:i], m.seen[i+1:]...)
			return a
		}
	}
	limit := time.After(soon)
	for {
		select {
		case a, ok := <-m.answers:
			if !ok {
				m.t.Fatalf("waiting for %s: the manager ended", what)
			}
			if fits(a) {
				return a
			}
			m.seen = append(m.seen, a)
		case <-limit:
			m.t.Fatalf("waiting for %s: not within %v", what, soon)
		}
	}
}

func (m *manager) await(op string) answer {
	m.t.Helper()
	return m.next(op, func(a answer) bool { return a.Op == op })
}

func (m *manager) event(k EventKind) answer {
	m.t.Helper()
	return m.next(string(k), func(a answer) bool { return a.Op == "event" && a.Kind == k })
}

// do gives a command and waits for its answer, which must not be an error.
func (m *manager) do(c string) answer {
	m.t.Helper()
	m.command(c)
	a := m.await(c)
	if a.Err != "" {
		m.t.Fatalf("%s: %s", c, a.Err)
	}
	return a
}

func (m *manager) opened() *manager {
	m.t.Helper()
	if a := m.await("open"); a.Err != "" {
		m.t.Fatalf("open: %s", a.Err)
	}
	return m
}

func (m *manager) signal(s os.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

func (m *manager) guardPID() int {
	m.t.Helper()
	return m.do("state").State.GuardPID
}

// ended tells whether a process has ended; one that its new parent has not waited for yet counts.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "Z")
}
