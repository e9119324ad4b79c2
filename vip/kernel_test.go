package vip

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHoldsAddressAndTakesEverythingAway(t *testing.T) {
	for _, vip := range []netip.Prefix{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			l := newLab(t)
			m := l.manager("a", managerSettings{Address: vip}).opened()
			h := l.handle("a")
			a := m.do("acquire")
			t.Logf("acquire took %d µs", a.Micro)
			if !has(t, h, vip.Addr()) {
				t.Fatal("address is not bound after Acquire")
			}
			if s := m.do("state").State; !s.Bound || s.Interface != "eth0" || s.GuardPID == 0 || s.MAC.String() != l.mac("a") {
				t.Errorf("state %+v: want bound on eth0 with guard and MAC", s)
			}
			if owner := l.probe("b", vip.Addr()); owner != l.mac("a") {
				t.Errorf("probe of another host found %q, want %s", owner, l.mac("a"))
			}
			a = m.do("release")
			t.Logf("release took %d µs", a.Micro)
			if has(t, h, vip.Addr()) {
				t.Error("address is still bound after Release")
			}
			if owner := l.probe("b", vip.Addr()); owner != "" {
				t.Errorf("%s answers for the address after Release", owner)
			}
			m.do("acquire")
			m.do("close")
			if has(t, h, vip.Addr()) {
				t.Error("address is still bound after Close")
			}
			if rules := l.run("a", "nft list ruleset"); rules != "" {
				t.Errorf("rules are left after Close: %s", rules)
			}
		})
	}
}

func TestAnnouncementMovesTheClientsNeighbourEntry(t *testing.T) {
	for _, vip := range []netip.Prefix{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			l := newLab(t)
			ma := l.manager("a", managerSettings{Address: vip, Listen: true}).opened()
			mb := l.manager("b", managerSettings{Address: vip, Listen: true}).opened()
			ma.do("acquire")
			c, err := l.dial("c", vip.Addr(), soon)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			await(t, "client knows a", soon, func() bool { return l.neighbour("c", vip.Addr()) == l.mac("a") })
			ma.do("release")
			mb.do("acquire")
			await(t, "client knows b", soon, func() bool { return l.neighbour("c", vip.Addr()) == l.mac("b") })
			c2, err := l.dial("c", vip.Addr(), soon)
			if err != nil {
				t.Fatal(err)
			}
			_ = c2.Close()
		})
	}
}

func TestKilledManagerLosesTheAddressAtOnce(t *testing.T) {
	for _, vip := range []netip.Prefix{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			l := newLab(t)
			ln := l.listen("b", "10.77.0.2:7001")
			m := l.manager("a", managerSettings{Address: vip, Listen: true,
				Farewells: []Farewell{{To: netip.MustParseAddrPort("10.77.0.2:7001"), Message: []byte("the parent died")}}}).opened()
			m.do("acquire")
			guard := m.guardPID()
			c, err := l.dial("c", vip.Addr(), soon)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			h := l.handle("a")
			killed := time.Now()
			m.signal(unix.SIGKILL)
			gone := await(t, "address gone after kill -9", soon, func() bool { return !has(t, h, vip.Addr()) })
			t.Logf("gone %v after kill -9 of the manager", gone)
			_ = c.SetReadDeadline(time.Now().Add(soon))
			// The dying process closes its sockets while the guard destroys them: either will do.
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, io.EOF) {
				t.Errorf("client of the address got %v, want a reset or an end", err)
			}
			t.Logf("client knows %v after kill", time.Since(killed))
			if got := <-ln; got != "the parent died" {
				t.Errorf("farewell %q", got)
			}
			t.Logf("farewell %v after kill", time.Since(killed))
			await(t, "guard ended", soon, func() bool { return ended(guard) })
		})
	}
}

func TestFrozenManagerLosesTheAddressAtTheGuardDeadline(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{Listen: true}).opened()
	m.do("acquire")
	h := l.handle("a")
	c, err := l.dial("c", vip4.Addr(), soon)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m.signal(unix.SIGSTOP)
	gone := await(t, "address gone after SIGSTOP", soon, func() bool { return !has(t, h, vip4.Addr()) })
	t.Logf("gone %v after the freeze; the right was renewed to 200 ms ahead", gone)
	if gone > time.Second {
		t.Errorf("gone after %v: that was the kernel's lifetime, not the guard", gone)
	}
	_ = c.SetReadDeadline(time.Now().Add(soon))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("client of the address got %v, want a reset", err)
	}
	m.signal(unix.SIGCONT)
	// Its right is ahead again, but what the guard took down stays down.
	if a := m.await("done"); !strings.Contains(a.Err, ErrRightEnded.Error()) {
		t.Errorf("lease ended with %q, want %v", a.Err, ErrRightEnded)
	}
	if has(t, h, vip4.Addr()) {
		t.Error("the address came back after the freeze")
	}
	m.do("acquire")
}

