package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"redundancypool/manager"
	"redundancypool/manager/control"
	"redundancypool/web"
)

type logsCmd struct {
	data
	JSON     bool   `xor:"format" help:"One JSON object a line."`
	CSV      bool   `xor:"format" name:"csv" help:"CSV with a heading."`
	Since    string `placeholder:"TIME" help:"From this time on: RFC 3339, or a duration back from now like 90m."`
	Until    string `placeholder:"TIME" help:"Before this time."`
	Severity string `enum:",info,warning,error" default:"" help:"This severity and the graver ones: info, warning or error."`
	Node     string `help:"Events of this node alone."`
	Category string `help:"One of these categories, separated by commas: status, pool, vip, database, unit, trust, node, user ..."`
	Code     string `help:"Events with this code."`
	Text     string `help:"Text within message, cause or code."`
	Limit    int    `default:"200" help:"The newest so many."`
	Follow   bool   `short:"f" help:"Go on with the events that come, until interrupted."`
}

// Run prints the events of all members, oldest first, each as it comes. What is missing of a member
// that does not answer is told on standard error.
func (l *logsCmd) Run(ctx context.Context, con console) error {
	if l.Limit < 1 || l.Limit > 100000 {
		return usageError{fmt.Errorf("--limit %d: use 1 to 100000", l.Limit)}
	}
	q := control.LogQuery{Limit: l.Limit, Follow: l.Follow, Filter: map[string]string{}}
	for key, value := range map[string]string{"since": l.Since, "until": l.Until, "severity": l.Severity, "node": l.Node, "category": l.Category, "code": l.Code, "q": l.Text} {
		if value != "" {
			q.Filter[key] = value
		}
	}
	out := bufio.NewWriter(con.out)
	write := textEvent
	switch {
	case l.JSON:
		write = jsonEvent
	case l.CSV:
		csv := web.NewLogCSV(out)
		if err := csv.Begin(); err != nil {
			return err
		}
		write = func(_ io.Writer, raw json.RawMessage) error {
			var e web.LogEvent
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			return csv.Event(e)
		}
	}
	err := con.connect(l.Data).Logs(ctx, q, func(s control.LogStep) error {
		if s.Note != "" {
			fmt.Fprintln(con.err, "manager:", s.Note)
			return nil
		}
		if err := write(out, s.Event); err != nil {
			return err
		}
		if l.Follow {
			return out.Flush()
		}
		return nil
	})
	if ce := (*control.Error)(nil); errors.As(err, &ce) && ce.Code == "not_running" && !l.Follow {
		err = l.offline(con, q, func(raw json.RawMessage) error { return write(out, raw) })
	}
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	if l.Follow && ctx.Err() != nil {
		return nil // interrupted, as it is meant to end
	}
	return err
}

// offline prints this node's own events, for a Manager whose process does not run.
func (l *logsCmd) offline(con console, q control.LogQuery, print func(json.RawMessage) error) error {
	fmt.Fprintln(con.err, "manager: no process is running here: these are this node's own events")
	events, err := manager.OfflineLogs(l.Data, func(key string) string { return q.Filter[key] }, l.Limit)
	for _, e := range events {
		raw, err := json.Marshal(e)
		if err == nil {
			err = print(raw)
		}
		if err != nil {
			return err
		}
	}
	return err
}

func jsonEvent(w io.Writer, raw json.RawMessage) error { return printJSON(w, raw) }

// textEvent is an event on one line.
func textEvent(w io.Writer, raw json.RawMessage) error {
	var e web.LogEvent
	if err := json.Unmarshal(raw, &e); err != nil {
		return fmt.Errorf("read an event: %w: use commands of the same version as the running process", err)
	}
	text := fmt.Sprintf("%s  %s  %s  %s/%s  %s", e.Time, orNone(e.Node, "database"), e.Severity, e.Category, e.Code, e.Message)
	if e.From != "" || e.To != "" {
		text += fmt.Sprintf(" (%s to %s)", e.From, e.To)
	}
	if e.Term > 0 {
		text += fmt.Sprintf(", term %d", e.Term)
	}
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	_, err := fmt.Fprintln(w, lineEnds.Replace(strings.TrimSpace(text)))
	return err
}
