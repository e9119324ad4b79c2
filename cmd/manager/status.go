package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"redundancypool/web"
)

type statusCmd struct {
	data
	JSON bool `help:"One JSON object."`
}

func (s *statusCmd) Run(ctx context.Context, con console) error {
	v, err := con.connect(s.Data).Status(ctx)
	if err != nil {
		return err
	}
	raw, ok := v.(json.RawMessage)
	if !ok {
		return errors.New("the status is not a JSON object: use commands of the same version as the running process")
	}
	if s.JSON {
		return printJSON(con.out, raw)
	}
	var r web.Redundancy
	if err := json.Unmarshal(raw, &r); err != nil {
		return fmt.Errorf("read the status: %w: use commands of the same version as the running process", err)
	}
	return printStatus(con.out, r)
}

// printJSON prints one object on one line.
func printJSON(w io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}

// printStatus is the status for people.
func printStatus(w io.Writer, r web.Redundancy) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, a ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, a...)) }
	status := web.Word(r.Status)
	if e := web.Equivalent(r.Status, r.Role); e != "" {
		status += " (" + e + ")"
	}
	line("Node", "%s", orNone(r.Node, "unnamed"))
	line("Role", "%s", web.Word(r.Role))
	line("Status", "%s", status)
	line("Pool health", "%s: %s", web.Word(r.Health), r.Verdict().Text)
	if r.Maintenance {
		line("Maintenance", "this member votes and follows, but takes no Primary")
	}
	line("Term", "%d", r.Term)
	if r.Pool != nil {
		line("Pool", "%s", *r.Pool)
	}
	line("Virtual IP", "%s", vipText(r.VIP))
	if r.FieldUnits != nil {
		line("Field units", "%d connected", *r.FieldUnits)
	}
	if r.Licence.State != "" {
		line("Licence", "%s", r.Licence.Text)
	}
	failover := "would not succeed now"
	if r.FailoverPossible {
		failover = "would succeed now"
	}
	if r.WorstTakeoverMS != nil && r.FailoverPossible {
		failover += fmt.Sprintf("; after a silent fault within %d ms", *r.WorstTakeoverMS)
	}
	line("Failover", "%s", failover)
	for _, reason := range r.Reasons {
		line("", "%s [%s]", reason.Text, reason.Code)
		if reason.Fix != "" {
			line("", "  fix: %s", reason.Fix)
		}
	}
	if v := r.Recovery; v != nil {
		text := v.Text
		if left := v.Left(); left != "" {
			text += " in " + left
		}
		line("Recovery mode", "%s: %s", v.Mode, text)
	}
	if d := r.Deadline; d != nil {
		line("Deadline", "%v left: %s", (time.Duration(d.RemainingMS) * time.Millisecond).Round(time.Second), d.Text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := printMembers(w, r); err != nil {
		return err
	}
	if err := printLinks(w, r); err != nil {
		return err
	}
	return printChangeover(w, r.LastChangeover)
}

func printMembers(w io.Writer, r web.Redundancy) error {
	if len(r.Members) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nMember\tRole\tStatus\tAddress\tHeard\tDatabase\tPosition\tRound trip\tDisk commit\tClock\tFault")
	for _, m := range r.Members {
		heard, database := "never", "unknown"
		if m.LastHeardMS != nil {
			heard = fmt.Sprintf("%d ms ago", *m.LastHeardMS)
		}
		switch {
		case m.Role == "arbiter":
			database = "stores none"
		case m.InStep != nil && *m.InStep:
			database = "in step"
		case m.Behind != nil:
			database = fmt.Sprintf("%d behind", *m.Behind)
		}
		status, position := web.Word(m.Status), "-"
		if m.Maintenance {
			status += ", in maintenance"
		}
		if m.Position != nil {
			position = fmt.Sprint(*m.Position)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orNone(m.Name, "unnamed"), web.Word(m.Role), status, orNone(m.Address, "-"), heard, database,
			position, inMS(m.RoundTripMS), inMS(m.CommitMS), inMS(m.ClockMS), orNone(m.Fault, "-"))
	}
	return t.Flush()
}

// printLinks prints the directions in which somebody is not heard.
func printLinks(w io.Writer, r web.Redundancy) error {
	broken := "\nLinks:"
	for _, l := range r.Links {
		if l.State == "heard" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s %s\n", broken, l); err != nil {
			return err
		}
		broken = "      "
	}
	if broken != "\nLinks:" || len(r.Links) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nLinks: every member hears every other one\n")
	return err
}

func inMS(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", *ms)
}

func printChangeover(w io.Writer, c *web.Changeover) error {
	if c == nil {
		return nil
	}
	fmt.Fprintf(w, "\nLast changeover: %s from %s to %s at %s, term %d: %s\n", web.Word(c.Kind), c.From, c.To, c.At.UTC().Format(time.RFC3339), c.Term, c.Cause)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range []struct {
		name string
		ms   *float64
	}{{"detected", c.DetectedMS}, {"elected", c.ElectedMS}, {"virtual IP moved", c.VIPMS}, {"first write", c.FirstWriteMS},
		{"first field unit", c.FirstUnitMS}, {"all field units", c.AllUnitsMS}} {
		if p.ms != nil {
			fmt.Fprintf(t, "  %s\t%.1f ms\n", p.name, *p.ms)
		}
	}
	for _, p := range []struct {
		name string
		n    *int64
	}{{"records lost", c.Lost}, {"stored twice", c.StoredTwice}} {
		if p.n != nil {
			fmt.Fprintf(t, "  %s\t%d\n", p.name, *p.n)
		}
	}
	return t.Flush()
}

func vipText(v web.VIP) string {
	if v.Address == nil {
		return "none"
	}
	text := *v.Address
	if v.Bound {
		text += ", held by this node"
		if v.Interface != nil {
			text += " on " + *v.Interface
		}
	}
	return text
}

func orNone(text, none string) string {
	if text == "" {
		return none
	}
	return text
}
