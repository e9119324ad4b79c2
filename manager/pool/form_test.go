package pool

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"redundancypool/manager/pool/transport"
)

// candidates are three nodes of which m is a pool of one and the others wait with empty stores.
func candidates(t *testing.T) (*trio, Record) {
	t.Helper()
	net := newNetwork()
	tr := &trio{t: t, net: net, m: newNode(t, net, "m"), b: newNode(t, net, "b"), a: newNode(t, net, "a")}
	t.Cleanup(func() {
		for _, n := range []*node{tr.a, tr.b, tr.m} {
			n.close()
		}
	})
	rec, err := Create(tr.m.dir, tr.m.member(Standalone, ""), tr.m.timing)
	if err != nil {
		t.Fatal(err)
	}
	tr.m.open(rec)
	tr.wait("Standalone", func() bool { return tr.m.pool.State().Status == Alone })
	if err := write(tr.m, "before"); err != nil {
		t.Fatal(err)
	}
	rec.Incarnation, rec.Phase = NewID(), PhaseForming
	rec.Members = []Member{tr.m.member(Master, rec.Self), tr.b.member(Backup, MemberID(NewID())), tr.a.member(Arbiter, MemberID(NewID()))}
	return tr, rec
}

func (tr *trio) join(n *node, rec Record, id MemberID) {
	tr.t.Helper()
	rec.Self = id
	if err := Join(n.dir, rec); err != nil {
		tr.t.Fatal(err)
	}
	n.open(rec)
}

func TestFormingThatFailsLeavesAWorkingPoolOfOne(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(tr *trio, rec Record, cancel context.CancelFunc) func(Step)
	}{
		{"the Arbiter never answers", func(tr *trio, rec Record, cancel context.CancelFunc) func(Step) {
			tr.join(tr.b, rec, rec.Members[1].ID)
			return func(s Step) {
				if s.Code == "arbiter_connect" {
					cancel()
				}
			}
		}},
		{"cancelled while the database is copied", func(tr *trio, rec Record, cancel context.CancelFunc) func(Step) {
			tr.join(tr.b, rec, rec.Members[1].ID)
			tr.join(tr.a, rec, rec.Members[2].ID)
			return func(s Step) {
				if s.Code == "synchronise" {
					cancel()
				}
			}
		}},
		{"the Backup dies before it votes", func(tr *trio, rec Record, cancel context.CancelFunc) func(Step) {
			tr.join(tr.b, rec, rec.Members[1].ID)
			tr.join(tr.a, rec, rec.Members[2].ID)
			return func(s Step) {
				if s.Code == "synchronise" && tr.b.pool != nil {
					tr.b.kill()
					time.AfterFunc(500*time.Millisecond, cancel)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr, rec := candidates(t)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := tr.m.pool.Form(ctx, rec, c.run(tr, rec, cancel)); err == nil {
				t.Fatal("formed")
			} else if errors.Is(err, ErrVoting) {
				t.Fatal(err)
			}
			if err := write(tr.m, "in between"); err != nil {
				t.Error(err)
			}
			if err := tr.m.pool.Unform(t.Context()); err != nil {
				t.Fatal(err)
			}
			tr.wait("Standalone again", func() bool { return tr.m.pool.State().Status == Alone })
			if err := write(tr.m, "after"); err != nil {
				t.Error(err)
			}
			if got := len(tr.m.machine.texts()); got != 3 {
				t.Errorf("%d rows of 3", got)
			}
			tr.m.close()
			tr.m.reopen()
			tr.wait("Standalone after a restart", func() bool { return tr.m.pool.State().Status == Alone })
		})
	}
}

func TestLeavingThePoolKeepsTheDataWhoeverIsAway(t *testing.T) {
	for _, away := range []string{"nobody", "the Backup", "the Arbiter"} {
		t.Run(away, func(t *testing.T) {
			tr := newTrioWith(t, options{direct: true})
			if err := write(tr.m, "x"); err != nil {
				t.Fatal(err)
			}
			if err := tr.m.pool.Unform(t.Context()); err == nil {
				t.Error("an effective pool is cancelled")
			}
			switch away {
			case "the Backup":
				tr.b.kill()
			case "the Arbiter":
				tr.a.kill()
			}
			tr.wait("noticed", func() bool { return (tr.m.pool.State().Health == Degraded) == (away != "nobody") })
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := tr.m.pool.Dissolve(ctx); err != nil {
				t.Fatal(err)
			}
			tr.wait("Standalone", func() bool { return tr.m.pool.State().Status == Alone })
			if err := write(tr.m, "y"); err != nil {
				t.Error(err)
			}
			if rec, err := ReadRecord(tr.m.dir); err != nil || rec.Phase != PhaseSingle || len(rec.Members) != 1 {
				t.Errorf("%+v %v", rec, err)
			}
		})
	}
}

func TestARestartStormEndsProtected(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	rng := seeded(t)
	w := tr.write(2)
	for range rounds(t, 8) {
		n := []*node{tr.m, tr.b, tr.a}[rng.IntN(3)]
		if rng.IntN(2) == 0 {
			n.kill()
		} else {
			n.close()
		}
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond)
		n.reopen()
	}
	w.end()
}

