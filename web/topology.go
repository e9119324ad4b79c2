package web

import (
	"fmt"
	"strings"
)

// topology is the picture of the pool: tiles for the members, and for each link and path two half
// lines, each drawn as the member at its end hears the other one.
type topology struct {
	Tiles  []tile
	Halves []half
	VIP    *pennant
	Alone  bool   // a Standalone: one tile, no links
	Text   string // the same in words
}

// tile is one member's; X and Y are its upper left corner in the picture's units.
type tile struct {
	Member
	X, Y, W, H int
	Name       string // cut to fit
	Units      string // of the Primary: how many field units
}

// half is one end's half of a line.
type half struct {
	X1, Y1, X2, Y2 int
	State          string
	Second         bool
	Text           string
}

// pennant is the virtual IP, on its holder's tile.
type pennant struct {
	X, Y, Middle int
	Text         string
}

// The places of the tiles by role, in a picture of 400 by 270.
var places = map[string]tile{
	"master":     {X: 4, Y: 34, W: 140, H: 90},
	"backup":     {X: 256, Y: 34, W: 140, H: 90},
	"arbiter":    {X: 130, Y: 192, W: 140, H: 72},
	"standalone": {X: 130, Y: 34, W: 140, H: 90},
}

// ends are where the line between two roles begins and ends; the second path runs beside it by shift.
var ends = []struct {
	a, b           string
	x1, y1, x2, y2 int
	dx, dy         int
}{
	{"master", "backup", 144, 70, 256, 70, 0, 16},
	{"master", "arbiter", 68, 124, 152, 192, 18, 0},
	{"backup", "arbiter", 332, 124, 248, 192, -18, 0},
}

// Topology draws the picture as this node knows it.
func (r Redundancy) Topology() topology {
	var t topology
	placed := map[string]bool{}
	for _, m := range r.Members {
		at, ok := places[m.Role]
		if !ok || placed[m.Role] {
			continue
		}
		placed[m.Role] = true
		at.Member, at.Name = m, cut(m.Title(), 16)
		if m.Status == statusPrimary && r.FieldUnits != nil {
			at.Units = countOf(*r.FieldUnits, "field unit")
		}
		if holds := m.Self && r.VIP.Bound || !r.VIP.Bound && m.Status == statusPrimary && !m.Self; holds && r.VIP.Address != nil {
			t.VIP = &pennant{X: at.X, Y: at.Y - 26, Middle: at.X + at.W/2, Text: "VIP " + cut(hostOf(*r.VIP.Address), 17)}
		}
		t.Tiles = append(t.Tiles, at)
	}
	t.Alone = len(t.Tiles) < 2
	for _, e := range ends {
		if !placed[e.a] || !placed[e.b] {
			continue
		}
		for path := 1; path <= 2; path++ {
			near, far := r.link(e.a, e.b, path), r.link(e.b, e.a, path)
			if near == nil || far == nil {
				continue
			}
			x1, y1, x2, y2 := e.x1+(path-1)*e.dx, e.y1+(path-1)*e.dy, e.x2+(path-1)*e.dx, e.y2+(path-1)*e.dy
			mx, my := (x1+x2)/2, (y1+y2)/2
			t.Halves = append(t.Halves,
				half{x1, y1, mx, my, near.State, path == 2, near.String()},
				half{x2, y2, mx, my, far.State, path == 2, far.String()})
		}
	}
	t.Text = r.inWords()
	return t
}

func (r Redundancy) link(by, of string, path int) *Link {
	for i := range r.Links {
		if l := &r.Links[i]; l.By == by && l.Of == of && l.Path == path {
			return l
		}
	}
	return nil
}

// String says the link as a sentence without its full stop.
func (l Link) String() string {
	text := Word(l.By) + " "
	switch l.State {
	case "heard":
		text += "hears " + Word(l.Of)
	case "silent":
		text += "last heard " + Word(l.Of) + " " + ago(l.HeardMS)
	case "never":
		text += "has never heard " + Word(l.Of)
	default:
		text = "whether " + text + "hears " + Word(l.Of) + " is not known"
	}
	if l.Path == 2 {
		text += " on the second path"
	}
	return text
}

// Age is how long ago, short.
func (l Link) Age() string {
	switch {
	case l.State == "never":
		return "never"
	case l.State == "unknown" && l.HeardMS == nil:
		return "not known"
	case l.State == "unknown":
		return "not known, was " + ago(l.HeardMS)
	case *l.HeardMS < 1000:
		return fmt.Sprintf("%d ms", *l.HeardMS)
	}
	return ago(l.HeardMS)
}

// inWords is the picture as text, for whoever cannot see it.
func (r Redundancy) inWords() string {
	var out []string
	for _, m := range r.Members {
		line := fmt.Sprintf("%s %s is %s", Word(m.Role), m.Name, Word(m.Status))
		if m.Role == "standalone" {
			line = m.Title() + " works alone"
		}
		out = append(out, line)
	}
	if r.VIP.Address != nil {
		holder := vipHolder(r)
		if holder == "" {
			holder = "nobody known"
		}
		out = append(out, "the virtual IP "+hostOf(*r.VIP.Address)+" is held by "+holder)
	}
	if r.FieldUnits != nil {
		out = append(out, countOf(*r.FieldUnits, "field unit")+" connected")
	}
	for _, l := range r.Links {
		if l.State != "heard" {
			out = append(out, l.String())
		}
	}
	return strings.Join(out, "; ") + "."
}

func countOf(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// cut shortens a text to at most n characters.
func cut(text string, n int) string {
	if r := []rune(text); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return text
}

// matrixRow is one member's row of the link matrix.
type matrixRow struct {
	By    Member
	Cells [][]Link // by column; none: the member itself
}

// Matrix is who hears whom, in the order of the members; nil while there are no links.
func (r Redundancy) Matrix() []matrixRow {
	if len(r.Links) == 0 {
		return nil
	}
	var rows []matrixRow
	for _, by := range r.Members {
		row := matrixRow{By: by}
		for _, of := range r.Members {
			var cell []Link
			for path := 1; path <= 2; path++ {
				if l := r.link(by.Role, of.Role, path); l != nil {
					cell = append(cell, *l)
				}
			}
			row.Cells = append(row.Cells, cell)
		}
		rows = append(rows, row)
	}
	return rows
}
