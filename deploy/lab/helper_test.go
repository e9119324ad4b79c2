package lab_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"redundancypool/deploy/lab"
)

// The test binary is also the program that runs in the hosts: LAB_HELPER says what it does.
func TestMain(m *testing.M) {
	switch os.Getenv("LAB_HELPER") {
	case "":
		os.Exit(m.Run())
	case "echo":
		os.Exit(echoServer(os.Args[1]))
	case "owner":
		os.Exit(labOwner(os.Args[1]))
	case "user":
		os.Exit(labOfUser(os.Args[1]))
	}
	fmt.Fprintln(os.Stderr, "unknown helper")
	os.Exit(2)
}

// echoServer answers every TCP connection with what it receives, until SIGTERM.
func echoServer(addr string) int {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, func() { ln.Close() })
	for {
		conn, err := ln.Accept()
		if err != nil {
			return 0
		}
		go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
	}
}

// labOwner opens a lab with a process in it, says so, and waits to be killed.
func labOwner(dir string) int {
	l, err := lab.Open(lab.DefaultConfig(dir, slog.Default()))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	h, err := l.Host("master")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	p, err := h.Start(echoCommand())
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("open", p.PID())
	select {}
}

// labOfUser builds a lab as a normal user and tries one connection in it.
func labOfUser(dir string) int {
	inside, err := lab.InsideUserNamespace()
	if err == nil && !inside {
		code, err := lab.EnterUserNamespace(nil)
		if err != nil {
			fmt.Println(err)
		}
		return code
	}
	if err == nil {
		err = tryAsUser(dir)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("worked in a user namespace:", lab.InUserNamespace())
	return 0
}

func tryAsUser(dir string) error {
	l, err := lab.Open(lab.DefaultConfig(dir, slog.Default()))
	if err != nil {
		return err
	}
	defer l.Close()
	master, err := l.Host("master")
	if err != nil {
		return err
	}
	client, err := l.Host("client")
	if err != nil {
		return err
	}
	if err := master.FaultyDisk(16 << 20); err != nil {
		return err
	}
	if err := master.FillDisk(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(master.DiskPath(), "f"), make([]byte, 8192), 0o600); err == nil {
		return fmt.Errorf("the full disk took another file")
	}
	if _, err := master.Start(echoCommand()); err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if err = echo(client, "10.0.0.1:7"); err == nil || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	if err := l.Part("master", "client"); err != nil {
		return err
	}
	if err := echo(client, "10.0.0.1:7"); err == nil {
		return fmt.Errorf("parted hosts still reach each other")
	}
	return nil
}

func echoCommand() lab.Command {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return lab.Command{Name: "echo", Path: exe, Args: []string{":7"}, Env: []string{"LAB_HELPER=echo", "POOLLAB_INSIDE="}}
}

// echo sends a word from a host and waits up to a second for it to come back.
func echo(from *lab.Host, addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	return echoOn(conn)
}

func echoOn(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("word")); err != nil {
		return err
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(conn, buf); err != nil {
		return err
	}
	if string(buf) != "word" {
		return fmt.Errorf("got %q", buf)
	}
	return nil
}

// openLab builds a lab for one test. Without the right to, the test is skipped with the reason.
func openLab(t *testing.T, change func(*lab.Config)) *lab.Lab {
	t.Helper()
	if !lab.MayBuild() {
		t.Skip("needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN) for network namespaces")
	}
	cfg := lab.DefaultConfig(shortDir(t), slog.New(slog.DiscardHandler))
	if change != nil {
		change(&cfg)
	}
	l, err := lab.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// shortDir is a temporary folder whose path leaves room for Unix sockets below it.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func host(t *testing.T, l *lab.Lab, name string) *lab.Host {
	t.Helper()
	h, err := l.Host(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func link(t *testing.T, h *lab.Host, i int) *lab.Link {
	t.Helper()
	k, err := h.Link(i)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// startEcho runs the echo server on a host and waits until the client reaches it.
func startEcho(t *testing.T, h, client *lab.Host) *lab.Process {
	t.Helper()
	p, err := h.Start(echoCommand())
	must(t, err)
	eventually(t, "echo server answers", func() error { return echo(client, h.Addr().String()+":7") })
	return p
}

// eventually waits until fn succeeds, for 20 s at most.
func eventually(t *testing.T, what string, fn func() error) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func carrier(t *testing.T, h *lab.Host, ifname string) bool {
	t.Helper()
	var up bool
	must(t, h.Do(func() error {
		i, err := net.InterfaceByName(ifname)
		if err == nil {
			up = i.Flags&net.FlagRunning != 0
		}
		return err
	}))
	return up
}

func isTimeout(err error) bool {
	var ne net.Error
	return err != nil && (strings.Contains(err.Error(), "timeout") || (asNet(err, &ne) && ne.Timeout()))
}
