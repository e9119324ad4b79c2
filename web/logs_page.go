package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
)

// logRoutes are the pages and calls about events.
func (s *Server) logRoutes(e *echo.Echo) {
	e.GET("/logs", s.logsPage)
	e.GET("/logs/stream", func(c echo.Context) error { return s.logStream(c, s.logRow) })
	e.GET("/api/v1/logs", s.logsCall)
	e.GET("/api/v1/logs/stream", func(c echo.Context) error {
		return s.logStream(c, func(e LogEvent) ([]byte, error) { return json.Marshal(e) })
	})
	e.GET("/api/v1/logs/export", s.exportLogs)
}

// logsView is the Logs page.
type logsView struct {
	shell
	Page    LogPage
	Filter  url.Values // what is chosen
	Query   string     // the same as a link has it
	Before  string     // this page begins there; empty: with the newest
	Presets []chosenPreset
}

type chosenPreset struct {
	Name, Link string
	Chosen     bool
}

// logsLink is the page with a filter. A whole address, or the template would escape it once more.
func logsLink(query string) string {
	if query == "" {
		return "/logs"
	}
	return "/logs?" + query
}

// Newest and Older return the address of the newest and of the next, older page with this filter.
func (v logsView) Newest() string { return logsLink(v.Query) }

// Older is the next, older page.
func (v logsView) Older() string { return "/logs" + v.with("before", v.Page.Next.String()) }

// Export returns the address of the export of what is filtered.
func (v logsView) Export(format string) string {
	return "/api/v1/logs/export" + v.with("format", format)
}

func (v logsView) with(key, value string) string {
	q := url.Values{key: {value}}
	for k, all := range v.Filter {
		q[k] = all
	}
	return "?" + q.Encode()
}

// Value returns one value of the filter, for its field.
func (v logsView) Value(key string) string { return v.Filter.Get(key) }

// logQuery reads the query of a request. Its error is the reader's mistake.
func (s *Server) logQuery(c echo.Context) (q LogQuery, err error) {
	if q.LogFilter, err = ParseLogFilter(c.QueryParam, s.clock()); err != nil {
		return q, err
	}
	if q.Before, err = parseLogPosition(c.QueryParam("before")); err != nil {
		return q, err
	}
	q.Limit = 200
	if text := c.QueryParam("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 1 || q.Limit > 1000 {
			return q, fmt.Errorf("limit %.20q: use 1 to 1000", text)
		}
	}
	return q, nil
}

func (s *Server) logsPage(c echo.Context) error {
	v := logsView{shell: s.shell(c, "Logs", "/logs"), Filter: url.Values{}, Before: c.QueryParam("before")}
	for _, key := range logKeys {
		if text := c.QueryParam(key); text != "" {
			v.Filter.Set(key, text)
		}
	}
	v.Query = v.Filter.Encode()
	for _, p := range presets {
		v.Presets = append(v.Presets, chosenPreset{p.Name, logsLink(p.Filter.Encode()), p.Filter.Encode() == v.Query})
	}
	q, err := s.logQuery(c)
	if err != nil {
		v.Problem = &Problem{Message: err.Error()}
		return c.Render(http.StatusBadRequest, "logs.html", v)
	}
	if v.Page, err = s.cfg.Operations.Logs(c.Request().Context(), q); err != nil {
		v.Problem = s.problemOf(c, err)
	}
	return c.Render(http.StatusOK, "logs.html", v)
}

func (s *Server) logsCall(c echo.Context) error {
	noStore(c)
	q, err := s.logQuery(c)
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	p, err := s.cfg.Operations.Logs(c.Request().Context(), q)
	if err != nil {
		return err
	}
	answer := map[string]any{"events": p.Events, "members": p.Members, "next": nil}
	if next := p.Next.String(); next != "" {
		answer["next"] = next
	}
	if p.Events == nil {
		answer["events"] = []LogEvent{}
	}
	if p.Members == nil {
		answer["members"] = []LogMember{}
	}
	return c.JSON(http.StatusOK, answer)
}

// logRow is one event as a row of the page.
func (s *Server) logRow(e LogEvent) ([]byte, error) {
	var b bytes.Buffer
	if err := s.echo.Renderer.Render(&b, "logrow", e, nil); err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"id": e.ID, "at": e.TimeMS, "row": b.String()})
}

// logStream sends events as they come, as server-sent events named log, each written by encode. Who
// comes back gets those of the last minute again; they are known by their id.
func (s *Server) logStream(c echo.Context, encode func(LogEvent) ([]byte, error)) error {
	q, err := s.logQuery(c)
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	leave, err := s.enterStream()
	if err != nil {
		return err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.Request().Context(), streamLife)
	defer cancel()
	out := beginStream(c)
	send := func(event string, text []byte) error {
		if err := out.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c.Response(), "event: %s\ndata: %s\n\n", event, text); err != nil {
			return err
		}
		return out.Flush()
	}
	one := func(e LogEvent) error {
		text, err := encode(e)
		if err != nil {
			return err
		}
		return send("log", text)
	}
	news, ended := make(chan LogEvent, 64), make(chan error, 1)
	go func() {
		ended <- s.cfg.Operations.FollowLogs(ctx, q.LogFilter, func(e LogEvent) error {
			select {
			case news <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	defer func() { cancel(); <-ended }()
	recent := q
	recent.Before, recent.Limit = LogPosition{}, 1000
	if from := s.clock().Add(-time.Minute); recent.Since.Before(from) {
		recent.Since = from
	}
	p, err := s.cfg.Operations.Logs(ctx, recent)
	if err != nil {
		return nil // it has left already
	}
	for i := len(p.Events) - 1; i >= 0; i-- {
		if one(p.Events[i]) != nil {
			return nil
		}
	}
	beat := time.NewTicker(alive)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-news:
			if one(e) != nil {
				return nil
			}
		case <-beat.C:
			if send("alive", []byte("{}")) != nil {
				return nil
			}
		}
	}
}
