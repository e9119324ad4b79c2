package settings

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// master returns valid settings of a Master.
func master() Settings {
	s := Default()
	s.Name, s.Mode = "cell 1", Master
	s.VIP, s.Interface = netip.MustParsePrefix("10.0.0.50/24"), "eth0"
	s.Local.Address = netip.MustParseAddr("10.0.0.1")
	s.Peer.Address = netip.MustParseAddr("10.0.0.2")
	s.Arbiter.Address = netip.MustParseAddr("10.0.0.3")
	return s
}

func TestSaveAndLoad(t *testing.T) {
	dir := t.TempDir()
	if got, err := Load(dir); err != nil || got != Default() {
		t.Fatalf("without a file: %+v, %v", got, err)
	}
	s := master()
	s.Local.Second, s.Local.Comment = netip.MustParseAddr("fd00::1"), `left "cabinet"`
	s.Timing.HeartbeatPeriod = 12500 * time.Microsecond
	s.Active = true
	if err := Save(dir, s); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(dir); err != nil || got != s {
		t.Errorf("came back as %+v, %v", got, err)
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v)", info.Mode(), err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if Save(filepath.Join(dir, "missing"), s) == nil {
		t.Error("saved into a folder that does not exist")
	}
}

func TestDecodeNamesTheLineAndTheKey(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key at the top", "name = \"a\"\nrole = \"master\"\n", `line 2: unknown key "role"`},
		{"unknown key in a table", "[timing]\n# none\nheartbeat = \"1s\"\n", `line 3: unknown key "timing.heartbeat"`},
		{"unknown table", "\n[cloud]\nurl = \"x\"\n", `line 2: unknown key "cloud"`},
		{"a number where a text must be", "name = 7\n", "line 1"},
		{"an address that is none", "vip = \"10.0.0.300/24\"\n", "10.0.0.300"},
		{"a port that is too large", "[peer]\nport = 70000\n", "port"},
		{"a duration without a unit", "[timing]\nheartbeat_period = \"25\"\n", "heartbeat_period"},
		{"broken text", "name = \"a\n", "line 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Decode([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tt := range []struct {
		name   string
		change func(*Settings)
		want   string // "field code" of every error, in order
	}{
		{"default settings are valid", func(s *Settings) { *s = Default() }, ""},
		{"a full Master is valid", func(*Settings) {}, ""},
		{"a Backup learns the Arbiter from its Master", func(s *Settings) { s.Mode, s.Arbiter = Backup, Member{} }, ""},
		{"a Standalone needs no addresses", func(s *Settings) { s.Mode, s.Local.Address = Standalone, netip.Addr{} }, ""},
		{"an unknown mode", func(s *Settings) { s.Mode = "leader" }, "mode invalid"},
		{"a Master without anything", func(s *Settings) { *s = Default(); s.Mode = Master },
			"local.address required, peer.address required, arbiter.address required, vip required"},
		{"two members at one address", func(s *Settings) { s.Arbiter.Address = s.Peer.Address }, "arbiter.address duplicate"},
		{"the VIP is a member's address", func(s *Settings) { s.VIP = netip.MustParsePrefix("10.0.0.2/24") }, "vip duplicate"},
		{"the VIP is the network address", func(s *Settings) { s.VIP = netip.MustParsePrefix("10.0.0.0/24") }, "vip reserved"},
		{"the VIP is the broadcast address", func(s *Settings) { s.VIP = netip.MustParsePrefix("10.0.0.255/24") }, "vip reserved"},
		{"the VIP is the IPv6 routers' anycast address", func(s *Settings) {
			s.VIP = netip.MustParsePrefix("fd00::/64")
			s.Local.Address, s.Peer.Address, s.Arbiter.Address = addr("fd00::1"), addr("fd00::2"), addr("fd00::3")
		}, "vip reserved"},
		{"a pool of IPv6 is valid", func(s *Settings) {
			s.VIP = netip.MustParsePrefix("fd00::50/64")
			s.Local.Address, s.Peer.Address, s.Arbiter.Address = addr("fd00::1"), addr("fd00::2"), addr("fd00::3")
		}, ""},
		{"the VIP is loopback", func(s *Settings) { s.VIP = netip.MustParsePrefix("127.0.0.9/8") }, "vip invalid"},
		{"a prefix of length 0", func(s *Settings) { s.VIP = netip.MustParsePrefix("10.0.0.50/0") }, "vip invalid"},
		{"a member outside the VIP's network", func(s *Settings) { s.Peer.Address = addr("10.0.1.2") }, "peer.address subnet"},
		{"a member of the other family", func(s *Settings) { s.Peer.Address = addr("fd00::2") }, "peer.address subnet"},
		{"a member at the broadcast address", func(s *Settings) { s.Peer.Address = addr("10.0.0.255") }, "peer.address reserved"},
		{"a member at every address", func(s *Settings) { s.Local.Address = addr("0.0.0.0") }, "local.address invalid, local.address subnet"},
		{"a member that is a group", func(s *Settings) { s.Local.Address = addr("224.0.0.1") }, "local.address invalid, local.address subnet"},
		{"a whole second path is valid", func(s *Settings) {
			s.Local.Second, s.Peer.Second, s.Arbiter.Second = addr("192.168.9.1"), addr("192.168.9.2"), addr("192.168.9.3")
		}, ""},
		{"half a second path", func(s *Settings) { s.Local.Second = addr("192.168.9.1") }, "peer.second required, arbiter.second required"},
		{"the second path is the first", func(s *Settings) {
			s.Local.Second, s.Peer.Second, s.Arbiter.Second = s.Local.Address, addr("192.168.9.2"), addr("192.168.9.3")
		}, "local.second duplicate"},
		{"Active on the Backup", func(s *Settings) { s.Mode, s.Active = Backup, true }, "active invalid"},
		{"plain HTTP beyond loopback", func(s *Settings) { s.Listen.HTTP = ":8080" }, "listen.http invalid"},
		{"a host name to listen on", func(s *Settings) { s.Listen.HTTPS = "localhost:8443" }, "listen.https invalid"},
		{"no port to listen on", func(s *Settings) { s.Listen.HTTPS = "10.0.0.1" }, "listen.https invalid"},
		{"two servers on one port", func(s *Settings) { s.Listen.MQTT = ":8443" }, "listen.mqtt duplicate"},
		{"a server on the pool port", func(s *Settings) { s.Listen.MQTT = ":8099" }, "listen.mqtt duplicate"},
		{"no server at all is valid", func(s *Settings) { s.Listen = Listen{} }, ""},
		{"a heartbeat of nothing", func(s *Settings) { s.Timing.HeartbeatPeriod = 0 }, "timing.heartbeat_period range"},
		{"no heartbeat to miss", func(s *Settings) { s.Timing.MissedHeartbeats = 0 }, "timing.missed_heartbeats range"},
		{"lukewarm", func(s *Settings) { s.Timing.StandbyActivity = "lukewarm" }, "timing.standby_activity invalid"},
		{"no field units", func(s *Settings) { s.Limits.FieldUnits = 0 }, "limits.field_units range"},
		{"a line end in the name", func(s *Settings) { s.Name = "a\nb" }, "name invalid"},
		{"a comment without end", func(s *Settings) { s.Peer.Comment = strings.Repeat("x", 300) }, "peer.comment range"},
		{"a path as interface", func(s *Settings) { s.Interface = "../eth0" }, "interface invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := master()
			tt.change(&s)
			var got []string
			var list Errors
			if errors.As(s.Validate(), &list) {
				for _, fe := range list {
					got = append(got, fe.Field+" "+fe.Code)
					if fe.Message == "" || fe.Fix == "" {
						t.Errorf("%s has no message or no fix", fe.Field)
					}
				}
			}
			if strings.Join(got, ", ") != tt.want {
				t.Errorf("errors %q, want %q\n%v", strings.Join(got, ", "), tt.want, list)
			}
		})
	}
}

