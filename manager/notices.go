package manager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/notify"
	"redundancypool/manager/pool"
	"redundancypool/web"
)

// Where the configuration of notifications is kept: the values as a setting, the secrets apart.
const (
	noticeSetting = "notify"
	noticeSecret  = "notify."
)

// noticeConfig reads the configuration from this node's copy; without one it sends nothing.
func (e *engine) noticeConfig(ctx context.Context) (notify.Config, error) {
	c := notify.DefaultConfig()
	text, err := e.db.Setting(ctx, noticeSetting)
	switch {
	case errors.Is(err, database.ErrNotFound):
		return c, nil
	case err != nil:
		return c, err
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("read the configuration of notifications: %w", err)
	}
	return c, nil
}

// sendNotice makes one attempt.
func (e *engine) sendNotice(ctx context.Context, c notify.Config, channel string, m notify.Message) error {
	secret, err := e.db.Secret(ctx, noticeSecret+channel)
	if err != nil {
		return err
	}
	m.Reporter = e.m.name()
	if channel == notify.ChannelWebhook {
		return notify.PostWebhook(ctx, c.Webhook, secret, m, time.Now())
	}
	return notify.SendMail(ctx, c.Email, secret, m, time.Now())
}

// kindOf returns what kind of notice an event is; empty: none.
func kindOf(e journal.Event) string {
	word := func(h pool.Health) string { return h.String() }
	real := []string{word(pool.Protected), word(pool.Degraded), word(pool.Failure)}
	switch {
	case e.Category == userEvent:
		return ""
	case e.Code == "health" && slices.Contains(real, e.From) && slices.Contains(real, e.To), e.Code == codePrimaryHeard:
		return "health"
	case e.Code == "became_primary" && e.Details["kind"] == "take_back":
		return "takeback"
	case e.Code == "became_primary" && (e.Details["kind"] == "takeover" || e.Details["kind"] == "hand_over"):
		return "changeover"
	case e.Code == "drill_end", e.Code == "drill_refused":
		return "drill"
	case e.Code == codeCertificate:
		return "certificate"
	case e.Code == codeSpace && e.Severity != journal.Info:
		return "disk"
	}
	return ""
}

// noticeOf makes the message that tells of an event. Its ID follows from the event's, so that
// whoever makes it, it is the same one.
func (e *engine) noticeOf(kind string, ev journal.Event) notify.Message {
	id := ev.ID
	if text, ok := ev.Details["notice"].(string); ok { // one thing that may be noted again and again
		id = text
	}
	sum := sha256.Sum256([]byte(e.pool.Record().Pool + "\x00" + kind + "\x00" + id))
	m := notify.Message{
		ID: hex.EncodeToString(sum[:12]), Kind: kind, TimeMS: ev.TimeMS, Time: web.LogTime(ev.TimeMS), Severity: string(ev.Severity),
		Pool: short(e.pool.Record().Pool), Node: ev.Node, Text: ev.Message, Event: map[string]any{"code": ev.Code, "id": ev.ID},
	}
	for key, text := range map[string]string{"from": ev.From, "to": ev.To, "cause": ev.Cause} {
		if text != "" {
			m.Event[key] = text
		}
	}
	if ev.Term > 0 {
		m.Event["term"] = ev.Term
	}
	switch kind {
	case "health":
		m.Title = "Pool health: " + web.Word(ev.To)
	case "changeover", "takeback":
		m.Title = ev.Node + " is Primary (" + web.Word(strings.ReplaceAll(fmt.Sprint(ev.Details["kind"]), "_", "")) + ")"
	default:
		m.Title = ev.Message
	}
	if ev.From != "" && ev.To != "" {
		m.Text += fmt.Sprintf("\n%s to %s.", web.Word(ev.From), web.Word(ev.To))
	}
	if ev.Cause != "" {
		m.Text += "\nCause: " + ev.Cause
	}
	if len(m.Title) > 200 {
		m.Title = strings.ToValidUTF8(m.Title[:200], "")
	}
	return m
}

// notices is the Primary's duty to tell outside what happened. What is to be told is kept in the
// database before it is sent, so that the next Primary sends what this one did not.
type notices struct {
	e     *engine
	busy  map[string]bool // channels with an attempt under way
	tried chan attempted
	wg    sync.WaitGroup
	waits *settling
	first bool // nothing was tried yet: what waits is tried at once, whoever tried it before
}

// attempted is what one attempt came to.
type attempted struct {
	id, channel string
	err         error
}

// noticeTick is how often it is looked whether something is due.
const noticeTick = time.Second

// lookBack is how far back this node's own events count as news when it becomes Primary: what made
// it one is among them.
const lookBack = time.Minute