func TestKilledManagerAndGuardLeaveTheRestToTheKernel(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{Listen: true}).opened()
	m.do("acquire")
	s := m.do("state").State
	h := l.handle("a")
	// The guard first: the other way round it would act.
	m.signal(unix.SIGSTOP)
	if err := unix.Kill(s.GuardPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	m.signal(unix.SIGKILL)
	if s.Fenced {
		var silent time.Duration
		l.ask("c", vip4.Addr(), func(owner string) bool {
			if owner != "" {
				silent = time.Since(begin)
			}
			return time.Since(begin) < time.Second
		})
		t.Logf("last answer %v after both were killed (nftables)", silent)
		if silent > 900*time.Millisecond {
			t.Errorf("still answers %v after both were killed", silent)
		}
	}
	await(t, "address gone", soon, func() bool { return !has(t, h, vip4.Addr()) })
	t.Logf("gone %v after both were killed (address lifetime)", time.Since(begin))
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("gone only %v after both were killed", d)
	}
}

func TestLeftoverIsRemovedAtOpen(t *testing.T) {
	l := newLab(t)
	l.ip("a", "addr add 10.77.0.50/32 dev eth0 valid_lft 100 preferred_lft 100")
	m := l.manager("a", managerSettings{}).opened()
	m.event(EventLeftover)
	if has(t, l.handle("a"), vip4.Addr()) {
		t.Error("the leftover is still there")
	}
	l.ip("b", "addr add 10.77.0.50/24 dev eth0")
	mb := l.manager("b", managerSettings{})
	if a := mb.await("open"); !strings.Contains(a.Err, "own address") {
		t.Errorf("open on a host that has the address configured: %q", a.Err)
	}
}

func TestSweepRemovesAddressAndRules(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{}).opened()
	m.do("acquire")
	guard := m.guardPID()
	m.signal(unix.SIGSTOP)
	if err := unix.Kill(guard, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	m.signal(unix.SIGKILL)
	if err := l.in("a", func() error { return Sweep(vip4, "eth0") }); err != nil {
		t.Fatal(err)
	}
	if has(t, l.handle("a"), vip4.Addr()) {
		t.Error("the address is still there")
	}
	if rules := l.run("a", "nft list ruleset"); rules != "" {
		t.Errorf("rules are left: %s", rules)
	}
}

func TestHostWithoutTheAddressResetsItsClients(t *testing.T) {
	for _, vip := range []netip.Prefix{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			l := newLab(t)
			l.manager("a", managerSettings{Address: vip, Listen: true}).opened()
			// c believes that a has the address, as after a takeover whose announcement was lost.
			l.ip("c", "neigh replace "+vip.Addr().String()+" lladdr "+l.mac("a")+" dev eth0 nud permanent")
			begin := time.Now()
			_, err := l.dial("c", vip.Addr(), 5*time.Second)
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Fatalf("dial of the address at a host without it: %v after %v, want refused at once", err, time.Since(begin))
			}
			t.Logf("refused after %v", time.Since(begin))
		})
	}
}

func TestAddressRemovedByAnotherToolIsPutBack(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{}).opened()
	m.do("acquire")
	h := l.handle("a")
	for range 3 {
		l.ip("a", "addr del 10.77.0.50/32 dev eth0")
		back := await(t, "address is back", soon, func() bool { return has(t, h, vip4.Addr()) })
		t.Logf("back at most %v after ip addr del returned", back)
		m.event(EventRestored)
	}
	if !m.do("state").State.Bound {
		t.Error("not bound after restoration")
	}
}

func TestFlushedRulesAreInstalledAgain(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{Listen: true}).opened()
	m.do("acquire")
	if !m.do("state").State.Fenced {
		t.Skip("this kernel has no nftables egress hook")
	}
	l.run("a", "nft flush ruleset")
	await(t, "rules are back", soon, func() bool {
		return strings.Contains(l.run("a", "nft list ruleset"), "elements = { 10.77.0.50 timeout")
	})
	if _, err := l.dial("c", vip4.Addr(), soon); err != nil {
		t.Errorf("dial after the rules were flushed: %v", err)
	}
}

func TestLostCarrierEndsTheLease(t *testing.T) {
	for name, cut := range map[string]func(*lab){
		"carrier lost":          func(l *lab) { l.ip("sw", "link set port-a down") },
		"administratively down": func(l *lab) { l.ip("a", "link set eth0 down") },
		"interface deleted":     func(l *lab) { l.ip("sw", "link del port-a") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			m := l.manager("a", managerSettings{}).opened()
			m.do("acquire")
			begin := time.Now()
			cut(l)
			if a := m.await("done"); !strings.Contains(a.Err, ErrLinkDown.Error()) {
				t.Errorf("lease ended with %q, want %v", a.Err, ErrLinkDown)
			}
			t.Logf("lost %v after the command to cut began", time.Since(begin))
			m.event(EventLost)
			if has(t, l.handle("a"), vip4.Addr()) {
				t.Error("the address is still bound")
			}
			m.command("acquire")
			if a := m.await("acquire"); !strings.Contains(a.Err, ErrLinkDown.Error()) {
				t.Errorf("acquire on a dead link: %q, want %v", a.Err, ErrLinkDown)
			}
			m.do("close")
		})
	}
}

