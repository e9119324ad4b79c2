package settings

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestApplySetsByKey(t *testing.T) {
	got, err := Default().Apply(map[string]string{
		"name": "cell 1", "mode": "master", "active": "true", "vip": "10.0.0.50/24", "interface": "eth0",
		"local.address": "10.0.0.1", "peer.address": "10.0.0.2", "arbiter.address": "10.0.0.3",
	})
	want := master()
	want.Active = true
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err = got.Apply(map[string]string{
		"active": "false", "peer.port": "9000", "local.second": "fd00::1", "arbiter.address": "none",
		"timing.heartbeat_period": "40ms", "timing.missed_heartbeats": "3", "timing.standby_activity": "warm",
		"listen.http": "", "limits.browsers": "5", "peer.comment": "right cabinet",
	})
	want.Active, want.Peer.Port, want.Local.Second, want.Arbiter.Address = false, 9000, netip.MustParseAddr("fd00::1"), netip.Addr{}
	want.Timing.HeartbeatPeriod, want.Timing.MissedHeartbeats, want.Timing.StandbyActivity = 40*time.Millisecond, 3, Warm
	want.Listen.HTTP, want.Limits.Browsers, want.Peer.Comment = "", 5, "right cabinet"
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestApplyNamesEveryFieldThatIsWrong(t *testing.T) {
	values := map[string]string{
		"colour": "red", "local": "10.0.0.1", "name.first": "a", "local.adress": "10.0.0.1", "": "x",
		"local.address": "10.0.0", "vip": "10.0.0.50", "peer.port": "99999", "active": "perhaps",
		"timing.connect_timeout": "2", "timing.announce_count": "many",
	}
	_, err := Default().Apply(values)
	var list Errors
	if !errors.As(err, &list) {
		t.Fatalf("error %v", err)
	}
	var fields []string
	for _, fe := range list {
		fields = append(fields, fe.Field)
		if fe.Message == "" || fe.Fix == "" {
			t.Errorf("%q has no message or no fix", fe.Field)
		}
	}
	if want := slices.Sorted(maps.Keys(values)); !slices.Equal(fields, want) {
		t.Errorf("errors for %q, want %q", fields, want)
	}
}
