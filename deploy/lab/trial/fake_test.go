package trial_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The test binary, called by another name, is also a small pretended pool, so that trials can be
// tried, and shown to find what they look for, without the real programs. Its members agree by a
// lock file in FAKE_DIR, which the kernel frees when its holder dies; its database is one text
// file there, which both Managers read. FAKE_FLAW makes it lose or double records.
func TestMain(m *testing.M) {
	var err error
	switch filepath.Base(os.Args[0]) {
	case "manager":
		err = fakeManager(os.Args[1:])
	case "arbiter":
		err = fakeArbiter(os.Args[1:])
	case "fieldunit":
		err = fakeUnit(os.Args[1:])
	case "guard":
		err = fakeGuard()
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var fakeVIP = netip.MustParseAddr("10.0.0.50")

func fakeFile(name string) string { return filepath.Join(os.Getenv("FAKE_DIR"), name) }

func flag(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func fakeArbiter(args []string) error {
	switch args[0] {
	case "serve":
		select {}
	case "token":
		fmt.Println("arbiter-token")
	case "status":
		fmt.Println(`{"role":"arbiter","status":"online"}`)
	}
	return nil
}

func fakeManager(args []string) error {
	host := filepath.Base(filepath.Dir(flag(args, "--data")))
	switch args[0] {
	case "serve":
		return fakeServe(host)
	case "status":
		return fakeStatus(host)
	case "query":
		return fakeQuery(args[1])
	case "unit":
		fmt.Printf(`{"host":%q,"port":8883,"username":%q,"password":"x"}`+"\n", fakeVIP, args[2])
		return nil
	}
	switch args[1] { // redundancy
	case "token":
		fmt.Println("a line for people\nbackup-token")
	case "set":
		mode := flag(args, "--mode")
		if mode == "master" && (flag(args, "--pairing") != "backup-token" || flag(args, "--arbiter-pairing") != "arbiter-token") {
			return errors.New("pairing token is wrong")
		}
		return os.WriteFile(fakeFile(host+".mode"), []byte(mode), 0o600)
	case "handover":
		pid, err := fakePID(host)
		if err != nil {
			return err
		}
		return unix.Kill(pid, unix.SIGUSR1)
	}
	return nil
}

func fakePID(host string) (int, error) {
	data, err := os.ReadFile(fakeFile(host + ".pid"))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		return 0, err
	}
	return pid, unix.Kill(pid, 0)
}

func fakeStatus(host string) error {
	if _, err := fakePID(host); err != nil {
		return fmt.Errorf("manager does not run: %w", err)
	}
	health := "protected"
	for _, name := range []string{"master", "backup"} {
		if _, err := fakePID(name); err != nil {
			health = "degraded"
		}
		if _, err := os.Stat(fakeFile(name + ".mode")); err != nil {
			health = "configuring"
		}
	}
	s := map[string]any{"role": host, "status": "online", "health": health, "term": 0}
	if data, err := os.ReadFile(fakeFile("primary")); err == nil {
		f := strings.Fields(string(data))
		if f[0] == host {
			s["status"] = "primary"
			s["guard_pid"], _ = strconv.Atoi(f[2])
		}
		s["term"], _ = strconv.Atoi(f[1])
		s["last_changeover"] = map[string]any{"kind": "takeover", "cause": "pretended", "all_units_ms": 1}
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

func fakeServe(host string) error {
	if err := os.WriteFile(fakeFile(host+".pid"), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return err
	}
	if eth0, err := netlink.LinkByName("eth0"); err == nil {
		_ = netlink.AddrDel(eth0, fakeAddr()) // a leftover, or nothing
	}
	leave := make(chan os.Signal, 1)
	signal.Notify(leave, unix.SIGUSR1)
	for {
		lock, err := os.OpenFile(fakeFile("lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		_, formed := os.Stat(fakeFile("master.mode"))
		if formed == nil && unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if err := fakePrimary(host, leave); err != nil {
				return err
			}
			lock.Close()
			time.Sleep(200 * time.Millisecond) // let the other one have it
			continue
		}
		lock.Close()
		time.Sleep(2 * time.Millisecond)
	}
}

// fakePrimary holds the VIP and serves units until it is told to leave, or dies; its guard
// removes the VIP then.
func fakePrimary(host string, leave <-chan os.Signal) error {
	term := 1
	if data, err := os.ReadFile(fakeFile("primary")); err == nil {
		if term, err = strconv.Atoi(strings.Fields(string(data))[1]); err != nil {
			return err
		}
		term++
	}
	guard := &exec.Cmd{Path: "/proc/self/exe", Args: []string{"guard"}}
	guard.Env = os.Environ()
	hold, err := guard.StdinPipe()
	if err != nil {
		return err
	}
	if err := guard.Start(); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", ":8883")
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%s %d %d", host, term, guard.Process.Pid)
	if err := os.WriteFile(fakeFile("primary.new"), []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Rename(fakeFile("primary.new"), fakeFile("primary")); err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(eth0, fakeAddr()); err != nil {
		return err
	}
	if err := fakeAnnounce(); err != nil {
		return err
	}
	conns := make(chan net.Conn, 64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- c
			go fakeAccept(c)
		}
	}()
	<-leave
	ln.Close()
	for len(conns) > 0 {
		(<-conns).Close()
	}
	hold.Close()
	return guard.Wait()
}

func fakeAddr() *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: fakeVIP.AsSlice(), Mask: net.CIDRMask(32, 32)}}
}

func fakeAnnounce() error {
	ifi, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	conn, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	p, err := arp.NewPacket(arp.OperationRequest, ifi.HardwareAddr, fakeVIP, make(net.HardwareAddr, 6), fakeVIP)
	if err != nil {
		return err
	}
	body, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	f := ethernet.Frame{Destination: ethernet.Broadcast, Source: ifi.HardwareAddr, EtherType: ethernet.EtherTypeARP, Payload: body}
	frame, err := f.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: ethernet.Broadcast})
	return err
}

