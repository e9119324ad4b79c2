package vip

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestValidateSettings(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   string // part of the error; empty: none
	}{
		{"defaults with an address are valid", func(*Config) {}, ""},
		{"IPv6 is valid", func(c *Config) { c.Address = netip.MustParsePrefix("fd00::50/64") }, ""},
		{"no address", func(c *Config) { c.Address = netip.Prefix{} }, "virtual IP is missing"},
		{"the network's own address", func(c *Config) { c.Address = netip.MustParsePrefix("10.0.0.0/24") }, "network's own address"},
		{"IPv6 subnet router address", func(c *Config) { c.Address = netip.MustParsePrefix("fd00::/64") }, "network's own address"},
		{"broadcast address", func(c *Config) { c.Address = netip.MustParsePrefix("10.0.0.255/24") }, "broadcast address"},
		{"broadcast address of a small subnet", func(c *Config) { c.Address = netip.MustParsePrefix("10.0.0.51/30") }, "broadcast address"},
		{"255 inside a larger subnet is an ordinary host", func(c *Config) { c.Address = netip.MustParsePrefix("10.0.0.255/16") }, ""},
		{"host prefix", func(c *Config) { c.Address = netip.MustParsePrefix("10.0.0.50/32") }, "prefix is that of the subnet"},
		{"IPv6 host prefix", func(c *Config) { c.Address = netip.MustParsePrefix("fd00::50/128") }, "prefix is that of the subnet"},
		{"prefix 0", func(c *Config) { c.Address = netip.MustParsePrefix("10.0.0.50/0") }, "prefix is that of the subnet"},
		{"loopback", func(c *Config) { c.Address = netip.MustParsePrefix("127.0.0.5/8") }, "not an address that clients"},
		{"multicast", func(c *Config) { c.Address = netip.MustParsePrefix("224.0.0.5/24") }, "not an address that clients"},
		{"link-local", func(c *Config) { c.Address = netip.MustParsePrefix("fe80::5/64") }, "not an address that clients"},
		{"mapped IPv4", func(c *Config) { c.Address = netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.5"), 120) }, "plain IPv4 or IPv6"},
		{"no guard", func(c *Config) { c.GuardCommand = nil }, "guard command is empty"},
		{"lifetime in fractions", func(c *Config) { c.Lifetime = 1500 * time.Millisecond }, "whole seconds"},
		{"no lifetime", func(c *Config) { c.Lifetime = 0 }, "whole seconds"},
		{"no announcement", func(c *Config) { c.AnnounceCount = 0 }, "announce count 0"},
		{"no probe", func(c *Config) { c.ProbeWait = 0 }, "probe wait 0s"},
		{"fence that outlives the address", func(c *Config) { c.FenceTimeout = 3 * time.Second }, "fence timeout 3s"},
		{"renewal too rare for the fence", func(c *Config) { c.RenewInterval = 300 * time.Millisecond }, "renew interval 300ms"},
		{"negative margin", func(c *Config) { c.GuardMargin = -1 }, "guard margin -1ns"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := DefaultConfig()
			c.Address = netip.MustParsePrefix("10.0.0.50/24")
			tt.change(&c)
			checkError(t, c.validateSettings(), tt.want)
		})
	}
}

