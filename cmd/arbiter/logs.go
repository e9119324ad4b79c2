package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
	"redundancypool/manager/journal"
)

type logsCmd struct {
	data
	JSON     bool   `help:"One JSON object a line."`
	Since    string `placeholder:"TIME" help:"From this time on: RFC 3339, or a duration back from now like 90m."`
	Severity string `enum:",info,warning,error" default:"" help:"This severity and the graver ones: info, warning or error."`
	Limit    int    `default:"200" help:"The newest so many, 1000 at most."`
	Follow   bool   `short:"f" help:"Go on with the events that come, until interrupted."`
}

// Run prints the Arbiter's own events, oldest first.
func (l *logsCmd) Run(ctx context.Context, con console) error {
	q := arbiter.LogsRequest{Query: journal.Query{Limit: l.Limit}, Follow: l.Follow}
	q.Query.AtLeast = journal.Severity(l.Severity)
	if l.Since != "" {
		t, err := time.Parse(time.RFC3339, l.Since)
		if d, derr := time.ParseDuration(l.Since); derr == nil {
			t, err = time.Now().Add(-d), nil
		}
		if err != nil {
			return fmt.Errorf("--since %s: use a time like 2026-01-31T14:05:00Z, or a duration back from now like 90m", l.Since)
		}
		q.Query.SinceMS = t.UnixMilli()
	}
	out := bufio.NewWriter(con.out)
	show := func(raw json.RawMessage) error {
		text := string(raw)
		if !l.JSON {
			var e journal.Event
			if err := json.Unmarshal(raw, &e); err != nil {
				return fmt.Errorf("read an event: %w: use commands of the same version as the running process", err)
			}
			text = line(e)
		}
		fmt.Fprintln(out, text)
		if l.Follow {
			return out.Flush()
		}
		return nil
	}
	err := control.NewClient(l.Data).Call(ctx, "logs", q, show, nil)
	if ce := (*control.Error)(nil); errors.As(err, &ce) && ce.Code == "not_running" && !l.Follow {
		fmt.Fprintln(con.err, "arbiter: no process is running here; these are its events until it ended")
		err = offline(l.Data, q.Query, show)
	}
	if ferr := out.Flush(); err == nil {
		err = ferr
	}
	if l.Follow && ctx.Err() != nil {
		return nil // interrupted, as it is meant to end
	}
	return err
}

// offline shows the events in the files of an Arbiter that does not run, oldest first.
func offline(dir string, q journal.Query, show func(json.RawMessage) error) error {
	p, err := journal.ReadFiles(filepath.Join(dir, "journal"), q)
	for _, e := range slices.Backward(p.Events) {
		raw, err := json.Marshal(e)
		if err == nil {
			err = show(raw)
		}
		if err != nil {
			return err
		}
	}
	return err
}

var lineEnds = strings.NewReplacer("\n", `\n`, "\r", `\r`)

func line(e journal.Event) string {
	text := fmt.Sprintf("%s  %s  %s  %s/%s  %s", time.UnixMilli(e.TimeMS).UTC().Format("2006-01-02T15:04:05.000Z07:00"), e.Node, e.Severity, e.Category, e.Code, e.Message)
	if e.From != "" || e.To != "" {
		text += fmt.Sprintf(" (%s to %s)", e.From, e.To)
	}
	if e.Term > 0 {
		text += fmt.Sprintf(", term %d", e.Term)
	}
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	return lineEnds.Replace(text)
}
