package web

import (
	"fmt"
	"strconv"
)

// factGroup is one part of the table of this node and its partners.
type factGroup struct {
	Name  string
	Facts []fact
}

// fact is one row: a cell for each member.
type fact struct {
	Label string
	Cells []cell
}

// cell is one member's value; Class gives its colour, Mark its shape.
type cell struct{ Text, Class, Mark string }

// Facts are all that is known of each member, this node first.
func (r Redundancy) Facts() []factGroup {
	if len(r.Members) == 0 {
		return nil
	}
	var out []factGroup
	group := func(name string) { out = append(out, factGroup{Name: name}) }
	add := func(label string, value func(Member) cell) {
		f := fact{Label: label}
		for _, m := range r.Members {
			f.Cells = append(f.Cells, value(m))
		}
		if len(r.Members) == 1 && f.Cells[0].Text == "—" {
			return // nothing to compare with
		}
		g := &out[len(out)-1]
		g.Facts = append(g.Facts, f)
	}
	text := func(label string, value func(Member) string) {
		add(label, func(m Member) cell { return cell{Text: orDash(value(m))} })
	}
	group("Member")
	text("Index", func(m Member) string { return strconv.Itoa(m.Index) })
	text("Role", func(m Member) string { return Word(m.Role) })
	add("Status", func(m Member) cell {
		c := cell{Text: Word(m.Status), Class: "state s-" + m.Status, Mark: mark(m.Status)}
		if m.EquivalentTo != "" {
			c.Text += " (" + m.EquivalentTo + ")"
		}
		return c
	})
	text("Is Primary", func(m Member) string { return yesNo(m.IsPrimary) })
	add("Active", func(m Member) cell {
		if m.Maintenance {
			return cell{Text: "No, in maintenance", Class: "state s-degraded", Mark: "▲"}
		}
		return cell{Text: yesNo(m.Active)}
	})
	add("Fault", func(m Member) cell {
		if m.Fault == "" {
			return cell{Text: "none known"}
		}
		return cell{Text: m.Fault, Class: "wrap state s-unreachable", Mark: "✕"}
	})
	text("Symbol", func(m Member) string { return m.Symbol })
	text("Comment", func(m Member) string { return m.Comment })

	group("Connection")
	text("Address", func(m Member) string { return m.Host })
	text("Port", func(m Member) string {
		if m.Port == 0 {
			return ""
		}
		return strconv.Itoa(m.Port)
	})
	text("Second path", func(m Member) string { return m.Second })
	text("Last heard", func(m Member) string {
		if m.Self {
			return "this node"
		}
		return ago(m.LastHeardMS)
	})
	text("Round trip", func(m Member) string { return milliseconds(m.RoundTripMS) })
	text("Clock offset", func(m Member) string {
		if m.ClockMS == nil {
			return ""
		}
		return fmt.Sprintf("%+.1f ms", *m.ClockMS)
	})
	text("Connected server", func(m Member) string {
		if m.IsPrimary {
			return "is the Primary"
		}
		return m.ConnectedTo
	})
	if t := r.Timing; t != nil && len(r.Members) > 1 {
		text("Period", func(Member) string { return fmt.Sprintf("%d ms", t.PeriodMS) })
		text("Timeout", func(Member) string { return fmt.Sprintf("%d ms", t.TimeoutMS) })
		text("Retry count", func(Member) string { return strconv.Itoa(t.Retries) })
	}
	text("Field units", func(m Member) string { return pointed(m.FieldUnits, "") })
	text("Browsers", func(m Member) string { return pointed(m.Browsers, "") })

	group("Database")
	add("Synchronisation", databaseCell)
	add("Verified", func(m Member) cell {
		switch {
		case m.Database == "none" || m.Verified == nil:
			return cell{Text: "—"}
		case !*m.Verified:
			return cell{Text: "differs at " + pointed(m.VerifiedAt, "?"), Class: "state s-failure", Mark: "✕"}
		}
		return cell{Text: "equal at " + pointed(m.VerifiedAt, "?")}
	})
	text("Term", func(m Member) string { return pointed(m.Term, "") })
	text("Position", func(m Member) string { return pointed(m.Position, "") })
	text("Stored up to", func(m Member) string { return pointed(m.Stored, "") })
	text("Behind", func(m Member) string { return pointed(m.Behind, "") })

	group("Machine")
	text("Disk commit", func(m Member) string { return milliseconds(m.CommitMS) })
	text("On disk", func(m Member) string {
		if m.BytesOnDisk == nil {
			return ""
		}
		return size(*m.BytesOnDisk)
	})
	text("Running since", func(m Member) string {
		if m.Since == nil {
			return ""
		}
		return m.Since.UTC().Format("2006-01-02 15:04:05")
	})
	text("Version", func(m Member) string { return m.Version })
	text("Licence", func(m Member) string {
		if m.Role == "arbiter" {
			return "" // it has no modules
		}
		switch m.Licence {
		case "match":
			return "Match"
		case "mismatch":
			return "Mismatch"
		}
		return "Unknown"
	})
	text("Report age", func(m Member) string {
		if m.Self {
			return "now"
		}
		return ago(m.ReportAgeMS)
	})
	return out
}

func databaseCell(m Member) cell {
	switch m.Database {
	case "none":
		return cell{Text: "stores no data"}
	case "in_step":
		return cell{Text: "in step", Class: "state s-primary", Mark: "●"}
	case "differs":
		return cell{Text: "differs", Class: "state s-failure", Mark: "✕"}
	case "behind":
		return cell{Text: database(m), Class: "state s-degraded", Mark: "▲"}
	}
	return cell{Text: "not known", Class: "state s-unknown", Mark: "?"}
}

func orDash(text string) string {
	if text == "" {
		return "—"
	}
	return text
}

func yesNo(yes bool) string {
	if yes {
		return "Yes"
	}
	return "No"
}

// HandOverLabel is the button's text, with its direction; empty while no Manager is Primary.
func (r Redundancy) HandOverLabel() string {
	for _, m := range r.Members {
		if m.Status == statusPrimary {
			switch m.Role {
			case "master":
				return "Hand over to Backup"
			case "backup":
				return "Hand back to Master"
			}
		}
	}
	return ""
}

// Left is the time until the Master takes back, as minutes and seconds.
func (r Recovery) Left() string {
	if r.LeftMS == nil {
		return ""
	}
	return left(*r.LeftMS)
}

// Clock is when the picture was made.
func (r Redundancy) Clock() string {
	return r.At.UTC().Format("15:04:05")
}
