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
	// alive is how often something is sent when nothing changes; the page says that updates have
	// stopped when it hears nothing for three times as long.
	alive = 5 * time.Second
	// countdown is the same while a deadline runs.
	countdown = time.Second
	// streamLife ends a stream, so that the browser's next one proves its login again.
	streamLife = 10 * time.Minute
	// streamWrite bounds one write to a browser that does not read.
	streamWrite = 10 * time.Second
)

// events sends the redundancy object as server-sent events: at once, at each change, and now and
// then when there is none.
func (s *Server) events(c echo.Context) error {
	leave, err := s.enterStream()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.Request().Context(), streamLife)
	defer cancel()
	out := beginStream(c)
	for {
		changed := s.cfg.Source.Changed() // before reading, so that nothing is missed
		r := s.cfg.Source.Redundancy()
		text, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode live update: %w", err)
		}
		if err := out.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return fmt.Errorf("live updates: %w", err)
		}
		if _, err := fmt.Fprintf(c.Response(), "event: redundancy\ndata: %s\n\n", text); err != nil {
			return nil // the browser has left
		}
		if err := out.Flush(); err != nil {
			return nil
		}
		if !s.waitForNews(ctx, r, changed) {
			return nil
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

// waitForNews blocks until there is something to tell a page that knows r; false: ctx has ended.
// Changes of the mere age of a heartbeat are no news.
func (s *Server) waitForNews(ctx context.Context, r Redundancy, changed <-chan struct{}) bool {
	rest := alive
	if r.Deadline != nil {
		rest = countdown
	}
	quiet := time.NewTimer(rest)
	defer quiet.Stop()
	for known := lasting(r); ; changed = s.cfg.Source.Changed() {
		if !reflect.DeepEqual(lasting(s.cfg.Source.Redundancy()), known) {
			return true
		}
		select {
		case <-quiet.C:
			return true
		case <-changed:
		case <-ctx.Done():
			return false
		}
		select {
		case <-time.After(gather):
		case <-ctx.Done():
			return false
		}
	}
}

// lasting returns r without what changes all the time.
func lasting(r Redundancy) Redundancy {
	r.Members = slices.Clone(r.Members)
	for i := range r.Members {
		r.Members[i].LastHeardMS = nil
	}
	if r.Deadline != nil {
		r.Deadline = &Deadline{Text: r.Deadline.Text}
	}
	return r
}
