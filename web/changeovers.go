package web

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
)

// History are the changes of Primary and the drills that the database keeps.
type History interface {
	// Changeovers returns the newest records, newest first, from this node's own copy.
	Changeovers(ctx context.Context, limit int) ([]ChangeoverRecord, error)
}

// ChangeoverRecord is the whole account of one change of Primary. Times in ms count from the fault,
// or from the order of a hand over; null: it did not happen or is not known.
type ChangeoverRecord struct {
	Key         string    `json:"key"`
	Kind        string    `json:"kind"` // handover, takeover, takeback
	Code        string    `json:"code"` // of the cause, see the API document
	Cause       string    `json:"cause"`
	At          time.Time `json:"at"` // when the new Primary was elected, by its clock
	Term        uint64    `json:"term"`
	FromTerm    uint64    `json:"from_term"` // in which the old one was Primary
	From        string    `json:"from"`
	To          string    `json:"to"`
	DetectedMS  *float64  `json:"detected_ms"`
	ElectedMS   *float64  `json:"elected_ms"`
	FencedMS    *float64  `json:"fenced_ms"` // from here on no write of an older term can be committed
	VIPMS       *float64  `json:"vip_ms"`    // the virtual IP was bound
	AnnouncedMS *float64  `json:"announced_ms"`
	WriteMS     *float64  `json:"first_write_ms"`
	FirstUnitMS *float64  `json:"first_unit_ms"`
	AllUnitsMS  *float64  `json:"all_units_ms"`
	FirstUnit   string    `json:"first_unit"`
	LastUnit    string    `json:"last_unit"`
	// UnitsBefore and UnitsBack count the field units that the old Primary served, and those that
	// have come to the new one.
	UnitsBefore *int64 `json:"units_before"`
	UnitsBack   *int64 `json:"units_back"`
	// Check is what the stored records were compared with; null: not yet.
	Check *ContinuityCheck `json:"check"`
	// Evidence is what each member saw; Awaited are the members whose account is not in yet.
	Evidence []Sighting `json:"evidence"`
	Awaited  []string   `json:"awaited"`
}

// ContinuityCheck compares what is stored with what the units numbered, around a changeover.
type ContinuityCheck struct {
	At          time.Time `json:"at"`
	Lost        int64     `json:"lost"`         // numbers missing between others
	StoredTwice int64     `json:"stored_twice"` // numbers that came with two contents
	Units       int64     `json:"units"`        // whose numbers were compared
	Records     int64     `json:"records"`      // looked at
	Before      int64     `json:"accepted_before"`
	After       int64     `json:"accepted_after"`
	// NotCheckable names units that number nothing, or nothing yet: a loss of theirs would not
	// show. NotCheckableUnits is how many there are.
	NotCheckable      []string `json:"not_checkable"`
	NotCheckableUnits int64    `json:"not_checkable_units"`
	Findings          []string `json:"findings"` // the first gaps and doubles, by name
}

// BeforeSeconds is the time before a changeover of which AcceptedBefore counts the records.
const BeforeSeconds = 10

// Sighting is what one member saw of the old Primary, or that one's own account. Times are Unix ms
// of the member's clock; 0: it did not see that.
type Sighting struct {
	Member      string `json:"member"`
	Role        string `json:"role"`
	Primary     string `json:"primary"`
	Term        uint64 `json:"term"`
	LastHeardMS int64  `json:"last_heard_ms"`
	BrokenMS    int64  `json:"broken_ms"`
	Broken      string `json:"broken"` // reset, closed, silent
	RefusedMS   int64  `json:"refused_ms"`
	FarewellMS  int64  `json:"farewell_ms"`
	ReleasedMS  int64  `json:"released_ms"`
	Released    string `json:"released"`
	Verdict     string `json:"verdict"` // farewell, released, refused, silent; empty: none
	Self        bool   `json:"self"`
	LastWriteMS int64  `json:"last_write_ms"`
	GaveUpMS    int64  `json:"gave_up_ms"`
	GaveUp      string `json:"gave_up"`
}

