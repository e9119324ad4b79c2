package pool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// agree gives every living Manager the next revision, as the database does; an Arbiter learns it
// from the leader.
func (tr *trio) agree(change func(*Record)) {
	tr.t.Helper()
	next := tr.primary().pool.Record()
	next.Revision++
	change(&next)
	for _, n := range []*node{tr.m, tr.b} {
		if n.pool == nil {
			continue
		}
		if _, ok := next.Member(n.pool.Record().Self); !ok {
			continue
		}
		if err := n.pool.Update(next); err != nil {
			tr.t.Fatal(err)
		}
	}
}

// reconcile goes on until the log's members are those of the record.
func (tr *trio) reconcile(n *node) (steps []string) {
	tr.t.Helper()
	ctx, cancel := context.WithTimeout(tr.t.Context(), 20*time.Second)
	defer cancel()
	for {
		err := n.pool.Reconcile(ctx, func(s Step) {
			if s.Done && (len(steps) == 0 || steps[len(steps)-1] != s.Code) {
				steps = append(steps, s.Code)
			}
		})
		if err == nil {
			return steps
		}
		if ctx.Err() != nil || !errors.Is(err, ErrWaits) {
			tr.t.Fatalf("reconcile: %v after %v", err, steps)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func without(r *Record, role Role) Member {
	i := slices.IndexFunc(r.Members, func(m Member) bool { return m.Role == role })
	gone := r.Members[i]
	r.Members = slices.Delete(slices.Clone(r.Members), i, i+1)
	r.Gone = Bury(r.Gone, gone, GoneReplaced)
	return gone
}

// A dead member's place is filled by a new one while writes go on; who comes back is refused and
// learns why. The leader is killed between any two steps, and the next one goes on.
func TestADeadMemberIsReplaced(t *testing.T) {
	for _, role := range []Role{Backup, Arbiter} {
		t.Run(role.String(), func(t *testing.T) {
			tr := newTrioWith(t, options{direct: true})
			w := tr.write(1)
			old := tr.b
			if role == Arbiter {
				old = tr.a
			}
			old.kill()
			tr.wait("noticed", func() bool { return tr.m.pool.State().Health == Degraded })
			fresh := newNode(t, tr.net, "n")
			t.Cleanup(fresh.close)
			tr.agree(func(r *Record) { without(r, role) })
			if role == Backup {
				tr.b = fresh // nothing of the dead one is looked at any more
			} else {
				tr.a = fresh
			}
			if got := tr.reconcile(tr.m); !slices.Equal(got, []string{"removed"}) {
				t.Errorf("taking out: %v", got)
			}
			member := fresh.member(role, MemberID(NewID()))
			tr.agree(func(r *Record) { r.Members = append(slices.Clone(r.Members), member) })
			plan := tr.m.pool.Record()
			plan.Phase, plan.Highest = PhaseForming, nil
			tr.join(fresh, plan, member.ID)
			if got := tr.reconcile(tr.m); !slices.Equal(got, []string{role.String() + "_connect", "synchronise", "voters"}) {
				t.Errorf("putting in: %v", got)
			}
			tr.wait("the new one is a member", func() bool { return fresh.pool.Record().Phase == PhaseEffective })
			tr.waitProtected()
			old.reopen()
			t.Cleanup(old.close)
			tr.wait("the one before is refused", func() bool {
				r := old.pool.State().Reasons
				return len(r) == 1 && r[0].Code == "refused_replaced" && strings.Contains(r[0].Text, "was replaced")
			})
			if role == Backup { // what it was filled with makes it able to take over
				tr.m.kill()
				tr.wait("takeover by the new one", func() bool { return tr.primary() == tr.b })
				tr.m.reopen()
			}
			w.end()
		})
	}
}

// The leader dies after each step of a replacement; whoever leads then goes on to the same end.
func TestAReplacementGoesOnAfterTheLeadersDeath(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	w := tr.write(1)
	tr.a.kill()
	tr.wait("noticed", func() bool { return tr.m.pool.State().Health == Degraded })
	fresh := newNode(t, tr.net, "n")
	tr.agree(func(r *Record) { without(r, Arbiter) })
	restart := func() {
		n := tr.primary()
		n.kill()
		n.reopen()
		tr.wait("a Primary again", func() bool { return tr.primary() != nil })
	}
	restart()
	tr.reconcile(tr.primary())
	restart()
	member := fresh.member(Arbiter, MemberID(NewID()))
	tr.agree(func(r *Record) { r.Members = append(slices.Clone(r.Members), member) })
	plan := tr.primary().pool.Record()
	plan.Phase, plan.Highest = PhaseForming, nil
	tr.a = fresh
	tr.join(fresh, plan, member.ID)
	p := tr.primary()
	tr.wait("it reads along", func() bool {
		err := p.pool.Reconcile(t.Context(), func(s Step) {})
		return err == nil || strings.Contains(err.Error(), "entries behind")
	})
	restart()
	tr.wait("all vote", func() bool {
		p := tr.primary()
		return p != nil && p.pool.Reconcile(t.Context(), func(Step) {}) == nil
	})
	w.end()
}

// An Arbiter that was away while something was agreed gets it when it returns; a member whose
// address changed is called there.
func TestWhoWasAwayLearnsWhatWasAgreed(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	tr.a.kill()
	tr.wait("noticed", func() bool { return tr.m.pool.State().Health == Degraded })
	port := tr.a.addr
	tr.a.listen("127.0.0.1:0") // the machine has another address now
	moved := tr.a.addr
	if moved == port {
		t.Fatal("the same port again")
	}
	rec, err := ReadRecord(tr.a.dir)
	if err != nil {
		t.Fatal(err)
	}
	tr.a.open(rec)
	tr.agree(func(r *Record) {
		r.Members = slices.Clone(r.Members)
		for i := range r.Members {
			if r.Members[i].Role == Arbiter {
				r.Members[i].Address = moved
			}
		}
		r.Timing.MissedHeartbeats++
	})
	tr.wait("the Arbiter has it", func() bool { return tr.a.pool.Record().Revision == 1 })
	tr.waitProtected()
	if got := fmt.Sprint(tr.a.pool.Record().ByRole(Arbiter)); !strings.Contains(got, moved.String()) {
		t.Errorf("the Arbiter has %s", got)
	}
	// A second path for all, from one moment to the next.
	tr.agree(func(r *Record) {
		r.Members = slices.Clone(r.Members)
		for i, m := range r.Members {
			r.Members[i].Second = m.Address
		}
	})
	tr.wait("the second path is heard", func() bool {
		tr.m.pool.mu.Lock()
		defer tr.m.pool.mu.Unlock()
		for _, pr := range tr.m.pool.peers {
			if pr.heard[1] == 0 || Since(pr.heard[1]) > time.Second {
				return false
			}
		}
		return true
	})
	for _, m := range tr.m.pool.State().Members {
		if !m.RunsOld {
			t.Errorf("%s does not say that it runs with the times before", m.Name)
		}
	}
}
