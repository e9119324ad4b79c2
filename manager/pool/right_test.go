package pool

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ms1 = Instant(time.Millisecond)

func TestWhatAPromiseAllows(t *testing.T) {
	const lease = 200 * time.Millisecond
	for _, c := range []struct {
		name string
		do   func(p *promise, at func(ms int)) bool
		want bool
	}{
		{"free: votes", func(p *promise, at func(int)) bool { return p.vote("b", 6, true) == nil }, true},
		{"promised to m: no vote for b", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			return p.vote("b", 6, true) == nil
		}, false},
		{"promised to m: m itself may stand again", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			return p.vote("m", 6, true) == nil
		}, true},
		{"promise kept for the margin behind the lease too", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			at(205)
			return p.vote("b", 6, true) == nil
		}, false},
		{"promise run out: votes", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			at(211)
			return p.vote("b", 6, true) == nil
		}, true},
		{"voted in 6: no lease in 5", func(p *promise, at func(int)) bool {
			_ = p.vote("b", 6, true)
			return p.grant("m", tenure{5, 0}, lease)
		}, false},
		{"pre-vote in 6 does not bind", func(p *promise, at func(int)) bool {
			_ = p.vote("b", 6, false)
			return p.grant("m", tenure{5, 0}, lease)
		}, true},
		{"promised to m: no lease for b", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			return p.grant("b", tenure{6, 0}, lease)
		}, false},
		{"released: votes at once", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			p.release("m", tenure{5, 0})
			return p.vote("b", 6, true) == nil
		}, true},
		{"a release of an earlier term frees nothing", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			p.release("m", tenure{4, 9})
			return p.vote("b", 6, true) == nil
		}, false},
		{"a release that a newer heartbeat has overtaken frees nothing", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 1}, lease)
			p.release("m", tenure{5, 0})
			return p.vote("b", 6, true) == nil
		}, false},
		{"a heartbeat that a release has overtaken gets nothing", func(p *promise, at func(int)) bool {
			p.release("m", tenure{5, 0})
			return p.grant("m", tenure{5, 0}, lease)
		}, false},
		{"the next epoch of the same term gets a lease", func(p *promise, at func(int)) bool {
			p.release("m", tenure{5, 0})
			return p.grant("m", tenure{5, 1}, lease)
		}, true},
		{"its death in that term proven: free, whatever the epoch", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 7}, lease)
			p.release("m", wholeTerm(5))
			return p.vote("b", 6, true) == nil
		}, true},
		{"another's release frees nothing", func(p *promise, at func(int)) bool {
			p.grant("m", tenure{5, 0}, lease)
			p.release("b", tenure{9, 0})
			return p.vote("b", 10, true) == nil
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := 1000 * ms1
			p := newPromise(func() Instant { return now }, 0, 0)
			if got := c.do(p, func(k int) { now = 1000*ms1 + Instant(k)*ms1 }); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
	now := 1000 * ms1
	p := newPromise(func() Instant { return now }, 3, 300*time.Millisecond)
	if p.vote("b", 4, true) == nil || !p.starting() {
		t.Error("just started: it votes")
	}
	now += 301 * ms1
	if p.vote("b", 4, true) != nil || p.starting() {
		t.Error("start grace over: it does not vote")
	}
	if p.grant("m", tenure{2, 0}, lease) {
		t.Error("a lease in a term older than the stored one")
	}
}

func TestWhatMakesALease(t *testing.T) {
	l := newLease(200*time.Millisecond, func() {})
	if l.until() != 0 {
		t.Error("valid before anything is known")
	}
	l.voting(nil)
	if l.until() != 0 {
		t.Error("a pool of one has a lease without leading")
	}
	l.begin(5)
	if l.until() != forever {
		t.Error("a pool of one that leads needs nobody")
	}
	l.voting([]MemberID{"b", "a"})
	if l.until() != 0 {
		t.Error("valid without an answer")
	}
	at := tenure{5, 0}
	l.consent("b", tenure{4, 0}, 1000*ms1)
	l.consent("x", at, 1000*ms1)
	l.consent("b", tenure{5, 1}, 1000*ms1)
	if l.until() != 0 {
		t.Error("answers of another term, epoch or of one who does not vote count")
	}
	l.consent("b", at, 1000*ms1)
	if l.until() != 1200*ms1 {
		t.Errorf("until %v", l.until())
	}
	l.consent("b", at, 900*ms1)
	if l.until() != 1200*ms1 {
		t.Error("a late answer to an earlier question changes something")
	}
	l.consent("a", at, 1100*ms1)
	age, last := l.fresh("a", 1299*ms1)
	if _, over := l.fresh("a", 1300*ms1); l.until() != 1300*ms1 || !last || over || age != 199*time.Millisecond {
		t.Errorf("until %v", l.until())
	}
	if e := l.release(); e != 0 || l.until() != 0 {
		t.Error("released and valid")
	}
	l.begin(5)
	l.consent("a", at, 1150*ms1)
	if l.until() != 0 {
		t.Error("consent from before the release counts after it")
	}
	l.consent("a", tenure{5, 1}, 1160*ms1)
	if l.until() != 1360*ms1 {
		t.Error("the new epoch's consent does not count")
	}
}

// Three members over a simulated clock: heartbeats, answers and releases are delayed, reordered
// and lost at will, members restart and stand for election at any time. Never do two members
// have a valid lease at one instant.
func TestNeverTwoValidLeases(t *testing.T) {
	ids := []MemberID{"m", "b", "a"}
	const length = 200 * time.Millisecond
	rapid.Check(t, func(t *rapid.T) {
		now := Instant(time.Second)
		clock := func() Instant { return now }
		type member struct {
			promise *promise
			lease   *lease
			term    uint64 // stored
			voted   map[uint64]MemberID
			leads   uint64
		}
		all := map[MemberID]*member{}
		start := func(term uint64, voted map[uint64]MemberID, grace time.Duration) *member {
			m := &member{promise: newPromise(clock, term, grace), lease: newLease(length, func() {}), term: term, voted: voted}
			return m
		}
		for _, id := range ids {
			all[id] = start(0, map[uint64]MemberID{}, 0)
		}
		var mail []func() // messages under way; each is delivered once, in any order, or never
		vote := func(voter, candidate MemberID, term uint64) bool {
			m := all[voter]
			if term < m.term || m.voted[term] != "" && m.voted[term] != candidate {
				return false
			}
			if voter != candidate && now < m.lease.until() || m.promise.vote(candidate, term, true) != nil {
				return false
			}
			if term > m.term { // Raft: a newer term ends leading
				m.term, m.leads = term, 0
				m.lease.end()
			}
			m.voted[term] = candidate
			return true
		}
		check := func(what string) {
			var holders []MemberID
			for _, id := range ids {
				if now < all[id].lease.until() {
					holders = append(holders, id)
				}
			}
			if len(holders) > 1 {
				t.Fatalf("after %s: %v hold valid leases", what, holders)
			}
		}
		pick := func(label string) MemberID { return rapid.SampledFrom(ids).Draw(t, label) }
		t.Repeat(map[string]func(*rapid.T){
			"time": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 120).Draw(t, "ms")) * time.Millisecond)
				check("time passed")
			},
			"elect": func(t *rapid.T) {
				c := rapid.SampledFrom([]MemberID{"m", "b"}).Draw(t, "candidate")
				term := all[c].term + 1
				voters := []MemberID{c, pick("second voter")}
				won := 0
				for _, v := range slices.Compact(voters) {
					if vote(v, c, term) {
						won++
					}
				}
				if won == 2 {
					m := all[c]
					m.leads = term
					m.lease.voting(slices.DeleteFunc(slices.Clone(ids), func(x MemberID) bool { return x == c }))
					m.lease.begin(term)
				}
				check("election")
			},
			"beat": func(t *rapid.T) {
				from, to := pick("from"), pick("to")
				m := all[from]
				epoch, ok := m.lease.asking(m.leads)
				if from == to || m.leads == 0 || !ok {
					t.Skip()
				}
				at, sent := tenure{m.leads, epoch}, now
				mail = append(mail, func() {
					v := all[to]
					if now >= v.lease.until() && v.promise.grant(from, at, length) {
						mail = append(mail, func() { all[from].lease.consent(to, at, sent) })
					}
				})
			},
			"release": func(t *rapid.T) {
				from := pick("from")
				m := all[from]
				if m.leads == 0 {
					t.Skip()
				}
				at := tenure{m.leads, m.lease.release()}
				for _, to := range ids {
					if to != from {
						mail = append(mail, func() { all[to].promise.release(from, at) })
						mail = append(mail, func() { all[to].promise.release(from, at) }) // the second path
					}
				}
				if rapid.Bool().Draw(t, "leads on") {
					m.lease.begin(m.leads)
				}
			},
			"deliver": func(t *rapid.T) {
				if len(mail) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(mail)-1).Draw(t, "which")
				f := mail[i]
				mail = slices.Delete(mail, i, i+1)
				f()
				check("delivery")
			},
			"restart": func(t *rapid.T) {
				id := pick("member")
				m := all[id]
				all[id] = start(m.term, m.voted, DefaultTiming().startGrace())
				check("restart")
			},
		})
	})
}

