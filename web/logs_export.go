package web

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// mostExported bounds one export; a narrower time range has the rest.
const mostExported = 50000

// logWriter writes exported events, newest first.
type logWriter interface {
	begin() error
	event(LogEvent) error
	// end is told where an export that was cut off would go on; empty: it has everything.
	end(next string) error
}

// exportLogs streams what is filtered as a file, page by page, so that it costs the same memory
// however much it is.
func (s *Server) exportLogs(c echo.Context) error {
	q, err := s.logQuery(c)
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, err.Error())
	}
	format := c.QueryParam("format")
	h := c.Response().Header()
	var w logWriter
	switch format {
	case "csv":
		h.Set("Content-Type", "text/csv; charset=utf-8")
		w = NewLogCSV(c.Response())
	case "json":
		h.Set("Content-Type", "application/json")
		w = &jsonLogs{w: c.Response()}
	default:
		return echo.NewHTTPError(http.StatusBadRequest, "format: use csv or json")
	}
	noStore(c)
	name := "events-" + s.clock().UTC().Format("20060102T150405Z") + "." + format
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	out := http.NewResponseController(c.Response())
	ctx := c.Request().Context()
	q.Limit = 1000
	if err := w.begin(); err != nil {
		return nil
	}
	for n := 0; ; {
		_ = out.SetWriteDeadline(time.Now().Add(writeTimeout)) // a recorder in a test has none
		p, err := s.cfg.Operations.Logs(ctx, q)
		if err != nil {
			panic(http.ErrAbortHandler) // a file that breaks off must not look whole
		}
		for _, e := range p.Events {
			if w.event(e) != nil {
				return nil // the reader has left
			}
		}
		n += len(p.Events)
		q.Before = p.Next
		if next := p.Next.String(); next == "" || n >= mostExported {
			_ = w.end(next)
			return nil
		}
		_ = out.Flush()
	}
}

// LogCSV writes events as RFC 4180, one a line, so that a spreadsheet runs nothing in them.
type LogCSV struct{ w *csv.Writer }

// NewLogCSV writes to w.
func NewLogCSV(w io.Writer) *LogCSV { return &LogCSV{csv.NewWriter(w)} }

var logColumns = []string{"time", "node", "severity", "category", "code", "message", "cause", "from", "to", "term", "details", "id"}

// Begin writes the heading.
func (l *LogCSV) Begin() error { return l.flushed(l.w.Write(logColumns)) }

// Event writes one line.
func (l *LogCSV) Event(e LogEvent) error { return l.flushed(l.event(e)) }

func (l *LogCSV) flushed(err error) error {
	l.w.Flush()
	return errors.Join(err, l.w.Error())
}

func (l *LogCSV) begin() error { return l.w.Write(logColumns) }

func (l *LogCSV) event(e LogEvent) error {
	details, term := "", ""
	if len(e.Details) > 0 {
		text, err := json.Marshal(e.Details)
		if err != nil {
			return err
		}
		details = string(text)
	}
	if e.Term > 0 {
		term = strconv.FormatUint(e.Term, 10)
	}
	row := []string{e.Time, e.Node, e.Severity, e.Category, e.Code, e.Message, e.Cause, e.From, e.To, term, details, e.ID}
	for i := range row {
		row[i] = plainCell(row[i])
	}
	return l.w.Write(row)
}

func (l *LogCSV) end(next string) error {
	if next != "" {
		note := fmt.Sprintf("the export ends here after %d events: narrow the time range, or go on with before=%s", mostExported, next)
		if err := l.w.Write([]string{"", "", "warning", "", "export_ends", note, "", "", "", "", "", ""}); err != nil {
			return err
		}
	}
	l.w.Flush()
	return l.w.Error()
}

// plainCell keeps a spreadsheet from running what somebody managed to get into an event: a cell that
// would begin a formula gets an apostrophe before it (OWASP, CSV Injection).
func plainCell(text string) string {
	if text != "" && strings.ContainsRune("=+-@\t\r\n", rune(text[0])) {
		return "'" + text
	}
	return text
}

// jsonLogs writes one object with the list events.
type jsonLogs struct {
	w    io.Writer
	some bool
}

func (l *jsonLogs) begin() error { return l.put([]byte(`{"events":[`)) }

func (l *jsonLogs) event(e LogEvent) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if l.some {
		text = append([]byte(",\n"), text...)
	}
	l.some = true
	return l.put(text)
}

func (l *jsonLogs) end(next string) error {
	text, err := json.Marshal(next)
	if next == "" {
		text = []byte("null")
	}
	if err != nil {
		return err
	}
	return l.put([]byte(`],"next":` + string(text) + "}\n"))
}

func (l *jsonLogs) put(b []byte) error {
	_, err := l.w.Write(b)
	return err
}
