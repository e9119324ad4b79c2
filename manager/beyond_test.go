package manager

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"redundancypool/fieldunit"
	"redundancypool/manager/database"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

// An export tells what was stored, and no secret.
func TestWhatWasBeyondThePoolIsTold(t *testing.T) {
	secret := [32]byte{'s', 'e', 'c', 'r', 'e', 't'}
	for _, c := range []struct {
		name  string
		body  database.Body
		want  []string
		never string
	}{
		{"telemetry, one line a message", database.TelemetryBatch{Records: []fieldunit.Telemetry{
			{Unit: "u1", HasSeq: true, Seq: 7, SourceMS: 5, Node: "n", Group: "g", Readings: []fieldunit.Reading{
				{Tag: "t", Value: fieldunit.Value{Kind: fieldunit.Text, Str: "x"}}, {Tag: "e", Error: 2014}}},
			{Unit: "u2", SourceMS: 6, Readings: []fieldunit.Reading{{Tag: "b", Value: fieldunit.Value{Kind: fieldunit.Bool, Num: 1}}}},
		}}, []string{
			`{"index":3,"term":2,"kind":"telemetry","proposed_ms":9,"unit":"u1","seq":7,"timestamp":5,"node":"n","group":"g","values":{"t":"x"},"errors":{"e":2014}}`,
			`{"index":3,"term":2,"kind":"telemetry","proposed_ms":9,"unit":"u2","timestamp":6,"values":{"b":true}}`,
		}, ""},
		{"a unit without its secret", database.UnitAdd{Name: "u", Secret: secret}, []string{`{"index":3,"term":2,"kind":"unit_add","proposed_ms":9,"what":"u"}`}, "secret"},
		{"a user without the password", database.UserPut{Name: "ann", Hash: "argon2"}, []string{`{"index":3,"term":2,"kind":"user_put","proposed_ms":9,"what":"ann"}`}, "argon2"},
		{"a setting by its key alone", database.SettingPut{Key: "k", Value: "hidden"}, []string{`{"index":3,"term":2,"kind":"setting_put","proposed_ms":9,"what":"k"}`}, "hidden"},
		{"the health check's own write, which nobody misses", database.Canary{}, nil, ""},
	} {
		data, err := database.Encode(database.Command{Envelope: database.Envelope{ProposedMS: 9}, Body: c.body})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range beyondLines(pool.Entry{Index: 3, Term: 2, Data: data}) {
			b, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(b))
		}
		if text := strings.Join(got, "\n"); text != strings.Join(c.want, "\n") || c.never != "" && strings.Contains(text, c.never) {
			t.Errorf("%s: %s", c.name, text)
		}
	}
	if got := beyondLines(pool.Entry{Index: 3, Data: []byte("damaged")}); len(got) != 1 || got[0].Kind != "unreadable" {
		t.Errorf("a damaged entry: %+v", got)
	}
}

// Each Manager sees the agreement from its own place.
func TestTheAgreementFromEachPlace(t *testing.T) {
	member := func(id, addr string, role pool.Role) pool.Member {
		return pool.Member{ID: pool.MemberID(id), Role: role, Address: parsed(addr)}
	}
	a := agreement{Members: []pool.Member{member("m", "10.0.0.1:8099", pool.Master), member("b", "10.0.0.2:8100", pool.Backup), member("a", "10.0.0.3:8099", pool.Arbiter)},
		Active: true, Timing: settings.Default().Timing}
	for _, c := range []struct{ self, want string }{
		{"m", "master true 10.0.0.1:8099 10.0.0.2:8100 10.0.0.3:8099"},
		{"b", "backup false 10.0.0.2:8100 10.0.0.1:8099 10.0.0.3:8099"}, // Active is said on the Master
	} {
		s := a.applied(settings.Default(), pool.MemberID(c.self))
		if got := strings.Join([]string{string(s.Mode), map[bool]string{true: "true", false: "false"}[s.Active], s.Local.AddrPort().String(), s.Peer.AddrPort().String(), s.Arbiter.AddrPort().String()}, " "); got != c.want {
			t.Errorf("%s sees %s, want %s", c.self, got, c.want)
		}
	}
	for _, c := range []struct{ mode, key, role string }{
		{"master", "local.address", "master.address"}, {"master", "peer.port", "backup.port"}, {"backup", "local.address", "backup.address"},
		{"backup", "peer.second", "master.second"}, {"backup", "arbiter.address", "arbiter.address"}, {"backup", "vip", "vip"},
	} {
		mode := settings.Mode(c.mode)
		if got := names(mode).Replace(c.key); got != c.role || namesBack(mode).Replace(got) != c.key {
			t.Errorf("%s on the %s is %s", c.key, c.mode, got)
		}
	}
}

func parsed(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