func TestEndOfTheRightEndsTheLease(t *testing.T) {
	l := newLab(t)
	m := l.manager("a", managerSettings{}).opened()
	m.do("acquire")
	m.command("expire")
	if a := m.await("done"); !strings.Contains(a.Err, ErrRightEnded.Error()) {
		t.Errorf("lease ended with %q, want %v", a.Err, ErrRightEnded)
	}
	h := l.handle("a")
	await(t, "address gone", soon, func() bool { return !has(t, h, vip4.Addr()) })
	m.do("acquire")
	if !has(t, h, vip4.Addr()) {
		t.Error("cannot be acquired again")
	}
}

func TestStrangerIsReportedAndCannotVeto(t *testing.T) {
	l := newLab(t)
	l.ip("b", "addr add 10.77.0.50/32 dev eth0")
	m := l.manager("a", managerSettings{}).opened()
	a := m.do("acquire")
	if e := m.event(EventConflict); e.MAC != l.mac("b") {
		t.Errorf("conflict names %s, want %s", e.MAC, l.mac("b"))
	}
	t.Logf("acquire against a stranger took %d µs", a.Micro)
	if s := m.do("state").State; s.LastConflict == nil || s.LastConflict.MAC.String() != l.mac("b") || s.LastConflict.Peer {
		t.Errorf("last conflict %+v", s.LastConflict)
	}
}

func TestVacantAddressIsBoundWithoutWaitingAndAStrangerStillNoticed(t *testing.T) {
	l := newLab(t)
	l.ip("b", "addr add 10.77.0.50/32 dev eth0")
	m := l.manager("a", managerSettings{Vacant: true}).opened()
	a := m.do("acquire")
	if e := m.event(EventConflict); e.MAC != l.mac("b") {
		t.Errorf("conflict names %s, want %s", e.MAC, l.mac("b"))
	}
	t.Logf("acquire of a vacant address took %d µs", a.Micro)
}

func TestLaterClaimIsDefended(t *testing.T) {
	for _, vip := range []netip.Prefix{vip4, vip6} {
		t.Run(vip.String(), func(t *testing.T) {
			l := newLab(t)
			m := l.manager("a", managerSettings{Address: vip}).opened()
			m.do("acquire")
			claim := func() {
				t.Helper()
				if err := l.in("b", func() error { return announceOnce("eth0", vip.Addr()) }); err != nil {
					t.Fatal(err)
				}
			}
			claim()
			if e := m.event(EventConflict); e.MAC != l.mac("b") {
				t.Errorf("conflict names %s, want %s", e.MAC, l.mac("b"))
			}
			m.event(EventDefended)
		})
	}
}

func TestOtherManagerIsWaitedFor(t *testing.T) {
	l := newLab(t)
	ma := l.manager("a", managerSettings{}).opened()
	mb := l.manager("b", managerSettings{Peers: []string{l.mac("a")}}).opened()
	ma.do("acquire")
	mb.command("acquire")
	hb := l.handle("b")
	n := 0
	l.ask("c", vip4.Addr(), func(owner string) bool { // b asks again and again; it must not bind while a answers
		if owner != "" && owner != l.mac("a") {
			t.Errorf("%s answers for the address that a holds", owner)
		}
		n++
		return n < 20
	})
	if has(t, hb, vip4.Addr()) {
		t.Fatal("b bound the address that a holds")
	}
	ma.do("release")
	begin := time.Now()
	if a := mb.await("acquire"); a.Err != "" {
		t.Fatal(a.Err)
	}
	t.Logf("acquired %v after the other Manager let go", time.Since(begin))
}

func TestOtherManagerThatDoesNotLetGoIsNotWaitedForBeyondTheLimit(t *testing.T) {
	l := newLab(t)
	ma := l.manager("a", managerSettings{}).opened()
	mb := l.manager("b", managerSettings{Peers: []string{l.mac("a")}}).opened()
	ma.do("acquire")
	begin := time.Now()
	mb.do("acquire")
	if d := time.Since(begin); d < DefaultConfig().HeldLimit {
		t.Errorf("acquired after %v, before the limit %v", d, DefaultConfig().HeldLimit)
	}
	await(t, "the announcement of b wins", soon, func() bool {
		_, _ = l.dial("c", vip4.Addr(), 100*time.Millisecond)
		return l.neighbour("c", vip4.Addr()) != ""
	})
	if e := ma.event(EventConflict); e.MAC != l.mac("b") {
		t.Errorf("a saw a conflict with %s, want %s", e.MAC, l.mac("b"))
	}
}
