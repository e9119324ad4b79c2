package web

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"
)

// Membership is who takes part in the running pool, and how that is changed on its Primary. A
// string is what was done or begun, for people.
type Membership interface {
	// Seats lists the places of the pool: this Manager's first. Empty: there is no running pool.
	Seats() []Seat
	// Change is the account of the latest change of the running pool.
	Change() Change
	// Replace begins to put a new machine in the place of a member.
	Replace(ctx context.Context, q Replacement) (string, error)
	// Resync begins to make the other Manager's copy anew.
	Resync(ctx context.Context, yes bool) (string, error)
	// Partner deactivates or activates another member (maintenance).
	Partner(ctx context.Context, member string, active, yes bool) (string, error)
}

// Seat is one place of the pool.
type Seat struct {
	Role        string // master, backup or arbiter
	Name        string // empty: nobody is in it
	Address     string
	Status      string
	Self        bool
	Deactivated bool
	Behind      bool   // it does not work by the values agreed yet
	Failure     string // why it cannot be reached; empty: it can
}

// Change is the account of a change of the running pool.
type Change struct {
	Title   string `json:"title"` // empty: there was none since this Manager's start
	Steps   []Step `json:"steps"`
	Result  string `json:"result"`
	Problem string `json:"problem"` // why it was not done; empty: nothing went wrong
	Over    bool   `json:"over"`
}

// Replacement says which place gets which machine. An empty address is that of the old one.
type Replacement struct {
	Member  string `json:"member"`
	Address string `json:"address"`
	Port    uint16 `json:"port"`
	Second  string `json:"second"`
	Pairing string `json:"pairing"`
	Yes     bool   `json:"yes"`
}

// memberRoutes are the routes of the page Members and its calls.
func (s *Server) memberRoutes(e *echo.Echo) {
	o := s.cfg.Operations
	e.GET("/members", s.membersPage)
	e.POST("/members/replace", s.replaceMember)
	e.POST("/members/resync", func(c echo.Context) error {
		return s.confirmed(c, "/members", "Re-synchronise the other Manager", "Re-synchronise", nil, o.Resync)
	})
	e.POST("/members/partner", func(c echo.Context) error {
		who, active := c.FormValue("member"), c.FormValue("active") == "true"
		heading := "Deactivate the " + Word(who)
		if active {
			heading = "Activate the " + Word(who)
		}
		return s.confirmed(c, "/members", heading, heading, map[string]string{"member": who, "active": strconv.FormatBool(active)}, func(ctx context.Context, yes bool) (string, error) {
			return o.Partner(ctx, who, active, yes)
		})
	})
	e.GET("/api/v1/redundancy/change", func(c echo.Context) error {
		ch := o.Change()
		if ch.Steps == nil {
			ch.Steps = []Step{}
		}
		return answer(c, http.StatusOK, ch, nil)
	})
	e.POST("/api/v1/redundancy/replace", called(func(ctx context.Context, q Replacement) (any, error) { return message(o.Replace(ctx, q)) }))
	e.POST("/api/v1/redundancy/resync", called(func(ctx context.Context, q agreement) (any, error) { return message(o.Resync(ctx, q.Yes)) }))
	e.POST("/api/v1/redundancy/partner", called(func(ctx context.Context, q partnerOrder) (any, error) {
		return message(o.Partner(ctx, q.Member, q.Active, q.Yes))
	}))
}

// agreement is the body of calls that only ask for a confirmation.
type agreement struct {
	Yes bool `json:"yes"`
}

type partnerOrder struct {
	Member string `json:"member"`
	Active bool   `json:"active"`
	Yes    bool   `json:"yes"`
}

// membersView is the page Members; Typed is what was typed into the form of a place.
type membersView struct {
	shell
	Seats  []Seat
	Change Change
	Typed  Replacement
	Errors map[string][]FieldProblem // by field, of the place Typed.Member
}

// ErrorsOf returns the problems of a field of the form of a place.
func (v membersView) ErrorsOf(role, field string) []FieldProblem {
	if role != v.Typed.Member {
		return nil
	}
	return v.Errors[field]
}

// Value returns what was typed into a field of the form of a place.
func (v membersView) Value(role, field string) string {
	if role != v.Typed.Member {
		return ""
	}
	return map[string]string{"address": v.Typed.Address, "second": v.Typed.Second, "pairing": v.Typed.Pairing, "port": port(v.Typed.Port)}[field]
}

func port(n uint16) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(int(n))
}

func (s *Server) membersView(c echo.Context) membersView {
	o := s.cfg.Operations
	return membersView{shell: s.shell(c, "Members", "/members"), Seats: o.Seats(), Change: o.Change(), Errors: map[string][]FieldProblem{}}
}

func (s *Server) membersPage(c echo.Context) error {
	return c.Render(http.StatusOK, "members.html", s.membersView(c))
}

// replaceMember shows what is wrong beside its field, asks, and begins.
func (s *Server) replaceMember(c echo.Context) error {
	q := Replacement{Member: c.FormValue("member"), Address: strings.TrimSpace(c.FormValue("address")), Second: strings.TrimSpace(c.FormValue("second")), Pairing: strings.TrimSpace(c.FormValue("pairing"))}
	if text := strings.TrimSpace(c.FormValue("port")); text != "" { // empty: the usual one
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return s.refuseReplacement(c, q, &Problem{Message: "The replacement cannot be begun", Fields: []FieldProblem{{Field: "port", Code: "invalid", Message: text + " is not a port", Fix: "give 1 to 65535, or nothing for 8099"}}})
		}
		q.Port = uint16(n)
	}
	ctx := c.Request().Context()
	text, err := s.cfg.Operations.Replace(ctx, q)
	if err == nil {
		return done(c, "/members", text)
	}
	p := s.problemOf(c, err)
	if len(p.Fields) > 0 {
		return s.refuseReplacement(c, q, p)
	}
	if len(p.Confirm) > 0 && c.FormValue("yes") != "" && agreed(c, p.Confirm) {
		q.Yes = true
		text, err := s.cfg.Operations.Replace(ctx, q)
		if err == nil {
			return done(c, "/members", text)
		}
		if p = s.problemOf(c, err); len(p.Fields) > 0 {
			return s.refuseReplacement(c, q, p)
		}
	}
	hidden := map[string]string{"member": q.Member, "address": q.Address, "port": port(q.Port), "second": q.Second, "pairing": q.Pairing}
	return s.confirmed(c, "/members", "Replace the "+Word(q.Member), "Replace", hidden, func(_ context.Context, yes bool) (string, error) { return "", p })
}

func (s *Server) refuseReplacement(c echo.Context, q Replacement, p *Problem) error {
	v := s.membersView(c)
	v.Typed, v.Problem = q, &Problem{Code: p.Code, Message: p.Message, Fix: p.Fix}
	for _, f := range p.Fields {
		v.Errors[f.Field] = append(v.Errors[f.Field], f)
	}
	return c.Render(http.StatusUnprocessableEntity, "members.html", v)
}

// seatField is one input of the form of a place.
func seatField(v membersView, role, name, label, help string) field {
	return field{Name: name, Key: role + "-" + name, Label: label, Help: help, Value: v.Value(role, name), Errors: v.ErrorsOf(role, name)}
}
