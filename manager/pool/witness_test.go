package pool

import (
	"strings"
	"testing"
	"time"
)

// A takeover's account names its cause and what the two who agreed on it had seen; the old Primary's
// own account of its end is there once it can be asked.
func TestATakeoverHasItsEvidence(t *testing.T) {
	tr := newTrio(t)
	w := tr.write(2)
	tr.wait("something is written", func() bool { return w.count() > 5 })
	old := tr.m.pool.State().Term
	tr.net.part("m", "b")
	tr.net.part("m", "a")
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	var c Changeover
	tr.wait("its account is there", func() bool {
		got := tr.b.pool.State().Change
		if got != nil {
			c = *got
		}
		return c.To == "b"
	})
	tr.net.heal()
	w.end()
	if c.Code != CauseSilent && c.Code != CauseElection && c.Code != CauseLeaseOver {
		t.Errorf("code %q of %+v", c.Code, c)
	}
	if c.FromTerm < old || c.FencedMS < c.ElectedMS || c.FencedMS > 10_000 {
		t.Errorf("term %d of the old Primary, fenced after %v ms: %+v", c.FromTerm, c.FencedMS, c)
	}
	if c.Code == CauseSilent {
		by := map[string]Sighting{}
		for _, s := range c.Evidence {
			by[s.Member] = s
		}
		for _, member := range []string{"a", "b"} {
			s := by[member]
			if s.Verdict != string(suspectSil) || s.Primary != "m" || s.Term != c.FromTerm || time.Since(time.UnixMilli(s.LastHeardMS)) > time.Minute {
				t.Errorf("%s saw %+v", member, s)
			}
		}
	}
	var own []Sighting
	tr.wait("the old Primary has noted its end", func() bool {
		own = nil
		for _, s := range tr.m.pool.Sightings(old) {
			if s.Self {
				own = append(own, s)
			}
		}
		return len(own) == 1
	})
	if s := own[0]; s.GaveUpMS == 0 || s.GaveUp == "" || s.LastWriteMS == 0 || s.GaveUpMS < s.LastWriteMS-1000 {
		t.Errorf("the old Primary's own account: %+v", s)
	}
	all, grown := MergeSightings(c.Evidence, own)
	if !grown || len(all) != len(c.Evidence)+1 {
		t.Errorf("merged: %+v", all)
	}
	if _, grown := MergeSightings(all, own); grown {
		t.Error("the same account was merged twice")
	}
}

// A Primary that was killed knows, when it is back, when it wrote last and that it did not give up.
func TestAKilledPrimaryKnowsWhenItWroteLast(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	if err := write(tr.m, "last"); err != nil {
		t.Fatal(err)
	}
	term := tr.m.pool.State().Term
	tr.wait("that it is Primary stands on its disk", func() bool {
		tr.m.pool.mu.Lock()
		defer tr.m.pool.mu.Unlock()
		return !tr.m.pool.witnessing && tr.m.pool.witness.Reigning == term
	})
	tr.m.killHard(t)
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	var c *Changeover
	tr.wait("its account is there", func() bool { c = tr.b.pool.State().Change; return c != nil && c.To == "b" })
	if c.Code != CauseProcessDied && c.Code != CauseSilent {
		t.Errorf("account %+v", c)
	}
	tr.m.reopen()
	got := tr.m.pool.Sightings(term)
	if len(got) != 1 || !got[0].Self || got[0].GaveUpMS != 0 || time.Since(time.UnixMilli(got[0].LastWriteMS)) > time.Minute {
		t.Errorf("the killed one's account: %+v", got)
	}
	tr.waitProtected()
}

// killHard is kill without what a dying process could still write.
func (n *node) killHard(t *testing.T) {
	t.Helper()
	n.pool.mu.Lock()
	n.pool.witnessing = true // as if its goroutine never came to it
	n.pool.mu.Unlock()
	n.kill()
}

// A link that comes and goes moves Primary once at most, and the status says that it flaps.
func TestAFlappingLinkMovesPrimaryOnceAtMost(t *testing.T) {
	tr := newTrio(t)
	w := tr.write(2)
	before := tr.m.pool.State().Term
	changes, noted := 0, false
	at, last := "m", before
	look := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			n := tr.primary()
			if n == nil {
				continue
			}
			s := n.pool.State()
			if n.name != at {
				changes, at = changes+1, n.name
				t.Logf("Primary is %s in term %d: %+v", n.name, s.Term, s.Change)
			}
			last = s.Term
			for _, note := range s.Notes {
				noted = noted || strings.HasSuffix(note.Code, "_flapping")
			}
		}
	}
	for range 4 {
		tr.net.part("m", "b")
		tr.net.part("m", "a")
		look(700 * time.Millisecond)
		tr.net.heal()
		look(700 * time.Millisecond)
	}
	w.end()
	if changes > 1 {
		t.Errorf("Primary moved %d times", changes)
	}
	if !noted {
		t.Error("no status said that a member comes and goes")
	}
	t.Logf("%d changes, terms %d to %d, longest gap between acknowledgements %v", changes, before, last, w.gap)
}

func TestTheWaitBeforeTakingBackGrowsAndIsForgotten(t *testing.T) {
	p := &Pool{timing: DefaultTiming()}
	if got := p.takeBackWaitLocked(); got != 30*time.Second {
		t.Errorf("at first %v", got)
	}
	for _, want := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		p.backOffLocked()
		if got := p.takeBackWaitLocked(); got != want {
			t.Errorf("waits %v, want %v", got, want)
		}
	}
	for range 20 {
		p.backOffLocked()
	}
	if got := p.takeBackWaitLocked(); got != time.Hour {
		t.Errorf("at most %v", got)
	}
	p.backOffAt = Now().Add(-3 * time.Hour)
	if got := p.takeBackWaitLocked(); got != 30*time.Second {
		t.Errorf("after quiet hours %v", got)
	}
}

func TestCauseOf(t *testing.T) {
	for _, tt := range []struct{ name, asked, kind, why, want string }{
		{"a drill was asked for", CauseDrill, "hand_over", "drill", CauseDrill},
		{"an operator asked", "", "hand_over", "asked for", CauseOperator},
		{"the Master takes back", "", "take_back", "", CauseTakeBack},
		{"it could not write", "", "", ErrSick.Error() + ": canary: late", CauseSick},
		{"it heard too few", "", "", ErrLeaseOver.Error(), CauseLeaseOver},
		{"it was stopped", "", "", "shutting down", CauseStopped},
		{"another reason", "", "", "it leads no more", CauseReleased},
	} {
		if got := causeOf(tt.asked, tt.kind, tt.why); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// In a planned hand over the right lasts until everything is laid down, so that the virtual IP does
// not leave under what is still being answered; whatever else ends a reign ends the right at once.
func TestTheRightLastsWhileAHandOverLaysDown(t *testing.T) {
	for _, tt := range []struct {
		name    string
		status  Status
		handing bool
		reign   *reign
		want    Instant
	}{
		{"Primary", Primary, false, &reign{}, forever},
		{"handing over, duties not yet laid down", Online, true, &reign{}, forever},
		{"handing over, all laid down", Online, true, nil, 0},
		{"ended for another reason", Online, false, &reign{}, 0},
	} {
		l := newLease(time.Second, func() {})
		l.voting(nil)
		l.begin(7)
		p := &Pool{lease: l, status: tt.status, handing: tt.handing, reign: tt.reign}
		if got := p.rightUntil(); got != tt.want {
			t.Errorf("%s: until %d, want %d", tt.name, got, tt.want)
		}
	}
}
