package manager

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
	"redundancypool/web"
)

// TestPictureWithoutAnEngine: a Manager that cannot start, restarts or waits shows that, names the
// members that it knows of, and never that it or its pool is well.
func TestPictureWithoutAnEngine(t *testing.T) {
	store, err := trust.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	set := settings.Default()
	set.Mode, set.VIP = settings.Master, netip.MustParsePrefix("10.0.0.50/24")
	set.Local.Address, set.Peer.Address, set.Arbiter.Address = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	for _, tt := range []struct {
		name    string
		change  func(*Manager)
		status  string
		health  string
		code    string
		members int
	}{
		{"it cannot start into its mode", func(m *Manager) { m.trouble = errors.New("disk full") }, "unknown", "failure", "not_running", 3},
		{"it is restarting", func(*Manager) {}, "configuring", "configuring", "restarting", 3},
		{"a Backup on hold", func(m *Manager) {
			m.settings.Mode, m.progress.Forming, m.progress.Remaining = settings.Backup, true, time.Minute
			m.engine = &engine{m: m, settings: m.settings}
		}, "on_hold", "configuring", "on_hold", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &Manager{settings: set, trust: store}
			tt.change(m)
			r := source{m}.Redundancy()
			if r.Status != tt.status || r.Health != tt.health || r.FailoverPossible || len(r.Members) != tt.members {
				t.Errorf("%s, %s, failover %v, %d members", r.Status, r.Health, r.FailoverPossible, len(r.Members))
			}
			for _, why := range r.Reasons {
				if why.Code == tt.code && why.Fix == "" {
					t.Errorf("%s has no fix", why.Code)
				}
			}
			if len(r.Reasons) == 0 || r.At.IsZero() || !r.Members[0].Self {
				t.Errorf("reasons %v at %v, first member %+v", r.Reasons, r.At, r.Members[0])
			}
			found := false
			for _, why := range r.Reasons {
				found = found || why.Code == tt.code
			}
			if !found {
				t.Errorf("no reason %s in %v", tt.code, r.Reasons)
			}
			for _, o := range r.Members {
				if o.IsPrimary || o.Status == "online" || o.Database == "in_step" {
					t.Errorf("%s is shown as well: %+v", o.Role, o)
				}
			}
		})
	}
}

func TestWhoHearsWhomAgesWithTheReport(t *testing.T) {
	const limit = 350 * time.Millisecond
	for _, tt := range []struct {
		name     string
		ago      int64
		reported time.Duration
		state    string
		heard    int64 // -1: null
	}{
		{"heard just now, said just now", 10, 5 * time.Millisecond, "heard", 15},
		{"said to be silent", 400, 5 * time.Millisecond, "silent", 405},
		{"the report's age makes it silent", 300, 100 * time.Millisecond, "silent", 400},
		{"never", -1, 0, "never", -1},
		{"the one who says so is silent itself", 10, 9 * time.Second, "unknown", 9010},
		{"and it had never heard it", -1, 9 * time.Second, "unknown", -1},
	} {
		state, heard := hears(tt.ago, tt.reported, limit)
		if state != tt.state || (heard == nil) != (tt.heard < 0) || heard != nil && *heard != tt.heard {
			t.Errorf("%s: %s %v", tt.name, state, heard)
		}
	}
	st := pool.State{Record: pool.Record{Timing: pool.DefaultTiming()}, Members: []pool.MemberState{
		{Member: pool.Member{ID: "m", Role: pool.Master}, Hears: map[pool.MemberID][2]int64{"b": {5, -1}}},
		{Member: pool.Member{ID: "b", Role: pool.Backup}, HearsAge: -1},
	}}
	if got := linksOf(st); len(got) != 2 || got[0].State != "heard" || got[1].State != "unknown" || slices.ContainsFunc(got, func(l web.Link) bool { return l.Path != 1 }) {
		t.Errorf("%+v", got)
	}
}
