package vip

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestKilledGuardIsReplacedAndTheAddressStays(t *testing.T) {
	for name, harm := range map[string]unix.Signal{"killed": unix.SIGKILL, "stopped": unix.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			m := l.manager("a", managerSettings{Listen: true}).opened()
			m.do("acquire")
			old := m.guardPID()
			begin := time.Now()
			if err := unix.Kill(old, harm); err != nil {
				t.Fatal(err)
			}
			m.event(EventGuardRespawned)
			t.Logf("respawned %v after the guard was %s", time.Since(begin), name)
			s := m.do("state").State
			if !s.Bound || s.GuardPID == old || s.GuardPID == 0 {
				t.Fatalf("state %+v: want still bound, with another guard", s)
			}
			h := l.handle("a")
			m.signal(unix.SIGKILL)
			gone := await(t, "address gone after kill -9", soon, func() bool { return !has(t, h, vip4.Addr()) })
			t.Logf("gone %v after kill -9 of the manager", gone)
		})
	}
}

func TestLeaseEndsWhenTheGuardCannotBeReplaced(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{GuardOnce: filepath.Join(t.TempDir(), "started")}).opened()
	m.do("acquire")
	if err := unix.Kill(m.guardPID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if a := m.await("done"); !strings.Contains(a.Err, ErrGuard.Error()) {
		t.Errorf("lease ended with %q, want %v", a.Err, ErrGuard)
	}
	m.do("release") // waits until it is gone
	if has(t, l.handle("a"), vip4.Addr()) {
		t.Error("the address is still bound without a guard")
	}
	m.command("acquire")
	if a := m.await("acquire"); !strings.Contains(a.Err, ErrGuard.Error()) {
		t.Errorf("acquire without a guard: %q, want %v", a.Err, ErrGuard)
	}
	m.do("close")
}

func TestFrozenManagerAndGuardDoNotBringTheAddressBack(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{}).opened()
	m.do("acquire")
	s := m.do("state").State
	m.signal(unix.SIGSTOP)
	if err := unix.Kill(s.GuardPID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	h := l.handle("a")
	await(t, "address gone by its lifetime", soon, func() bool { return !has(t, h, vip4.Addr()) })
	// From here on every sight of the address, however short, is one too many.
	back := make(chan netlink.AddrUpdate, 100)
	stop := make(chan struct{})
	if err := l.in("a", func() error { return netlink.AddrSubscribe(back, stop) }); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(s.GuardPID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.signal(unix.SIGCONT)
	if a := m.await("done"); !strings.Contains(a.Err, ErrRightEnded.Error()) {
		t.Errorf("lease ended with %q, want %v", a.Err, ErrRightEnded)
	}
	m.do("close")
	close(stop)
	for u := range back {
		if u.NewAddr {
			t.Errorf("%v was bound again after the freeze", u.LinkAddress)
		}
	}
}

func TestKeepersOfDifferentAddressesDoNotMeet(t *testing.T) {
	l := newLab(t)
	other := netip.MustParsePrefix("10.77.0.51/24")
	m1 := l.manager("a", managerSettings{Listen: true}).opened()
	m1.do("acquire")
	m2 := l.manager("a", managerSettings{Address: other}).opened()
	m2.do("acquire")
	m2.do("close")
	c, err := l.dial("c", vip4.Addr(), soon)
	if err != nil {
		t.Fatalf("dial after the other Keeper was closed: %v", err)
	}
	_ = c.Close()
	m1.do("close")
	if rules := l.run("a", "nft list ruleset"); rules != "" {
		t.Errorf("rules are left: %s", rules)
	}
}

func TestGuardIgnoresSignalsToItsGroup(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{}).opened()
	m.do("acquire")
	guard := m.guardPID()
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if err := unix.Kill(guard, s); err != nil {
			t.Fatal(err)
		}
	}
	if group, err := unix.Getpgid(guard); err != nil || group != unix.Getpgrp() {
		t.Errorf("guard's process group is %d (%v), want its parent's, %d", group, err, unix.Getpgrp())
	}
	m.do("release")
	if got := m.guardPID(); got != guard {
		t.Errorf("guard %d was replaced by %d", guard, got)
	}
}