// notify runs until ctx ends.
func (e *engine) notify(ctx context.Context) {
	n := &notices{e: e, busy: map[string]bool{}, tried: make(chan attempted, 2), first: true}
	sub := e.m.logs.subscribe(ctx)
	defer sub.close()
	defer n.wg.Wait()
	news := make(chan journal.Event, 64)
	n.wg.Go(func() { // ends with ctx
		_ = sub.run(ctx, journal.Filter{}, func(ev journal.Event) error {
			if kindOf(ev) == "" {
				return nil
			}
			select {
			case news <- ev:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	})
	for _, ev := range e.m.journal.Recent(500, journal.Filter{SinceMS: time.Now().Add(-lookBack).UnixMilli()}) {
		n.take(ctx, ev)
	}
	tick := time.NewTicker(noticeTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case ev := <-news:
			n.take(ctx, ev)
		case a := <-n.tried:
			n.result(ctx, a)
		case <-tick.C:
			n.settled(ctx)
		}
		n.work(ctx)
	}
}

func (n *notices) fail(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		n.e.m.log.Warn("notifications: "+what, "error", err)
	}
}

// records returns what is kept; with open what is not done alone.
func (n *notices) records(ctx context.Context, open bool) ([]notify.Record, error) {
	rows, err := n.e.db.Notices(ctx, open, 0)
	return noticeRecords(rows), err
}

func noticeRecords(rows []database.Notice) (out []notify.Record) {
	for _, row := range rows {
		var r notify.Record
		if json.Unmarshal([]byte(row.JSON), &r) == nil {
			out = append(out, r)
		}
	}
	return out
}

func (n *notices) put(ctx context.Context, list ...notify.Record) error {
	var b database.NoticePut
	for _, r := range list {
		state := "done"
		if r.Open() {
			state = database.NoticeOpen
		}
		b.Notices = append(b.Notices, database.Notice{ID: r.Message.ID, AtMS: r.AtMS, State: state, JSON: asJSON(r)})
	}
	_, err := n.e.proposer.propose(ctx, b)
	return err
}

// settling is a change of the pool's health that may be over at once: a hand over leaves the pool
// Degraded for a moment.
type settling struct {
	from  string        // before the first of several changes
	ev    journal.Event // the last one
	first time.Time
	due   time.Time
}

// How long a change of health must last to be told, and how long a flapping one is waited for.
const (
	settleTime = 2 * time.Second
	settleMost = 10 * time.Second
)

// take admits an event, a change of health once it has lasted.
func (n *notices) take(ctx context.Context, ev journal.Event) {
	if kindOf(ev) != "health" {
		n.admit(ctx, ev)
		return
	}
	now := time.Now()
	if n.waits == nil {
		n.waits = &settling{from: ev.From, first: now}
	}
	n.waits.ev, n.waits.due = ev, now.Add(settleTime)
	if most := n.waits.first.Add(settleMost); most.Before(n.waits.due) {
		n.waits.due = most
	}
}

// settled admits the change of health that has lasted, unless the pool is as it was before.
func (n *notices) settled(ctx context.Context) {
	w := n.waits
	if w == nil || time.Now().Before(w.due) {
		return
	}
	if n.waits = nil; w.ev.To != w.from {
		n.admit(ctx, w.ev)
	}
}

// admit keeps a notice of an event, if it is to be told.
func (n *notices) admit(ctx context.Context, ev journal.Event) {
	kind := kindOf(ev)
	if kind == "" {
		return
	}
	c, err := n.e.noticeConfig(ctx)
	if err != nil || !c.Wants(kind) || len(c.Channels()) == 0 {
		n.fail(ctx, "read the configuration", err)
		return
	}
	past, err := n.records(ctx, false)
	if err != nil {
		n.fail(ctx, "read what was sent", err)
		return
	}
	if r, ok := notify.Admit(time.Now(), c, n.e.noticeOf(kind, ev), past); ok {
		n.fail(ctx, "keep a notice", n.put(ctx, r))
	}
}

// work gathers what was held back for long enough, and begins the attempts that are due, one at a
// time on each channel.
func (n *notices) work(ctx context.Context) {
	open, err := n.records(ctx, true)
	if err != nil || len(open) == 0 {
		n.fail(ctx, "read what is to be sent", err)
		n.first = n.first && err != nil
		return
	}
	c, err := n.e.noticeConfig(ctx)
	if err != nil {
		n.fail(ctx, "read the configuration", err)
		return
	}
	if slices.ContainsFunc(open, func(r notify.Record) bool { return r.Held }) {
		all, err := n.records(ctx, false)
		if err != nil {
			n.fail(ctx, "read what was sent", err)
			return
		}
		if more := notify.Gather(time.Now(), c, all); len(more) > 0 {
			n.fail(ctx, "gather notices", n.put(ctx, more...))
			return // the next look sends them
		}
	}
	for _, r := range slices.Backward(open) { // the oldest first
		for _, channel := range r.Due(time.Now(), c, n.first) {
			if n.busy[channel] {
				continue
			}
			n.busy[channel] = true
			n.wg.Go(func() { // bounded by notify.SendTime and ctx; tried has room for each channel
				err := n.e.sendNotice(ctx, c, channel, r.Message)
				n.tried <- attempted{r.Message.ID, channel, err}
			})
		}
	}
	n.first = false
}

// result keeps what an attempt came to, and notes it as an event.
func (n *notices) result(ctx context.Context, a attempted) {
	delete(n.busy, a.channel)
	if ctx.Err() != nil {
		return // it was cut off with this Primary: the next one sends it
	}
	open, err := n.records(ctx, true)
	n.fail(ctx, "read what was sent", err)
	for _, r := range open {
		if r.Message.ID != a.id {
			continue
		}
		r = notify.Tried(time.Now(), r, a.channel, n.e.m.name(), a.err)
		n.fail(ctx, "keep what an attempt came to", n.put(ctx, r))
		n.e.m.noticeEvent(a.channel, r.Message, a.err)
	}
}

// noticeEvent notes an attempt.
func (m *Manager) noticeEvent(channel string, msg notify.Message, err error) {
	ev := journal.Event{Node: m.name(), Severity: journal.Info, Category: "notice", Code: "notice_sent",
		Message: channel + ": sent “" + msg.Title + "”", Details: map[string]any{"notice_id": msg.ID, "kind": msg.Kind}}
	if err != nil {
		ev.Severity, ev.Code, ev.Message, ev.Cause = journal.Warning, "notice_failed", channel+": not sent “"+msg.Title+"”", err.Error()
	}
	m.record(ev)
}
