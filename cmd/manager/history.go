package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"redundancypool/manager/control"
	"redundancypool/web"
)

type historyCmd struct {
	data
	Limit int  `default:"20" help:"How many, the newest first."`
	JSON  bool `help:"One JSON object with everything that is known."`
}

func (h *historyCmd) Run(ctx context.Context, con console) error {
	v, err := con.connect(h.Data).History(ctx, h.Limit)
	if err != nil {
		return err
	}
	raw, ok := v.(json.RawMessage)
	if !ok {
		return errors.New("the history is not a JSON object: use commands of the same version as the running process")
	}
	if h.JSON {
		return printJSON(con.out, raw)
	}
	var all struct{ Changeovers []web.ChangeoverRecord }
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("read the history: %w: use commands of the same version as the running process", err)
	}
	if len(all.Changeovers) == 0 {
		fmt.Fprintln(con.out, "Primary has not changed yet")
	}
	for _, c := range all.Changeovers {
		printRecord(con.out, c)
	}
	return nil
}

// printRecord is one changeover for people.
func printRecord(w io.Writer, c web.ChangeoverRecord) {
	fmt.Fprintf(w, "%s  %s from %s to %s, term %d: %s [%s]; %s\n", c.At.UTC().Format("2006-01-02 15:04:05.000Z"), web.Word(c.Kind), orNone(c.From, "nobody"), c.To, c.Term,
		web.CauseWord(c.Code), c.Code, c.Cause)
	var times []string
	for _, p := range []struct {
		name string
		ms   *float64
	}{{"detected", c.DetectedMS}, {"elected", c.ElectedMS}, {"fenced", c.FencedMS}, {"virtual IP", c.VIPMS}, {"announced", c.AnnouncedMS},
		{"first write", c.WriteMS}, {"first field unit", c.FirstUnitMS}, {"all field units", c.AllUnitsMS}} {
		if p.ms != nil {
			times = append(times, fmt.Sprintf("%s %.1f ms", p.name, *p.ms))
		}
	}
	fmt.Fprintf(w, "  %s\n", strings.Join(times, ", "))
	if k := c.Check; k == nil {
		fmt.Fprintln(w, "  records: not checked")
	} else {
		fmt.Fprintf(w, "  records: %d lost, %d stored twice, checked over %d records of %d numbered units", k.Lost, k.StoredTwice, k.Records, k.Units)
		if k.NotCheckableUnits > 0 {
			fmt.Fprintf(w, "; not checkable: %d units (%s)", k.NotCheckableUnits, strings.Join(k.NotCheckable, ", "))
		}
		fmt.Fprintln(w)
		for _, f := range k.Findings {
			fmt.Fprintf(w, "    %s\n", f)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range c.Evidence {
		fmt.Fprintf(t, "  %s\t%s\n", s.Member, strings.Join(s.Says(), "; "))
	}
	_ = t.Flush() // what it writes to is the terminal
	if len(c.Awaited) > 0 {
		fmt.Fprintf(w, "  still to be heard: %s\n", strings.Join(c.Awaited, ", "))
	}
}

type drillCmd struct {
	data
	Schedule string        `placeholder:"WHEN" help:"Run no drill now but by itself: \"sun,wed 03:00 Europe/Berlin\", or off."`
	Limit    time.Duration `placeholder:"TIME" help:"The longest interruption allowed, such as 500ms; without --schedule too it is only stored."`
	JSON     bool          `help:"One JSON object instead of the steps."`
}

func (d *drillCmd) Run(ctx context.Context, con console) error {
	if d.Schedule != "" || d.Limit != 0 {
		return con.done(con.connect(d.Data).SetDrill(ctx, d.Schedule, d.Limit.Milliseconds()))
	}
	v, err := con.connect(d.Data).Drill(ctx, func(s control.Step) error {
		if d.JSON {
			return nil
		}
		_, err := fmt.Fprintf(con.out, "%6d ms  %s\n", s.AtMS, s.Text)
		return err
	})
	if err != nil {
		return err
	}
	raw, ok := v.(json.RawMessage)
	if !ok {
		return errors.New("the report is not a JSON object: use commands of the same version as the running process")
	}
	var r web.DrillReport
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("read the report: %w: use commands of the same version as the running process", err)
	}
	if d.JSON {
		if err := printJSON(con.out, raw); err != nil {
			return err
		}
	}
	var why []string
	for _, l := range r.Legs() {
		if !d.JSON {
			fmt.Fprintf(con.out, "%s to %s, term %d: interrupted for %.1f ms%s\n", l.From, l.To, l.Term, l.GapMS, checkText(l.Check))
		}
	}
	for _, reason := range r.Reasons {
		why = append(why, reason.Text)
	}
	if r.Result != "passed" {
		return fmt.Errorf("the drill %s: %s", map[string]string{"failed": "failed", "aborted": "was aborted"}[r.Result], strings.Join(why, "; "))
	}
	if !d.JSON {
		fmt.Fprintf(con.out, "passed: both interruptions within %d ms\n", r.LimitMS)
	}
	return nil
}

func checkText(c *web.ContinuityCheck) string {
	if c == nil {
		return ", records not checked"
	}
	if c.Units == 0 && c.Lost+c.StoredTwice == 0 {
		return ", records not checkable: no numbered unit has sent any since"
	}
	return fmt.Sprintf(", %d lost, %d stored twice, checked over %d records of %d numbered units", c.Lost, c.StoredTwice, c.Records, c.Units)
}