func TestChooseInterface(t *testing.T) {
	at := func(name, prefix string) LocalAddress {
		l := LocalAddress{Interface: name, Loopback: name == "lo"}
		if prefix != "" {
			l.Address = netip.MustParsePrefix(prefix)
		}
		return l
	}
	leftover := at("eth0", "10.0.0.50/32")
	leftover.Dynamic = true
	two := []LocalAddress{at("lo", "127.0.0.1/8"), at("eth0", "10.0.0.1/24"), at("eth1", "192.168.1.1/24"), at("eth2", "")}
	for _, tt := range []struct {
		name, vip, iface string
		local            []LocalAddress
		want, err        string
	}{
		{"derived from the subnet", "10.0.0.50/24", "", two, "eth0", ""},
		{"the other subnet", "192.168.1.50/24", "", two, "eth1", ""},
		{"named", "10.0.0.50/24", "eth0", two, "eth0", ""},
		{"named, but its addresses are of another subnet", "10.0.0.50/24", "eth1", two, "", "eth1 has no address in the subnet 10.0.0.0/24"},
		{"named, without any address", "10.0.0.50/24", "eth2", two, "", "eth2 has no address in the subnet"},
		{"named, but not there", "10.0.0.50/24", "eth9", two, "", `"eth9" does not exist`},
		{"no interface in the subnet", "10.9.0.50/24", "", two, "", "no interface of this host has an address in the subnet 10.9.0.0/24"},
		{"two interfaces in the subnet", "10.0.0.50/24", "", append(two, at("eth3", "10.0.0.7/24")), "", "name one"},
		{"two interfaces, one named", "10.0.0.50/24", "eth3", append(two, at("eth3", "10.0.0.7/24")), "eth3", ""},
		{"two addresses on one interface", "10.0.0.50/24", "", []LocalAddress{at("eth0", "10.0.0.1/24"), at("eth0", "10.0.0.2/24")}, "eth0", ""},
		{"this host's own address", "10.0.0.1/24", "", two, "", "own address on eth0"},
		{"configured as /32 by somebody, without a lifetime", "10.0.0.50/24", "", append(two, at("eth0", "10.0.0.50/32")), "", "own address on eth0"},
		{"left over by an earlier process", "10.0.0.50/24", "", append(two, leftover), "eth0", ""},
		{"loopback is no place", "127.0.0.9/8", "", two, "", "no interface of this host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{Address: netip.MustParsePrefix(tt.vip), Interface: tt.iface}
			got, err := c.chooseInterface(tt.local)
			if got != tt.want {
				t.Errorf("interface %q, want %q", got, tt.want)
			}
			checkError(t, err, tt.err)
		})
	}
}

func TestMissingCapabilitiesAreNamed(t *testing.T) {
	for _, tt := range []struct {
		name string
		caps uint32
		want string
	}{
		{"both", 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW, ""},
		{"no admin", 1 << unix.CAP_NET_RAW, "CAP_NET_ADMIN is missing"},
		{"no raw", 1 << unix.CAP_NET_ADMIN, "CAP_NET_RAW is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := missingCapabilities(tt.caps)
			checkError(t, err, tt.want)
			if err != nil && !errors.Is(err, ErrNotPermitted) {
				t.Errorf("%v is not ErrNotPermitted", err)
			}
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("error %q, want none", err)
	case want != "" && err == nil:
		t.Errorf("no error, want %q", want)
	case want != "" && !strings.Contains(err.Error(), want):
		t.Errorf("error %q, want %q in it", err, want)
	}
}

func TestDefenceIsMadeAtMostOncePerInterval(t *testing.T) {
	d := defence{interval: 10 * time.Second}
	second := Instant(time.Second)
	for _, step := range []struct {
		at    Instant
		claim bool // a claim comes in; otherwise time only passes
		want  bool // a defence is made
		why   string
	}{
		{100 * second, true, true, "first claim is answered at once"},
		{101 * second, true, false, "second claim within the interval waits"},
		{102 * second, true, false, "third one too"},
		{109 * second, false, false, "nothing is due yet"},
		{110 * second, false, true, "the one that waited is made when the interval is over"},
		{111 * second, false, false, "and only once"},
		{121 * second, true, true, "a claim after the interval is answered at once"},
	} {
		got := false
		if step.claim {
			got = d.claim(step.at)
		} else {
			got = d.pending(step.at)
		}
		if got != step.want {
			t.Errorf("%s: defended %v at %d s", step.why, got, step.at/second)
		}
	}
}

func TestBurstDoublesItsDistance(t *testing.T) {
	var at []time.Duration
	sum := time.Duration(0)
	for n := range DefaultConfig().AnnounceCount {
		sum += burst(n, 100*time.Millisecond)
		at = append(at, sum/time.Millisecond)
	}
	want := []time.Duration{0, 100, 300, 700, 1500, 3100}
	for i := range want {
		if at[i] != want[i] {
			t.Fatalf("announcements at %v ms, want %v", at, want)
		}
	}
}

func TestPatienceCountsOnlyTimeOfItsOwn(t *testing.T) {
	var p patience
	if p.over(time.Hour) {
		t.Error("ran out although nothing was waited for")
	}
	p.begin()
	if p.over(guardBudget) {
		t.Error("ran out at the budget, not beyond it")
	}
	p.begin()
	if !p.over(time.Nanosecond) {
		t.Error("a second begin started anew")
	}
	p.end()
	if p.over(time.Hour) {
		t.Error("ran out after what was waited for had come")
	}
}