func TestOpenWithoutPermissionSaysSo(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{Powerless: true})
	if a := m.await("open"); !strings.Contains(a.Err, ErrNotPermitted.Error()) {
		t.Errorf("open: %q, want %v", a.Err, ErrNotPermitted)
	}
}

func TestFullProbe(t *testing.T) {
	l := newLab(t)
	l.ip("b", "addr add 10.77.0.60/32 dev eth0")
	if err := l.in("c", func() error {
		rounds := 0
		begin := time.Now()
		mac, found, err := Probe(t.Context(), "eth0", vip4.Addr(), 3, func(done int) { rounds = done })
		if err != nil || found || rounds != 3 {
			t.Errorf("probe of a free address: %v, found %v, %d rounds, %v; want 3 silent ones", mac, found, rounds, err)
		}
		if d := time.Since(begin); d < 3*probeSpacing {
			t.Errorf("3 rounds took %v, want %v at least", d, 3*probeSpacing)
		}
		mac, found, err = Probe(t.Context(), "eth0", netip.MustParseAddr("10.77.0.60"), DefaultProbeRounds, nil)
		if err != nil || !found || mac.String() != l.mac("b") {
			t.Errorf("probe of an occupied address: %v, found %v, %v; want %s", mac, found, err, l.mac("b"))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err = Probe(ctx, "eth0", vip4.Addr(), 3, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled probe: %v", err)
		}
		_, _, err = Probe(t.Context(), "eth9", vip4.Addr(), 3, nil)
		checkError(t, err, `"eth9"`)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestLocalAddressesTellStaticFromDynamic(t *testing.T) {
	l := newLab(t)
	l.ip("a", "addr add 10.77.0.9/24 dev eth0 valid_lft 3600 preferred_lft 3600")
	if err := l.in("a", func() error {
		all, err := LocalAddresses()
		if err != nil {
			return err
		}
		found := map[string]LocalAddress{}
		for _, x := range all {
			found[x.Address.String()] = x
		}
		if x := found["10.77.0.1/24"]; x.Dynamic || !x.Up || x.Interface != "eth0" || x.MAC.String() != l.mac("a") {
			t.Errorf("the static address: %+v", x)
		}
		if x := found["10.77.0.9/24"]; !x.Dynamic {
			t.Errorf("the address with a lifetime: %+v", x)
		}
		if x := found["127.0.0.1/8"]; !x.Loopback {
			t.Errorf("loopback: %+v", x)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRenamedInterfaceKeepsTheAddress(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{Listen: true}).opened()
	m.do("acquire")
	if err := l.handle("a").LinkSetName(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: l.index("a")}}, "lan0"); err != nil {
		t.Skipf("this kernel does not rename an interface that is up: %v", err)
	}
	if m.do("state").State.Fenced {
		await(t, "the rules follow", soon, func() bool { return strings.Contains(l.run("a", "nft list ruleset"), `device "lan0"`) })
	}
	if _, err := l.dial("c", vip4.Addr(), soon); err != nil {
		t.Errorf("dial after the interface was renamed: %v", err)
	}
	if s := m.do("state").State; !s.Bound || !s.LinkUp {
		t.Errorf("state %+v: want bound", s)
	}
	m.do("release")
	m.do("acquire")
}

func TestAddressAddedByAnotherToolIsReportedAndStaysSilent(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{}).opened()
	l.ip("a", "addr add 10.77.0.50/24 dev eth0")
	if m.do("state").State.Fenced {
		if owner := l.probe("c", vip4.Addr()); owner != "" {
			t.Errorf("%s answers for an address that no lease holds", owner)
		}
	}
	m.event(EventForeign)
}
