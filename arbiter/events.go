package arbiter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
)

// MethodEvents asks a member, on the pool port, for events of its own journal. Only members of its
// pool are answered; the Managers answer it by the same code.
const MethodEvents = "events"

// EventsRequest is one page back, or with Follow what comes after an event.
type EventsRequest struct {
	Query  journal.Query `json:"query"`
	Follow bool          `json:"follow,omitempty"`
	// After is the Seq of the last event known; 0: begin with the newest thousand. With Follow the
	// answer has the events after it, oldest first, and waits for some for up to FollowWait.
	After uint64 `json:"after,omitempty"`
}

const (
	// FollowWait is how long a member keeps the question for news open.
	FollowWait = 20 * time.Second
	// firstEvents is with how many events somebody begins who knows none.
	firstEvents = 1000
	// mostBytes keeps an answer within a frame of the pool port.
	mostBytes = 700 << 10
)

// AnswerEvents answers MethodEvents from a journal; what waits is let go when stop closes.
func AnswerEvents(j *journal.Journal, stop <-chan struct{}) func(context.Context, *transport.Conn, []byte) (any, error) {
	return func(ctx context.Context, _ *transport.Conn, body []byte) (any, error) {
		var q EventsRequest
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, transport.Refuse("malformed", "message cannot be read: %v", err)
		}
		var a journal.Page
		if q.Follow {
			a.Events = follow(ctx, j, q, stop)
		} else {
			a, _ = j.Page(q.Query) // without its files a journal tells what memory has
			a = fit(a)
		}
		if a.Events == nil {
			a.Events = []journal.Event{}
		}
		return a, nil
	}
}

// follow returns the events after q.After, as many as fit one answer.
func follow(ctx context.Context, j *journal.Journal, q EventsRequest, stop <-chan struct{}) (out []journal.Event) {
	ctx, cancel := context.WithTimeout(ctx, FollowWait)
	defer cancel()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-stop:
			cancel()
		case <-over:
		}
	}()
	next := j.Next()
	if q.After >= next {
		q.After = 0
	}
	if next > firstEvents {
		q.After = max(q.After, next-1-firstEvents)
	}
	size := 0
	for e := range j.Follow(ctx, q.After, q.Query.Filter) {
		if size += length(e); size > mostBytes && len(out) > 0 {
			break
		}
		if out = append(out, e); e.Seq+1 >= j.Next() || len(out) == firstEvents {
			break
		}
	}
	return out
}

// fit shortens a page to what one frame takes.
func fit(p journal.Page) journal.Page {
	size := 0
	for i, e := range p.Events {
		if size += length(e); size > mostBytes && i > 0 {
			p.Events = p.Events[:i]
			p.Next = journal.At(p.Events[i-1])
			break
		}
	}
	return p
}

func length(e journal.Event) int {
	text, err := json.Marshal(e)
	if err != nil {
		return mostBytes
	}
	return len(text)
}

// AskEvents asks a member for events, on its second path where the first does not answer.
func AskEvents(ctx context.Context, d *transport.Dialer, m pool.Member, q EventsRequest) (journal.Page, error) {
	var all error
	for path, at := range []netip.AddrPort{m.Address, m.Second} {
		if !at.IsValid() {
			continue
		}
		var a journal.Page
		err := d.Call(ctx, at.String(), m.Fingerprint, transport.Hello{Method: MethodEvents, Path: path},
			func(tls.ConnectionState) (any, error) { return q, nil }, &a)
		if err == nil || errors.As(err, new(*transport.Refusal)) {
			return a, err
		}
		all = errors.Join(all, err)
	}
	return journal.Page{}, all
}