// fakeAccept stores each line "unit|seq" and acknowledges it, with the flaw that was asked for.
func fakeAccept(c net.Conn) {
	defer c.Close()
	sc := bufio.NewScanner(c)
	for sc.Scan() {
		line, flaw := sc.Text(), os.Getenv("FAKE_FLAW")
		copies := 1
		if strings.HasSuffix(line, "7") && flaw == "lose" {
			copies = 0
		}
		if strings.HasSuffix(line, "7") && flaw == "double" {
			copies = 2
		}
		f, err := os.OpenFile(fakeFile("store"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return
		}
		for range copies {
			if _, err := f.WriteString(line + "\n"); err != nil {
				return
			}
		}
		f.Close()
		if _, err := c.Write([]byte("ok\n")); err != nil {
			return
		}
	}
}

func fakeGuard() error {
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	return netlink.AddrDel(eth0, fakeAddr())
}

// fakeQuery knows the two questions of a comparison. A record that was re-sent is in the text
// file twice only when the flaw put it there: the unit below never sends one again.
func fakeQuery(sql string) error {
	data, err := os.ReadFile(fakeFile("store"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	count := map[string]int{}
	for line := range strings.Lines(string(data)) {
		count[strings.TrimSpace(line)]++
	}
	for line, n := range count {
		unit, seq, _ := strings.Cut(line, "|")
		switch {
		case strings.Contains(sql, "min(seq)"):
			fmt.Printf("%s|%s|%s\n", unit, seq, seq)
		case n > 1:
			fmt.Printf("%s|%s|n|g|t|%d\n", unit, seq, n)
		}
	}
	return nil
}

// fakeUnit lets each profile's unit send lines. A unit waits for the acknowledgement, notes it,
// and goes on; what was not acknowledged gets a new number, so that nothing is sent twice.
func fakeUnit(args []string) error {
	rate, err := strconv.ParseFloat(flag(args, "--rate"), 64)
	if err != nil {
		return err
	}
	ledger, err := os.Create(flag(args, "--ledger"))
	if err != nil {
		return err
	}
	every := time.Duration(float64(time.Second) / rate)
	errs := make(chan error)
	for i, a := range args {
		if a == "--profile" {
			go func() { errs <- fakeOneUnit(args[i+1], ledger, every) }()
		}
	}
	return <-errs
}

func fakeOneUnit(profile string, ledger *os.File, every time.Duration) error {
	var pr struct{ Host, Username string }
	data, err := os.ReadFile(profile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &pr); err != nil {
		return err
	}
	for seq := 1; ; {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(pr.Host, "8883"), 20*time.Millisecond)
		if err != nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		for ; ; seq++ {
			sent := time.Now().UnixNano()
			_ = conn.SetDeadline(time.Now().Add(500 * time.Millisecond))
			if _, err := fmt.Fprintf(conn, "%s|%d\n", pr.Username, seq); err != nil {
				break
			}
			if _, err := conn.Read(make([]byte, 8)); err != nil {
				break
			}
			line := fmt.Sprintf(`{"unit":%q,"seq":%d,"boot":"b","sent_ns":%d,"acked_ns":%d}`+"\n", pr.Username, seq, sent, time.Now().UnixNano())
			if _, err := ledger.WriteString(line); err != nil {
				return err
			}
			time.Sleep(every)
		}
		conn.Close()
		seq++
	}
}
