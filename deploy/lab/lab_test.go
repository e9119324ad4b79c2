package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"redundancypool/deploy/lab"
)

func asNet(err error, target *net.Error) bool { return errors.As(err, target) }

func TestConfigNamesTheFieldThatIsWrong(t *testing.T) {
	base := func() lab.Config { return lab.DefaultConfig("/tmp/x", slog.Default()) }
	tests := []struct {
		name   string
		change func(*lab.Config)
		want   string // part of the error; empty: valid
	}{
		{"the default is valid", func(c *lab.Config) {}, ""},
		{"a relative directory is refused", func(c *lab.Config) { c.Dir = "x" }, "not absolute"},
		{"a directory too deep for sockets is refused", func(c *lab.Config) { c.Dir = "/" + strings.Repeat("d", 70) }, "longer than"},
		{"a lab without hosts is refused", func(c *lab.Config) { c.Hosts = nil }, "no hosts"},
		{"a name that is no interface name is refused", func(c *lab.Config) { c.Hosts[0].Name = "Master!" }, "Master!"},
		{"the switch's own name is refused", func(c *lab.Config) { c.Hosts[0].Name = "switch" }, "switch"},
		{"two hosts of one name are refused", func(c *lab.Config) { c.Hosts[1].Name = "master" }, "twice"},
		{"two hosts of one address are refused", func(c *lab.Config) { c.Hosts[1].Addr = c.Hosts[0].Addr }, "twice"},
		{"an IPv6 host is refused", func(c *lab.Config) { c.Hosts[0].Addr = netip.MustParsePrefix("fd00::1/64") }, "IPv4"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := base()
			tt.change(&c)
			err := c.Validate()
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestImpairmentRangesAreChecked(t *testing.T) {
	for _, bad := range []lab.Impairment{{Delay: -1}, {Delay: time.Hour}, {Jitter: -1}, {Jitter: time.Hour}, {Loss: 1.1}, {Loss: -0.1}} {
		if bad.Validate() == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestProcessIsKilledFrozenAndThawed(t *testing.T) {
	l := openLab(t, nil)
	master, client := host(t, l, "master"), host(t, l, "client")
	p := startEcho(t, master, client)

	_, err := p.Freeze()
	must(t, err)
	if err := echo(client, "10.0.0.1:7"); !isTimeout(err) {
		t.Errorf("a frozen server: got %v, want silence", err)
	}
	must(t, p.Thaw())
	must(t, echo(client, "10.0.0.1:7"))

	must(t, master.Freeze())
	if err := echo(client, "10.0.0.1:7"); !isTimeout(err) {
		t.Errorf("a frozen host: got %v, want silence", err)
	}
	must(t, master.Thaw())
	must(t, echo(client, "10.0.0.1:7"))

	_, err = p.Kill()
	must(t, err)
	if err := echo(client, "10.0.0.1:7"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a killed server: got %v, want connection refused", err)
	}
	if _, err := p.Kill(); err == nil {
		t.Error("a second kill found the process alive")
	}
	q := startEcho(t, master, client)
	must(t, q.Stop(10*time.Second))
}

func TestCommandRunsInItsHost(t *testing.T) {
	l := openLab(t, nil)
	out, err := host(t, l, "backup").Output(context.Background(), lab.Command{Name: "ip", Path: "/bin/sh", Args: []string{"-c", "cat /proc/net/fib_trie"}})
	must(t, err)
	if !strings.Contains(string(out), "10.0.0.2") || strings.Contains(string(out), "10.0.0.1\n") {
		t.Errorf("not the backup's namespace:\n%s", out)
	}
	_, err = host(t, l, "backup").Output(context.Background(), lab.Command{Name: "sh", Path: "/bin/sh", Args: []string{"-c", "echo first >&2; echo the reason >&2; exit 3"}})
	var exit *lab.ExitError
	if !errors.As(err, &exit) || exit.Line != "the reason" {
		t.Errorf("got %v, want the last line of standard error", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := host(t, l, "backup").Output(ctx, lab.Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"60"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's end", err)
	}
}

func TestPowerOffIsSilentAndPowerOnStartsAnew(t *testing.T) {
	l := openLab(t, nil)
	master, client := host(t, l, "master"), host(t, l, "client")
	startEcho(t, master, client)
	conn, err := client.Dial(context.Background(), "tcp", "10.0.0.1:7")
	must(t, err)
	defer conn.Close()
	must(t, echoOn(conn))

	_, err = master.PowerOff()
	must(t, err)
	if err := echoOn(conn); !isTimeout(err) {
		t.Errorf("got %v from a host that is off, want silence", err)
	}
	if _, err := master.Start(echoCommand()); !errors.Is(err, lab.ErrOff) {
		t.Errorf("start on a host that is off: got %v, want ErrOff", err)
	}
	if _, err := master.PowerOff(); !errors.Is(err, lab.ErrOff) {
		t.Errorf("power off twice: got %v, want ErrOff", err)
	}
	must(t, master.PowerOn())
	if err := master.PowerOn(); err == nil {
		t.Error("power on twice was accepted")
	}
	startEcho(t, master, client)
	if err := echoOn(conn); err == nil || isTimeout(err) {
		t.Errorf("got %v on the old connection, want a reset by the new host", err)
	}
}

func TestForwarderCarriesAndResets(t *testing.T) {
	l := openLab(t, nil)
	master, client := host(t, l, "master"), host(t, l, "client")
	p := startEcho(t, master, client)
	ln, err := lab.ListenLoopback("127.0.0.1:0")
	must(t, err)
	taken, err := lab.ListenLoopback(ln.Addr().String())
	must(t, err) // another port, since this one is taken
	must(t, taken.Close())
	f := client.Forward(ln, "10.0.0.1:7")
	conn, err := net.Dial("tcp", f.Addr().String())
	must(t, err)
	must(t, echoOn(conn))
	_, err = p.Kill()
	must(t, err)
	second, err := net.Dial("tcp", f.Addr().String())
	must(t, err)
	if err := echoOn(second); err == nil || isTimeout(err) {
		t.Errorf("a dead target: got %v, want a reset at once", err)
	}
	conn.Close()
	second.Close()
	must(t, f.Close())
}

func TestTwoLabsDoNotCollide(t *testing.T) {
	one, two := openLab(t, nil), openLab(t, nil)
	startEcho(t, host(t, one, "master"), host(t, one, "client"))
	if err := echo(host(t, two, "client"), "10.0.0.1:7"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v from the second lab, want its own master to refuse", err)
	}
	if _, err := lab.Open(lab.DefaultConfig(one.Dir(), slog.Default())); !errors.Is(err, lab.ErrBusy) {
		t.Errorf("a second owner of one directory: got %v, want ErrBusy", err)
	}
}

func TestLeftoversOfAKilledLabAreRemoved(t *testing.T) {
	if !lab.MayBuild() {
		t.Skip("needs root for network namespaces")
	}
	dir := shortDir(t)
	exe, err := os.Executable()
	must(t, err)
	owner := exec.Command(exe, dir)
	owner.Env = append(os.Environ(), "LAB_HELPER=owner")
	out, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	must(t, err)
	var pid int
	if _, err := fmt.Sscanf(line, "open %d", &pid); err != nil {
		t.Fatalf("the owner said %q", line)
	}
	if err := lab.Sweep(dir); !errors.Is(err, lab.ErrBusy) {
		t.Errorf("sweep of a running lab: got %v, want ErrBusy", err)
	}
	must(t, owner.Process.Kill())
	_ = owner.Wait()
	must(t, lab.Sweep(dir))
	eventually(t, "its process is gone", func() error {
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("process %d: %v", pid, err)
		}
		return nil
	})
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if strings.Contains(string(mounts), dir) {
		t.Errorf("mounts are left:\n%s", mounts)
	}
	l, err := lab.Open(lab.DefaultConfig(dir, slog.Default()))
	must(t, err)
	must(t, l.Close())
	must(t, lab.Sweep(filepath.Join(dir, "never")))
}

func TestNormalUserGetsALabInAUserNamespace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	dir := shortDir(t)
	must(t, os.Chmod(dir, 0o777))
	exe, err := os.ReadFile("/proc/self/exe") // the test binary's own folder is closed to others
	must(t, err)
	prog := filepath.Join(dir, "prog")
	must(t, os.WriteFile(prog, exe, 0o755))
	must(t, os.Mkdir(filepath.Join(dir, "lab"), 0o777))
	must(t, os.Chmod(filepath.Join(dir, "lab"), 0o777))
	cmd := exec.Command(prog, filepath.Join(dir, "lab"))
	cmd.Env = []string{"LAB_HELPER=user", "PATH=" + os.Getenv("PATH")}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil && strings.Contains(string(out), "user namespaces") {
		t.Skipf("this kernel does not allow it: %s", out)
	}
	if err != nil || !strings.Contains(string(out), "worked in a user namespace: true") {
		t.Errorf("got %v: %s", err, out)
	}
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	if !lab.MayBuild() {
		t.Skip("needs root for network namespaces")
	}
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l, err := lab.Open(lab.DefaultConfig(shortDir(t), slog.New(slog.DiscardHandler)))
	must(t, err)
	o, err := l.Observe(lab.VirtualAddr.Addr(), 5*time.Millisecond, "master")
	must(t, err)
	w, err := l.WatchAddress(lab.VirtualAddr.Addr())
	must(t, err)
	must(t, link(t, host(t, l, "backup"), 0).Impair(lab.Impairment{Delay: time.Millisecond}))
	startEcho(t, host(t, l, "master"), host(t, l, "client"))
	must(t, o.Close())
	w.Close()
	must(t, l.Close())
	must(t, l.Close())
}
