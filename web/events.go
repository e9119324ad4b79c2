package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// gather is the shortest time between two live updates of one page.
	gather = 200 * time.Millisecond
	// alive is how often every stream says something: the page says that it is not live when it hears
	// nothing for two and a half times as long.
	alive = time.Second
	// whole is how often the object is sent again when nothing of it has changed but ages.
	whole = 5 * alive
	// comeBack is how soon a browser whose stream broke tries again, in ms. After a takeover the
	// virtual IP is back sooner than the three seconds that it would wait of itself.
	comeBack = 250
	// streamLife ends a stream, so that the browser's next one proves its login again.
	streamLife = 10 * time.Minute
	// streamWrite bounds one write to a browser that does not read.
	streamWrite = 10 * time.Second
)

// events sends the redundancy object as server-sent events: at once, at each change, and now and
// then when there is none; and each second a word that the server is alive.
func (s *Server) events(c echo.Context) error {
	leave, err := s.enterStream()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.Request().Context(), streamLife)
	defer cancel()
	out := beginStream(c)
	send := func(event string, data []byte) bool {
		if out.SetWriteDeadline(time.Now().Add(streamWrite)) != nil {
			return false
		}
		_, err := fmt.Fprintf(c.Response(), "event: %s\nretry: %d\ndata: %s\n\n", event, comeBack, data)
		return err == nil && out.Flush() == nil
	}
	for {
		changed := s.cfg.Source.Changed() // before reading, so that nothing is missed
		r := s.cfg.Source.Redundancy()
		text, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode live update: %w", err)
		}
		if !send("redundancy", text) {
			return nil // the browser has left
		}
		for sent := time.Now(); ; changed = s.cfg.Source.Changed() {
			news, ok := s.waitForNews(ctx, r, changed)
			if !ok {
				return nil
			}
			if news || r.Deadline != nil || time.Since(sent) >= whole {
				break
			}
			if !send("alive", []byte("{}")) {
				return nil
			}
		}
	}
}

// enterStream takes a place among the live updates, which leave gives back.
func (s *Server) enterStream() (leave func(), err error) {
	select {
	case s.streams <- struct{}{}:
		return func() { <-s.streams }, nil
	default:
		return nil, echo.NewHTTPError(http.StatusServiceUnavailable, "too many pages with live updates are open: close some")
	}
}

// beginStream answers with server-sent events, which no proxy may hold back.
func beginStream(c echo.Context) *http.ResponseController {
	h := c.Response().Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	c.Response().WriteHeader(http.StatusOK)
	return http.NewResponseController(c.Response())
}

// waitForNews blocks until there is something to tell a page that knows r, or until it is to hear
// that this server is alive; not ok: ctx has ended. Changes of mere ages are no news.
func (s *Server) waitForNews(ctx context.Context, r Redundancy, changed <-chan struct{}) (news, ok bool) {
	quiet := time.NewTimer(alive)
	defer quiet.Stop()
	for known := lasting(r); ; changed = s.cfg.Source.Changed() {
		if !reflect.DeepEqual(lasting(s.cfg.Source.Redundancy()), known) {
			return true, true
		}
		select {
		case <-quiet.C:
			return false, true
		case <-changed:
		case <-ctx.Done():
			return false, false
		}
		select {
		case <-time.After(gather):
		case <-quiet.C:
			return false, true
		case <-ctx.Done():
			return false, false
		}
	}
}

// lasting returns r without what changes all the time.
func lasting(r Redundancy) Redundancy {
	r.At, r.PictureAgeMS = time.Time{}, nil
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		m := &r.Members[i]
		m.LastHeardMS, m.ReportAgeMS, m.Position, m.Stored, m.VerifiedAt = nil, nil, nil, nil, nil
		m.ClockMS, m.RoundTripMS, m.CommitMS, m.BytesOnDisk, m.Browsers = nil, nil, nil, nil, nil
		if m.InStep != nil && *m.InStep {
			m.Behind = nil // entries in flight
		}
		if m.Status == "unreachable" {
			m.Fault = "" // says for how long
		}
	}
	r.Links = slices.Clone(r.Links)
	for i := range r.Links {
		r.Links[i].HeardMS = nil
	}
	if r.Deadline != nil {
		r.Deadline = &Deadline{Text: r.Deadline.Text}
	}
	if r.Recovery != nil {
		v := *r.Recovery
		v.LeftMS = nil
		r.Recovery = &v
	}
	return r
}
