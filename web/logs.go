package web

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Journals are the events of all members of the pool.
type Journals interface {
	// Logs returns one page of events, newest first. It waits for other members for a short time.
	Logs(ctx context.Context, q LogQuery) (LogPage, error)
	// FollowLogs calls each for the events that come, until ctx ends or each returns an error.
	FollowLogs(ctx context.Context, f LogFilter, each func(LogEvent) error) error
	// OwnLogs returns the newest n events of this node alone, newest first. It waits for nobody.
	OwnLogs(n int) []LogEvent
}

// LogEvent is one event of one member.
type LogEvent struct {
	ID       string         `json:"id"`   // the same wherever the event is kept
	Time     string         `json:"time"` // RFC 3339 with ms, by the clock of Node
	TimeMS   int64          `json:"time_ms"`
	Node     string         `json:"node"`
	Severity string         `json:"severity"` // info, warning, error
	Category string         `json:"category"`
	Code     string         `json:"code"`
	Message  string         `json:"message"`
	Cause    string         `json:"cause"`
	From     string         `json:"from"` // of a change of status
	To       string         `json:"to"`
	Term     uint64         `json:"term"`    // 0: none
	Details  map[string]any `json:"details"` // evidence; null: none
}

// At returns the event's place in the order of all events.
func (e LogEvent) At() LogPosition { return LogPosition{e.TimeMS, e.ID} }

// LogFilter chooses events; empty fields match everything.
type LogFilter struct {
	Node         string
	Severity     string   // this one and the graver ones
	Categories   []string // one of them
	Code         string
	Text         string // within node, code, message or cause, in any case
	Since, Until time.Time
}

// LogQuery asks for one page of events.
type LogQuery struct {
	LogFilter
	Before LogPosition // older than this; zero: from the newest on
	Limit  int
}

// LogPosition is a place in the order of events: by time, then by ID.
type LogPosition struct {
	TimeMS int64
	ID     string
}

// String is the position as the parameter "before"; empty for the zero one.
func (p LogPosition) String() string {
	if p == (LogPosition{}) {
		return ""
	}
	return strconv.FormatInt(p.TimeMS, 10) + ":" + p.ID
}

func parseLogPosition(text string) (LogPosition, error) {
	if text == "" {
		return LogPosition{}, nil
	}
	ms, id, ok := strings.Cut(text, ":")
	n, err := strconv.ParseInt(ms, 10, 64)
	if !ok || err != nil || n <= 0 {
		return LogPosition{}, fmt.Errorf("before: %.40q is no place in the events: take the value that a page of them gives as next", text)
	}
	return LogPosition{n, id}, nil
}

// LogPage is one page of events, newest first.
type LogPage struct {
	Events  []LogEvent
	Members []LogMember // how complete it is; empty: no pool
	Next    LogPosition // where the next, older page begins; zero: there is none
}

// LogMember says how complete the events of one member are.
type LogMember struct {
	Name          string `json:"name"`
	Role          string `json:"role"`
	Complete      bool   `json:"complete"`        // it answered itself
	Until         string `json:"until"`           // of a member that did not: its newest own event known here; empty: none
	Problem       string `json:"problem"`         // why it did not
	ClockOffsetMS *int64 `json:"clock_offset_ms"` // its clock minus this node's; null: not known
}

// Note says what is missing of a member that did not answer.
func (m LogMember) Note() string {
	text := "events of " + m.Name
	if m.Until != "" {
		text += " until " + m.Until
	} else {
		text += " only as far as the database has them"
	}
	return text + ": it does not answer now (" + m.Problem + ")"
}

// LogTime writes Unix milliseconds as RFC 3339 in UTC, always with three digits behind the second.
func LogTime(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// ParseLogFilter reads a filter from its keys as a link has them: node, severity, category (several
// with commas), code, q, since and until. A time is RFC 3339, "2006-01-02", "2006-01-02T15:04" (UTC),
// or a duration like "90m" that counts back from now.
func ParseLogFilter(get func(string) string, now time.Time) (LogFilter, error) {
	f := LogFilter{Node: get("node"), Severity: get("severity"), Code: get("code"), Text: get("q")}
	if f.Severity != "" && !slices.Contains([]string{"info", "warning", "error"}, f.Severity) {
		return f, fmt.Errorf("severity %.20q: use info, warning or error", f.Severity)
	}
	for c := range strings.SplitSeq(get("category"), ",") {
		if c = strings.TrimSpace(c); c != "" {
			f.Categories = append(f.Categories, c)
		}
	}
	for key, text := range map[string]string{"node": f.Node, "code": f.Code, "q": f.Text, "category": get("category")} {
		if len(text) > 200 {
			return f, fmt.Errorf("%s: %d characters: at most 200", key, len(text))
		}
	}
	var err error
	if f.Since, err = parseLogTime("since", get("since"), now); err != nil {
		return f, err
	}
	if f.Until, err = parseLogTime("until", get("until"), now); err != nil {
		return f, err
	}
	if !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until) {
		return f, fmt.Errorf("since %s is not before until %s: exchange them", get("since"), get("until"))
	}
	return f, nil
}

func parseLogTime(key, text string, now time.Time) (time.Time, error) {
	if text = strings.TrimSpace(text); text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02T15:04:05.999", "2006-01-02 15:04:05.999", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.UTC); err == nil && t.UnixMilli() > 0 {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %.40q: use a time like 2026-01-31T14:05:00Z, or a duration back from now like 90m", key, text)
}

// preset is a filter with a name.
type preset struct {
	Name   string
	Filter url.Values
}

// presets are the filters that the Logs page offers.
var presets = []preset{
	{"All", url.Values{}},
	{"Status changes", url.Values{"category": {"status"}}},
	{"Trust", url.Values{"category": {"trust"}}},
	{"Field units", url.Values{"category": {"unit,data"}}},
	{"User actions", url.Values{"category": {"user"}}},
	{"Errors", url.Values{"severity": {"error"}}},
}

// logKeys are the parameters of a link to the Logs page that make the filter.
var logKeys = []string{"node", "severity", "category", "code", "q", "since", "until"}
