package notify

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// box keeps records as the database does.
type box map[string]Record

func (b box) all() (out []Record) {
	for _, r := range b {
		out = append(out, r)
	}
	return out
}

func (b box) put(list ...Record) {
	for _, r := range list {
		b[r.Message.ID] = r
	}
}

func enabled() Config {
	c := DefaultConfig()
	c.Webhook.Enabled = true
	return c
}

// TestFlappingIsGathered: the first at once, the others together at the end of the quiet time, and
// again so.
func TestFlappingIsGathered(t *testing.T) {
	b, c := box{}, enabled()
	at := func(d time.Duration) time.Time { return now.Add(d) }
	come := func(d time.Duration, id, title string) Record {
		m := message(id)
		m.TimeMS, m.Title = at(d).UnixMilli(), title
		r, ok := Admit(at(d), c, m, b.all())
		if !ok {
			t.Fatalf("%s is not admitted", id)
		}
		b.put(r)
		return r
	}
	if r := come(0, "a", "Degraded"); r.Held || len(r.Due(now, c, false)) != 1 {
		t.Errorf("the first: %+v", r)
	}
	for i, title := range []string{"Protected", "Degraded", "Protected"} {
		if r := come(time.Duration(i+1)*time.Minute, fmt.Sprint("b", i), title); !r.Held || !r.Open() {
			t.Errorf("the one after: %+v", r)
		}
	}
	if _, ok := Admit(at(time.Minute), c, message("a"), b.all()); ok {
		t.Error("the same is admitted twice")
	}
	if got := Gather(at(4*time.Minute), c, b.all()); len(got) != 0 {
		t.Errorf("gathered within the quiet time: %+v", got)
	}
	got := Gather(at(5*time.Minute), c, b.all())
	if len(got) != 4 || got[0].Message.ID != "more-b0" || got[0].Message.Count != 3 || got[0].Message.Title != "Change of pool health: 3 more in the last 5 minutes; now: Protected" ||
		strings.Count(got[0].Message.Text, "\n") != 2 || len(got[0].Deliveries) != 1 {
		t.Errorf("gathered: %+v", got)
	}
	b.put(got...)
	for _, r := range b {
		if r.Held && r.Open() {
			t.Errorf("still open: %+v", r)
		}
	}
	if got := Gather(at(20*time.Minute), c, b.all()); len(got) != 0 {
		t.Errorf("gathered twice: %+v", got)
	}
	if r := come(6*time.Minute, "c", "Degraded"); !r.Held {
		t.Error("the quiet time begins anew with what was gathered")
	}
	if r := come(30*time.Minute, "d", "Protected"); r.Held {
		t.Error("held long after the quiet time")
	}
}

func TestWhatIsNotWantedIsNotAdmitted(t *testing.T) {
	c := enabled()
	c.Kinds = []string{"disk"}
	if _, ok := Admit(now, c, message("a"), nil); ok {
		t.Error("a kind that is not chosen")
	}
	if _, ok := Admit(now, DefaultConfig(), message("a"), nil); ok {
		t.Error("no channel is enabled")
	}
}

func TestAttemptsBackOffAndEnd(t *testing.T) {
	c := enabled()
	c.Email.Enabled = true
	r, _ := Admit(now, c, message("a"), nil)
	r = Tried(now, r, ChannelEmail, "m1", nil)
	r = Tried(now, r, ChannelWebhook, "m1", errors.New("refused"))
	if got := r.Due(now, c, false); len(got) != 0 || !r.Open() {
		t.Errorf("due at once after a failure: %v", got)
	}
	if got := r.Due(now, c, true); !slices.Equal(got, []string{ChannelWebhook}) {
		t.Errorf("the next Primary tries %v at once", got)
	}
	if got := r.Due(now.Add(7*time.Second), c, false); !slices.Equal(got, []string{ChannelWebhook}) {
		t.Errorf("after 7 s %v is due", got)
	}
	for i := 1; i < 40; i++ {
		if d, want := Backoff(i), min(lastRetry, firstRetry<<min(i-1, 20)); d < want*4/5 || d > want*6/5 {
			t.Errorf("after %d attempts %v, want about %v", i, d, want)
		}
	}
	r = Tried(now.Add(giveUp+time.Hour), r, ChannelWebhook, "m1", errors.New("refused"))
	if d := r.Deliveries[0]; r.Open() || d.State != StateFailed || d.Attempts != 2 || d.Error != "refused" {
		t.Errorf("after a day: %+v", r)
	}
}