func TestMemberAddresses(t *testing.T) {
	m := Member{Address: netip.MustParseAddr("10.0.0.1"), Second: netip.MustParseAddr("10.9.0.1"), Port: 9000}
	if m.AddrPort().String() != "10.0.0.1:9000" || m.SecondAddrPort().String() != "10.9.0.1:9000" {
		t.Errorf("%v and %v", m.AddrPort(), m.SecondAddrPort())
	}
	if (Member{}).AddrPort().IsValid() || (Member{}).SecondAddrPort().IsValid() || (Member{}).MemberPort() != DefaultPoolPort {
		t.Error("a member without an address has one")
	}
}

func TestProgressSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	if p, err := LoadProgress(dir); err != nil || p != (Progress{}) {
		t.Fatalf("without a file: %+v, %v", p, err)
	}
	before, tried := Default(), master()
	p := Progress{Forming: true, Attempt: "7f", Remaining: 9 * time.Minute, Before: &before, Tried: &tried,
		FallBack: &FallBack{Code: "timeout", Text: "the Backup did not answer", TimeMS: 5}}
	if err := SaveProgress(dir, p); err != nil {
		t.Fatal(err)
	}
	got, err := LoadProgress(dir)
	if err != nil || got.Remaining != p.Remaining || *got.Tried != tried || *got.Before != before || *got.FallBack != *p.FallBack {
		t.Errorf("came back as %+v, %v", got, err)
	}
	for _, text := range []string{"{", `{"remaining_ns":-1}`, `{"colour":1}`} {
		if err := os.WriteFile(filepath.Join(dir, ProgressFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadProgress(dir); err == nil || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("%s: error %v", text, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	dir := f.TempDir()
	if err := Save(dir, master()); err != nil {
		f.Fatal(err)
	}
	valid, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(valid)
	f.Add([]byte("[timing]\nheartbeat = 1\n"))
	f.Add([]byte("vip = \"1.2.3.4/33\"\n"))
	f.Add([]byte("local.port = -1\nlocal.\"x y\" = 2"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Decode(text)
		if err != nil || s.Validate() != nil {
			return
		}
		dir := t.TempDir()
		if err := Save(dir, s); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(dir); err != nil || got != s {
			t.Errorf("valid settings came back as %+v, %v", got, err)
		}
	})
}

func FuzzProgress(f *testing.F) {
	f.Add([]byte(`{"forming":true,"attempt":"a","remaining_ns":5,"committed":false}`))
	f.Add([]byte(`{"before":{"vip":"10.0.0.1/24"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := decodeProgress(text); err == nil && p.Remaining < 0 {
			t.Error("a negative time was accepted")
		}
	})
}