func TestCloseLeavesNothingBehind(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	t.Run("a pool of three", func(t *testing.T) {
		tr := newTrioWith(t, options{direct: true})
		if err := write(tr.m, "x"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWhoIsAdmitted(t *testing.T) {
	p := &Pool{self: "b", record: Record{Incarnation: "now", Members: []Member{
		{ID: "m", Role: Master, Fingerprint: "fm"}, {ID: "b", Role: Backup}, {ID: "a", Role: Arbiter, Fingerprint: "fa"},
	}}}
	ok := transport.Hello{Kind: transport.KindLink, Incarnation: "now", From: "m", To: "b"}
	for _, c := range []struct {
		name   string
		change func(h *transport.Hello, fp *string)
		code   string
	}{
		{"the Master", func(*transport.Hello, *string) {}, ""},
		{"an earlier forming", func(h *transport.Hello, _ *string) { h.Incarnation = "then" }, "incarnation"},
		{"a stranger", func(h *transport.Hello, _ *string) { h.From = "x" }, "not_a_member"},
		{"another certificate", func(_ *transport.Hello, fp *string) { *fp = "other" }, "fingerprint"},
		{"who means another member", func(h *transport.Hello, _ *string) { h.To = "a" }, "wrong_member"},
		{"the Arbiter with a link", func(h *transport.Hello, fp *string) { h.From, *fp = "a", "fa" }, ""},
		{"the Arbiter with Raft messages", func(h *transport.Hello, fp *string) { h.From, *fp, h.Kind = "a", "fa", transport.KindRaft }, "arbiter"},
	} {
		h, fp := ok, "fm"
		c.change(&h, &fp)
		err := p.admit(h, fp)
		var r *transport.Refusal
		switch {
		case c.code == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.code != "" && (!errors.As(err, &r) || r.Code != c.code):
			t.Errorf("%s: %v, want %s", c.name, err, c.code)
		}
	}
}

func TestOnlyTheRightFarewellProvesADeath(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	var r Reign
	tr.wait("the Master serves", func() bool {
		tr.net.watch.Lock()
		defer tr.net.watch.Unlock()
		var ok bool
		r, ok = tr.net.reigns["m"]
		return ok
	})
	me := tr.m.pool.self
	announced := func() bool {
		tr.b.pool.mu.Lock()
		defer tr.b.pool.mu.Unlock()
		return tr.b.pool.peers[me].farewell != ""
	}
	tr.wait("the hash is announced", announced)
	tr.b.pool.onFarewell([]byte("wrong"))
	tr.b.pool.onFarewell(nil)
	if why, _ := tr.b.pool.suspectPeer(me, r.Term); why != trusted {
		t.Errorf("a wrong secret makes it %q", why)
	}
	secret := r.Farewell[len("FAREWELL1 "):]
	tr.b.pool.onFarewell(secret)
	if why, _ := tr.b.pool.suspectPeer(me, r.Term); why != suspectBye {
		t.Errorf("the right secret makes it %q", why)
	}
	if why, _ := tr.b.pool.suspectPeer(me, r.Term+1); why == suspectBye {
		t.Error("it proves the death of a later term's process too")
	}
}

func TestWordsSurviveJSON(t *testing.T) {
	for s := Unknown; s <= Alone; s++ {
		b, err := json.Marshal(s)
		var back Status
		if err != nil || json.Unmarshal(b, &back) != nil || back != s {
			t.Errorf("%v: %s, %v", s, b, err)
		}
	}
	for r := Standalone; r <= Arbiter; r++ {
		b, err := json.Marshal(r)
		var back Role
		if err != nil || json.Unmarshal(b, &back) != nil || back != r {
			t.Errorf("%v: %s, %v", r, b, err)
		}
	}
	for h := Failure; h <= HealthForming; h++ {
		b, err := json.Marshal(h)
		var back Health
		if err != nil || json.Unmarshal(b, &back) != nil || back != h {
			t.Errorf("%v: %s, %v", h, b, err)
		}
	}
	var s Status
	if err := json.Unmarshal([]byte(`"leader"`), &s); err == nil || !strings.Contains(err.Error(), "primary") {
		t.Errorf("an unknown word: %v", err)
	}
	if got := Status(99).String(); got != "status(99)" {
		t.Error(got)
	}
}

func TestARecordIsReadAsWrittenAndDamageIsNamed(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadRecord(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	rec := Record{
		Pool: "p", Incarnation: "i", Self: "m", Phase: PhaseEffective, Timing: DefaultTiming(), VIP: "10.0.0.50/24", Active: true,
		Members: []Member{{ID: "m", Name: "north", Role: Master, Address: netip.MustParseAddrPort("10.0.0.1:8099")}},
		Highest: map[MemberID]Position{"m": {3, 99}},
	}
	if err := WriteRecord(dir, rec); err != nil {
		t.Fatal(err)
	}
	got, err := ReadRecord(dir)
	if err != nil || got.Members[0] != rec.Members[0] || got.Timing != rec.Timing || got.Highest["m"] != rec.Highest["m"] {
		t.Errorf("%+v, %v", got, err)
	}
	path := filepath.Join(dir, recordFile)
	for name, body := range map[string]string{
		"cut off":         `{"pool":"p","self":"m","mem`,
		"empty":           ``,
		"no members":      `{"pool":"p","self":"m"}`,
		"not among them":  `{"pool":"p","self":"x","members":[{"id":"m"}]}`,
		"an unknown role": `{"pool":"p","self":"m","members":[{"id":"m","role":"king"}]}`,
	} {
		if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadRecord(dir); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v does not name the file", name, err)
		}
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	beat := beat{Seq: 1, Term: 5, Lead: true, Lease: time.Second, Boot: "12345678", Farewell: strings.Repeat("f", 64), Report: report{
		Status: Primary, Last: Position{5, 100}, Applied: 100, Hears: map[MemberID][2]int64{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": {1, -1}, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb": {1, -1}},
		Digest: strings.Repeat("d", 64), DigestAt: 99,
	}, View: &View{Term: 5, Health: Protected, Members: make([]MemberView, 3), Changeover: &Changeover{Kind: "takeover", Cause: "silent"}}}
	b.ReportAllocs()
	var buf strings.Builder
	for b.Loop() {
		buf.Reset()
		if err := transport.WriteFrame(&buf, linkMessage{Beat: &beat}); err != nil {
			b.Fatal(err)
		}
		var m linkMessage
		if err := transport.ReadFrame(strings.NewReader(buf.String()), &m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(buf.Len()), "bytes/frame")
}
