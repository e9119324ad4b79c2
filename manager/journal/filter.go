package journal

import (
	"cmp"
	"slices"
	"strings"
)

// Filter chooses events; empty fields match everything.
type Filter struct {
	Node       string   `json:"node,omitempty"`
	AtLeast    Severity `json:"at_least,omitempty"` // this severity, and the graver ones
	Categories []string `json:"categories,omitempty"`
	Code       string   `json:"code,omitempty"`
	Text       string   `json:"text,omitempty"`     // within node, code, message or cause, in any case
	SinceMS    int64    `json:"since_ms,omitempty"` // at or after
	UntilMS    int64    `json:"until_ms,omitempty"` // before; 0: no end
}

// rank orders the severities; one that is not known counts as the lightest.
func (s Severity) rank() int { return slices.Index([]Severity{Info, Warning, Error}, s) }

// Match reports whether e is chosen.
func (f Filter) Match(e Event) bool {
	return (f.Node == "" || f.Node == e.Node) &&
		(f.AtLeast == "" || e.Severity.rank() >= f.AtLeast.rank()) &&
		(len(f.Categories) == 0 || slices.Contains(f.Categories, e.Category)) &&
		(f.Code == "" || f.Code == e.Code) &&
		e.TimeMS >= f.SinceMS && (f.UntilMS == 0 || e.TimeMS < f.UntilMS) &&
		f.says(e)
}

func (f Filter) says(e Event) bool {
	if f.Text == "" {
		return true
	}
	want := strings.ToLower(f.Text)
	for _, have := range []string{e.Message, e.Cause, e.Code, e.Node} {
		if strings.Contains(strings.ToLower(have), want) {
			return true
		}
	}
	return false
}

// Position is a place in the order of merged events: by time, then by ID, so that the events of one
// run of a node that fall into the same millisecond keep their order. The zero Position is the end.
type Position struct {
	TimeMS int64  `json:"time_ms,omitempty"`
	ID     string `json:"id,omitempty"`
}

// At returns the Position of e.
func At(e Event) Position { return Position{e.TimeMS, e.ID} }

// Compare orders positions by time, then by ID.
func (p Position) Compare(o Position) int {
	return cmp.Or(cmp.Compare(p.TimeMS, o.TimeMS), cmp.Compare(p.ID, o.ID))
}

// after reports whether p comes later than o.
func (p Position) after(o Position) bool { return p.Compare(o) > 0 }

// Query asks for one page of events.
type Query struct {
	Filter
	Before Position `json:"before,omitzero"` // older than this; zero: from the newest on
	Limit  int      `json:"limit"`           // 0: 200; at most 1,000
}

const (
	defaultPage = 200
	mostPage    = 1000
)

// Bounded returns q with a Limit within 1 and 1,000.
func (q Query) Bounded() Query {
	if q.Limit <= 0 {
		q.Limit = defaultPage
	}
	q.Limit = min(q.Limit, mostPage)
	return q
}

// Match reports whether e is chosen and lies before the page's upper end.
func (q Query) Match(e Event) bool {
	return (q.Before == Position{} || q.Before.after(At(e))) && q.Filter.Match(e)
}

// Page is a part of the events that a Query chose, newest first.
type Page struct {
	Events []Event `json:"events"`
	// Next is where the next, older page begins; zero: there is nothing older. It can be set on a
	// page with few or no events: then looking further back was put off.
	Next Position `json:"next,omitzero"`
}

// Merge makes one page of the pages that several sources gave for the same q. An event that several
// have appears once.
//
// It is exact: where a source stopped early, nothing older than that place is shown before it has
// been asked again.
func Merge(q Query, pages ...Page) Page {
	q = q.Bounded()
	var horizon Position // the latest place where a source stopped
	var all []Event
	for _, p := range pages {
		if p.Next.after(horizon) {
			horizon = p.Next
		}
		all = append(all, p.Events...)
	}
	slices.SortStableFunc(all, func(a, b Event) int { return At(b).Compare(At(a)) })
	all = slices.CompactFunc(all, func(a, b Event) bool { return a.ID == b.ID && a.TimeMS == b.TimeMS })
	for i, e := range all {
		if horizon.after(At(e)) {
			all = all[:i]
			break
		}
	}
	if len(all) > q.Limit {
		all = all[:q.Limit]
		horizon = At(all[q.Limit-1])
	}
	return Page{Events: all, Next: horizon}
}
