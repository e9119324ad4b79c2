package manager

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

func poolSettings() settings.Settings {
	s := settings.Default()
	s.Mode = settings.Master
	s.Local.Address, s.Peer.Address, s.Arbiter.Address = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	s.VIP = netip.MustParsePrefix("10.0.0.50/24")
	return s
}

// results are the checks as "code result field", sorted.
func results(checks []control.Check) string {
	var out []string
	for _, c := range checks {
		out = append(out, strings.TrimSpace(c.Code+" "+c.Result+" "+c.Field))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

func TestVerifyJudgesTheForm(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*settings.Settings)
		want   string // among the results
	}{
		{"all is well", func(*settings.Settings) {}, "addresses_distinct ok; not_reserved ok vip; same_subnet ok vip; timing ok timing"},
		{"the virtual IP is a member's", func(s *settings.Settings) { s.VIP = netip.MustParsePrefix("10.0.0.2/24") }, "addresses_distinct failed vip"},
		{"two members have one address", func(s *settings.Settings) { s.Peer.Address = s.Arbiter.Address }, "addresses_distinct failed"},
		{"the virtual IP is the broadcast address", func(s *settings.Settings) { s.VIP = netip.MustParsePrefix("10.0.0.255/24") }, "not_reserved failed vip"},
		{"the virtual IP is the network address", func(s *settings.Settings) { s.VIP = netip.MustParsePrefix("10.0.0.0/24") }, "not_reserved failed vip"},
		{"the virtual IP is elsewhere", func(s *settings.Settings) { s.VIP = netip.MustParsePrefix("10.9.0.50/24") }, "same_subnet failed vip"},
		{"one member is elsewhere", func(s *settings.Settings) { s.Arbiter.Address = netip.MustParseAddr("10.9.0.3") }, "same_subnet failed arbiter.address"},
		{"a member at loopback", func(s *settings.Settings) { s.Peer.Address = netip.MustParseAddr("127.0.0.1") }, "only_this_node failed peer.address"},
		{"an address is missing", func(s *settings.Settings) { s.Peer.Address = netip.Addr{} }, "value_required failed peer.address"},
		{"times that do not fit", func(s *settings.Settings) { s.Timing.LongLivedTimeout = 250 * 1e6 }, "timing failed timing.long_lived_timeout"},
		{"standalone", func(s *settings.Settings) { s.Mode = settings.Standalone }, "mode ok mode"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := poolSettings()
			tt.change(&s)
			var f findings
			if err := verifyForm(s, &f); err != nil {
				t.Fatal(err)
			}
			if got := results(f.checks); !strings.Contains(got, tt.want) {
				t.Errorf("results %q lack %q", got, tt.want)
			}
		})
	}
}

func TestVerifyJudgesWhatAMemberIs(t *testing.T) {
	is := func(role string, s pool.Standing) arbiter.Contact {
		return arbiter.Contact{Introduction: pool.Introduction{Role: role, Standing: s}}
	}
	fellow := is("backup", pool.Bound)
	fellow.Fellow = true
	for _, tt := range []struct {
		name string
		want pool.Role
		met  arbiter.Contact
		out  string
	}{
		{"a Backup on hold", pool.Backup, is("backup", pool.Waiting), "free ok; role ok"},
		{"a Manager that was not set to Backup", pool.Backup, is("standalone", pool.Free), "role failed"},
		{"an Arbiter where the Backup should be", pool.Backup, is("arbiter", pool.Free), "role failed"},
		{"a Backup of another pool", pool.Backup, is("backup", pool.Bound), "free failed; role ok"},
		{"a Backup of this pool", pool.Backup, fellow, "free ok; role ok"},
		{"a fresh Arbiter", pool.Arbiter, is("arbiter", pool.Free), "free ok; role ok"},
		{"an Arbiter of another pool", pool.Arbiter, is("arbiter", pool.Bound), "free failed; role ok"},
		{"a Manager where the Arbiter should be", pool.Arbiter, is("standalone", pool.Free), "role failed"},
		{"a Master that is not set yet", pool.Master, is("standalone", pool.Free), "role ok"},
		{"a Backup where the Master should be", pool.Master, is("backup", pool.Waiting), "role failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f findings
			verifyRole(partner{role: tt.want}, tt.met, func(code, result, text, fix string) { f.add(code, "", "", result, text, fix) })
			if got := results(f.checks); got != tt.out {
				t.Errorf("results %q, want %q", got, tt.out)
			}
		})
	}
}

func TestModulesOfThePairAreCompared(t *testing.T) {
	for _, tt := range []struct {
		here, there []string
		state, text string
	}{
		{nil, nil, licenceMatch, "no licensed modules"},
		{[]string{"a", "b"}, []string{"a", "b"}, licenceMatch, "a, b"},
		{[]string{"a", "b"}, []string{"a"}, licenceMismatch, "only here: b"},
		{nil, []string{"c", "d"}, licenceMismatch, "only there: c, d"},
		{[]string{"a"}, []string{"b"}, licenceMismatch, "only here: a; only there: b"},
	} {
		if state, text := compareModules(tt.here, tt.there); state != tt.state || !strings.Contains(text, tt.text) {
			t.Errorf("%v and %v: %s, %q", tt.here, tt.there, state, text)
		}
	}
}

func TestListenersThatCannotBeAreRefusedBesideTheirField(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	foreign, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer foreign.Close()
	old := settings.Default()
	old.Listen.HTTPS = taken.Addr().String() // as if this process had it
	m := &Manager{}
	for _, tt := range []struct {
		name   string
		change func(*settings.Settings)
		want   string
	}{
		{"nothing changes", func(*settings.Settings) {}, ""},
		{"its own port on all addresses", func(s *settings.Settings) { s.Listen.HTTPS = ":" + portOf(taken.Addr().String()) }, ""},
		{"another server's port", func(s *settings.Settings) { s.Listen.HTTPS = ""; s.Listen.MQTT = taken.Addr().String() }, "port_free failed listen.mqtt"},
		{"another program's port", func(s *settings.Settings) { s.Listen.MQTT = foreign.Addr().String() }, "port_free failed listen.mqtt"},
		{"an address that is not here", func(s *settings.Settings) { s.Listen.MQTT = "192.0.2.7:18883" }, "port_free failed listen.mqtt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := old
			tt.change(&s)
			var f findings
			m.verifyListeners(old, s, &f)
			if got := results(f.checks); got != tt.want {
				t.Errorf("results %q, want %q", got, tt.want)
			}
		})
	}
}

func TestServersOnOneAddressDoNotServeTheVirtualIP(t *testing.T) {
	s := poolSettings()
	var f findings
	verifyReachableFromAll(s, &f)
	if got := results(f.checks); got != "only_this_node ok" {
		t.Errorf("all addresses: %q", got)
	}
	s.Listen.MQTT, s.Listen.HTTPS = "10.0.0.1:8883", "[::]:8443"
	f = findings{}
	verifyReachableFromAll(s, &f)
	if got := results(f.checks); got != "only_this_node failed listen.mqtt" || !strings.Contains(fmt.Sprint(f.checks), ":8883") {
		t.Errorf("one address: %q", got)
	}
}
