package manager

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"redundancypool/manager/notify"
	"redundancypool/manager/pool"
	"redundancypool/web"
)

// noPrimaryAfter is how long a pool has no Primary before a Manager that is Online tells outside: a
// takeover and a hand over take far less.
const noPrimaryAfter = 5 * time.Second

// tellNoPrimary lets this Manager, while it is Online, tell outside by itself that no Manager is
// Primary: nobody else can, and nothing can be written. It uses the configuration that its copy of
// the database has. When both Managers tell, the message has the same ID. It runs until ctx ends.
func (e *engine) tellNoPrimary(ctx context.Context) {
	tick := time.NewTicker(noticeTick)
	defer tick.Stop()
	var since, last time.Time // of this failure; when one was told last
	var done map[string]bool  // channels on which this one was told
	attempts := 0
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		st := e.pool.State()
		if len(st.Members) < 2 || st.Record.Phase != pool.PhaseEffective || st.Health != pool.Failure || st.Status == pool.Primary {
			since, done = time.Time{}, nil
			continue
		}
		if since.IsZero() {
			since, attempts, next = time.Now(), 0, time.Time{}
			done = map[string]bool{}
		}
		if time.Since(since) < noPrimaryAfter || time.Now().Before(next) {
			continue
		}
		c, err := e.noticeConfig(ctx)
		if err != nil || !c.Wants("health") || attempts == 0 && !last.IsZero() && time.Since(last) < c.Quiet() {
			continue
		}
		failed := false
		for _, channel := range c.Channels() {
			if done[channel] {
				continue
			}
			m := e.noPrimaryMessage(st, since)
			err := e.sendNotice(ctx, c, channel, m)
			if ctx.Err() != nil {
				return
			}
			e.m.noticeEvent(channel, m, err)
			if done[channel] = err == nil; err == nil {
				last = time.Now()
			}
			failed = failed || err != nil
		}
		attempts++
		if next = time.Now().Add(24 * time.Hour); failed {
			next = time.Now().Add(notify.Backoff(attempts))
		}
	}
}

// noPrimaryMessage is the same on both Managers: both know the last Primary's term.
func (e *engine) noPrimaryMessage(st pool.State, since time.Time) notify.Message {
	last := uint64(0)
	if st.Change != nil {
		last = st.Change.Term
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "no primary after term %d in %s", last, st.Record.Pool))
	m := notify.Message{
		ID: hex.EncodeToString(sum[:12]), Kind: "health", TimeMS: since.UnixMilli(), Time: web.LogTime(since.UnixMilli()), Severity: "error",
		Pool: short(st.Record.Pool), Node: e.m.name(), Title: "No Manager is Primary: Pool health: Failure",
		Text:  "The pool is read-only: no Manager is Primary, and field units are not served.\nSeen by " + e.m.name() + ", which is Online.",
		Event: map[string]any{"code": codeNoPrimary, "to": pool.Failure.String()},
	}
	for _, o := range st.Members {
		m.Text += fmt.Sprintf("\n%s (%s): %s", o.Name, web.Word(o.Role.String()), web.Word(o.Status.String()))
		if o.Failure != "" {
			m.Text += ", " + o.Failure
		}
	}
	return m
}