// Says puts a sighting into sentences, in the order of time.
func (s Sighting) Says() []string {
	type line struct {
		at   int64
		text string
	}
	var all []line
	add := func(at int64, format string, args ...any) {
		if at != 0 {
			all = append(all, line{at, time.UnixMilli(at).UTC().Format("15:04:05.000") + " " + fmt.Sprintf(format, args...)})
		}
	}
	if s.Self {
		add(s.LastWriteMS, "its last write was committed")
		add(s.GaveUpMS, "it gave Primary up: %s", s.GaveUp)
		if s.GaveUpMS == 0 {
			all = append(all, line{1 << 62, "its process ended without laying Primary down"})
		}
	} else {
		add(s.LastHeardMS, "heard it for the last time")
		how := map[string]string{"reset": "was reset", "silent": "fell silent", "closed": "was closed"}[s.Broken]
		add(s.BrokenMS, "the last connection to it %s", cmp.Or(how, "broke"))
		add(s.RefusedMS, "its port refused connections")
		add(s.FarewellMS, "its guard said farewell: the process is dead and the virtual IP gone")
		add(s.ReleasedMS, "it said that it laid Primary down: %s", s.Released)
		if len(all) == 0 {
			all = append(all, line{0, "had not heard it"})
		}
	}
	slices.SortStableFunc(all, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	out := make([]string, len(all))
	for i, l := range all {
		out[i] = l.text
	}
	return out
}

// causeWords are what people read for the codes of causes.
var causeWords = map[string]string{
	"operator": "asked for by an operator", "drill": "failover drill", "take_back": "taken back by the Master", "stopped": "the old Primary was stopped in order",
	"maintenance": "redundancy was deactivated on the old Primary", "process_died": "the old Primary's process died", "silent": "the old Primary fell silent",
	"sick": "the old Primary could not write or not hold the virtual IP", "lease_over": "the old Primary heard too few others",
	"first_path": "the old Primary's network was dead", "released": "the old Primary laid it down", "election": "elected by timeout", "start": "first start",
}

// CauseWord returns the code of a cause as people read it.
func CauseWord(code string) string { return cmp.Or(causeWords[code], code) }

// historyWords are the templates' own words for this page.
var historyWords = template.FuncMap{"causeWord": CauseWord, "beforeSeconds": func() int { return BeforeSeconds },
	"drillWord": func(result string) string {
		return map[string]string{"running": "Under way", "passed": "Passed", "failed": "Failed", "aborted": "Aborted"}[result]
	}}

func (s *Server) historyRoutes(e *echo.Echo) {
	e.GET("/changeovers", s.changeoversPage)
	e.GET("/api/v1/redundancy/changeovers", s.changeovers)
}

func init() {
	open["/changeovers"], open["/api/v1/redundancy/changeovers"] = inLight, inLight
}

// mostShown bounds the answer of one request.
const mostShown = 1000

// changeovers answers with the history, newest first.
func (s *Server) changeovers(c echo.Context) error {
	limit := 100
	if text := c.QueryParam("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostShown {
			return echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("limit %q: give 1 to %d", text, mostShown))
		}
		limit = n
	}
	all, err := s.cfg.Operations.Changeovers(c.Request().Context(), limit)
	if all == nil {
		all = []ChangeoverRecord{}
	}
	return answer(c, http.StatusOK, map[string]any{"changeovers": all}, err)
}

// changeoversView is the page: the list, and one record whole.
type changeoversView struct {
	shell
	All []ChangeoverRecord
	One *ChangeoverRecord
}

func (s *Server) changeoversPage(c echo.Context) error {
	v := changeoversView{shell: s.shell(c, "Changeovers", "/changeovers")}
	var err error
	if v.All, err = s.cfg.Operations.Changeovers(c.Request().Context(), 200); err != nil {
		v.Problem = s.problemOf(c, err)
	}
	key := c.QueryParam("key")
	for i := range v.All {
		if v.All[i].Key == key || key == "" && i == 0 {
			v.One = &v.All[i]
		}
	}
	if key != "" && v.One == nil && v.Problem == nil {
		v.Problem = &Problem{Message: "there is no changeover with this key: the history keeps the newest ones"}
	}
	return c.Render(http.StatusOK, "changeovers.html", v)
}