func TestSuspect(t *testing.T) {
	const d = 250 * time.Millisecond
	for _, c := range []struct {
		name string
		s    sight
		want suspicion
	}{
		{"heard lately: trusted", sight{term: 5, silence: d, detect: d}, trusted},
		{"silent for longer: suspected", sight{term: 5, silence: d + 1, detect: d}, suspectSil},
		{"connections broke and the port refuses: suspected at once", sight{term: 5, gone: true, detect: d}, suspectRST},
		{"laid down in this term: suspected at once", sight{term: 5, released: 5, detect: d}, suspectOut},
		{"laid down in an earlier term: trusted", sight{term: 5, released: 4, detect: d}, trusted},
		{"farewell of this term: proof", sight{term: 5, dead: 5, gone: true, detect: d}, suspectBye},
		{"farewell of an earlier term: trusted", sight{term: 5, dead: 4, detect: d}, trusted},
	} {
		if got := suspect(c.s); got != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestTimingIsValidatedWithReasons(t *testing.T) {
	if err := DefaultTiming().Validate(); err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(*Timing){
		func(d *Timing) { d.HeartbeatPeriod = 0 },
		func(d *Timing) { d.HeartbeatTimeout = time.Minute },
		func(d *Timing) { d.MissedHeartbeats = 1 },
		func(d *Timing) { d.MissedHeartbeats = 101 },
		func(d *Timing) { d.ConnectTimeout = time.Millisecond },
		func(d *Timing) { d.LongLivedTimeout = time.Millisecond },
		func(d *Timing) { d.LongLivedTimeout = d.Lease() },
		func(d *Timing) { d.DiskTimeout, d.HoldTimeout = time.Hour, 0 },
		func(d *Timing) { d.ConnectionWait = -1 },
		func(d *Timing) { d.HeartbeatPeriod, d.MissedHeartbeats = 5*time.Second, 100 },
		func(d *Timing) {
			d.HeartbeatPeriod, d.HeartbeatTimeout, d.MissedHeartbeats = 100*time.Millisecond, 5*time.Millisecond, 2
		},
	} {
		d := DefaultTiming()
		change(&d)
		if err := d.Validate(); err == nil {
			t.Errorf("change %d is taken: %+v", i, d)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := DefaultTiming()
		d.HeartbeatPeriod = time.Duration(rapid.IntRange(1, 6000).Draw(t, "period")) * time.Millisecond
		d.HeartbeatTimeout = time.Duration(rapid.IntRange(1, 11000).Draw(t, "timeout")) * time.Millisecond
		d.MissedHeartbeats = rapid.IntRange(0, 120).Draw(t, "missed")
		d.LongLivedTimeout = 10 * time.Minute
		if d.Validate() != nil {
			return
		}
		promised := d.Lease() + d.Lease()/20
		if !(promised < d.Detect() && d.Detect() < d.arbiterElection() && d.arbiterElection() < d.managerElection() && d.startGrace() > promised) {
			t.Errorf("margins do not hold: lease %v, promise %v, detect %v, arbiter %v, manager %v, grace %v",
				d.Lease(), promised, d.Detect(), d.arbiterElection(), d.managerElection(), d.startGrace())
		}
		if d.WorstTakeover() <= d.Detect() {
			t.Error("worst case below the detection time")
		}
	})
	if w := DefaultTiming().WorstTakeover(); w >= 900*time.Millisecond {
		t.Errorf("default worst case %v", w)
	}
}

func ExampleTiming_WorstTakeover() {
	fmt.Println(DefaultTiming().Detect(), DefaultTiming().Lease(), DefaultTiming().WorstTakeover())
	// Output: 350ms 280ms 520ms
}

func BenchmarkLeaseUntil(b *testing.B) {
	l := newLease(time.Second, func() {})
	l.voting([]MemberID{"b", "a"})
	l.begin(1)
	l.consent("b", tenure{1, 0}, Now())
	l.consent("a", tenure{1, 0}, Now())
	b.ReportAllocs()
	for b.Loop() {
		if l.until() == 0 {
			b.Fatal("no lease")
		}
	}
}
