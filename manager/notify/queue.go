package notify

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Record is a message with what became of it.
type Record struct {
	Message Message `json:"message"`
	AtMS    int64   `json:"at_ms"` // when it was admitted
	// Held: it waits to be gathered with others of its kind. Gathered is then the ID of the message
	// that told of it.
	Held       bool       `json:"held,omitempty"`
	Gathered   string     `json:"gathered,omitempty"`
	Deliveries []Delivery `json:"deliveries,omitempty"`
}

// Delivery is how far a message has come on one channel.
type Delivery struct {
	Channel  string `json:"channel"`
	State    string `json:"state"` // waiting, sent, failed
	Attempts int    `json:"attempts"`
	LastMS   int64  `json:"last_ms,omitempty"` // of the last attempt
	NextMS   int64  `json:"next_ms,omitempty"` // before this it is not tried again
	Error    string `json:"error,omitempty"`   // of the last attempt
	By       string `json:"by,omitempty"`      // node that made it
}

// The states of a Delivery.
const (
	StateWaiting = "waiting"
	StateSent    = "sent"
	StateFailed  = "failed"
)

// How a failed attempt is repeated: after 5 s, 10 s, 20 s ... up to 10 minutes, each a fifth more or
// less by chance, for a day.
const (
	firstRetry = 5 * time.Second
	lastRetry  = 10 * time.Minute
	giveUp     = 24 * time.Hour
)

// Open reports whether something is still to be done with r.
func (r Record) Open() bool {
	return r.Held && r.Gathered == "" || slices.ContainsFunc(r.Deliveries, func(d Delivery) bool { return d.State == StateWaiting })
}

// Admit decides what becomes of a new message: sent at once, or held because one of its kind was sent
// a short time ago. False: it is not wanted, or known already. past are the records kept.
func Admit(now time.Time, c Config, m Message, past []Record) (Record, bool) {
	if !c.Wants(m.Kind) || len(c.Channels()) == 0 || slices.ContainsFunc(past, func(r Record) bool { return r.Message.ID == m.ID }) {
		return Record{}, false
	}
	r := Record{Message: m, AtMS: now.UnixMilli()}
	if last, ok := lastOf(m.Kind, past); ok && now.Before(last.Add(c.Quiet())) {
		r.Held = true
		return r, true
	}
	r.Deliveries = deliveries(c)
	return r, true
}

func deliveries(c Config) (all []Delivery) {
	for _, ch := range c.Channels() {
		all = append(all, Delivery{Channel: ch, State: StateWaiting})
	}
	return all
}

// lastOf returns when a message of a kind was last let out.
func lastOf(kind string, past []Record) (at time.Time, ok bool) {
	for _, r := range past {
		if r.Message.Kind == kind && !r.Held && r.AtMS > at.UnixMilli() {
			at, ok = time.UnixMilli(r.AtMS), true
		}
	}
	return at, ok
}

// Gather returns the records that change because a quiet time is over: one new message for each kind
// with held ones, and those, marked as told.
func Gather(now time.Time, c Config, past []Record) (changed []Record) {
	held := map[string][]Record{}
	for _, r := range past {
		if r.Held && r.Gathered == "" {
			held[r.Message.Kind] = append(held[r.Message.Kind], r)
		}
	}
	for kind, all := range held {
		last, ok := lastOf(kind, past)
		if ok && now.Before(last.Add(c.Quiet())) {
			continue
		}
		slices.SortFunc(all, func(a, b Record) int { return int(a.Message.TimeMS - b.Message.TimeMS) })
		m := summary(kind, now, last, all)
		changed = append(changed, Record{Message: m, AtMS: now.UnixMilli(), Deliveries: deliveries(c)})
		for _, r := range all {
			r.Gathered = m.ID
			changed = append(changed, r)
		}
	}
	return changed
}

// listed is how many of the gathered messages a summary names.
const listed = 20

// summary tells of all that was held, the newest last. Its ID is that of the first one's, so that two
// nodes that gather the same make the same.
func summary(kind string, now, last time.Time, all []Record) Message {
	newest := all[len(all)-1].Message
	m := newest
	m.ID, m.TimeMS, m.Time, m.Event = "more-"+all[0].Message.ID, now.UnixMilli(), now.UTC().Format(time.RFC3339), nil
	m.Count = len(all)
	span := max(1, int((now.Sub(last)+time.Minute/2)/time.Minute))
	if last.IsZero() {
		span = max(1, int(now.Sub(time.UnixMilli(all[0].Message.TimeMS))/time.Minute))
	}
	name := kind
	for _, k := range Kinds {
		if k.Code == kind {
			name = k.Name
		}
	}
	m.Title = fmt.Sprintf("%s: %d more in the last %s; now: %s", name, len(all), minutes(span), newest.Title)
	var lines []string
	if n := len(all) - listed; n > 0 {
		lines = append(lines, fmt.Sprintf("(%d earlier ones are left out)", n))
		all = all[n:]
	}
	for _, r := range all {
		lines = append(lines, r.Message.Time+"  "+r.Message.Title)
	}
	m.Text = strings.Join(lines, "\n")
	return m
}

func minutes(n int) string {
	if n == 1 {
		return "minute"
	}
	return fmt.Sprintf("%d minutes", n)
}

// Tried returns r after an attempt on one channel by a node; err nil: it was taken.
func Tried(now time.Time, r Record, channel, by string, err error) Record {
	r.Deliveries = slices.Clone(r.Deliveries)
	for i := range r.Deliveries {
		d := &r.Deliveries[i]
		if d.Channel != channel || d.State != StateWaiting {
			continue
		}
		d.Attempts++
		d.LastMS, d.By, d.NextMS, d.Error = now.UnixMilli(), by, 0, ""
		switch {
		case err == nil:
			d.State = StateSent
		case now.Sub(time.UnixMilli(r.AtMS)) > giveUp:
			d.State, d.Error = StateFailed, short(err)
		default:
			d.NextMS, d.Error = now.Add(Backoff(d.Attempts)).UnixMilli(), short(err)
		}
	}
	return r
}

func short(err error) string {
	text := strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\x00", ""), "?")
	return text[:min(len(text), 500)]
}

// Backoff is how long to wait after so many attempts.
func Backoff(attempts int) time.Duration {
	d := lastRetry
	if attempts < 8 {
		d = min(lastRetry, firstRetry<<max(0, attempts-1))
	}
	return d*4/5 + rand.N(d*2/5)
}

// Due returns the channels on which r is to be tried now; all that wait, where at once is set.
func (r Record) Due(now time.Time, c Config, atOnce bool) (channels []string) {
	for _, d := range r.Deliveries {
		if d.State == StateWaiting && (atOnce || d.NextMS <= now.UnixMilli()) && slices.Contains(c.Channels(), d.Channel) {
			channels = append(channels, d.Channel)
		}
	}
	return channels
}
