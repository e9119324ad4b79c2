package web

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"
)

// confirmView asks before something is done.
type confirmView struct {
	shell
	Action string            // where the form goes
	Hidden map[string]string // what it carries along
	Back   string
	Asked  []Consequence
	Button string
}

// agreed reports whether every word that was asked for has been typed.
func agreed(c echo.Context, asked []Consequence) bool {
	for _, q := range asked {
		if q.Word != "" && c.FormValue("word-"+q.Word) != q.Word {
			return false
		}
	}
	return true
}

// confirmed runs do, and asks first where do wants that. The page asked from is back; heading and
// button name the act; hidden is what the form carries along.
func (s *Server) confirmed(c echo.Context, back, heading, button string, hidden map[string]string, do func(ctx context.Context, yes bool) (string, error)) error {
	ctx := c.Request().Context()
	text, err := do(ctx, false)
	if err == nil {
		return done(c, back, text)
	}
	p := s.problemOf(c, err)
	if len(p.Confirm) == 0 {
		return done(c, back, p.Error())
	}
	typed := agreed(c, p.Confirm)
	if c.FormValue("yes") == "" || !typed {
		v := confirmView{shell: s.shell(c, heading, back), Action: c.Request().URL.Path, Hidden: hidden, Back: back, Asked: p.Confirm, Button: button}
		if !typed && c.FormValue("yes") != "" {
			v.Problem = &Problem{Message: "The word was not typed as asked: nothing was changed."}
		}
		return c.Render(http.StatusOK, "confirm.html", v)
	}
	settle(c)
	if text, err = do(ctx, true); err != nil {
		text = s.problemOf(c, err).Error()
	}
	return done(c, back, text)
}

// action is one button of the section Redundancy.
func (s *Server) action(c echo.Context) error {
	o := s.cfg.Operations
	once := func(heading, text string, do func(context.Context) (string, error)) error {
		return s.confirmed(c, "/", heading, heading, nil, func(ctx context.Context, yes bool) (string, error) {
			if !yes {
				return "", &Problem{Code: "confirm", Message: heading, Confirm: []Consequence{{Text: text}}}
			}
			return do(ctx)
		})
	}
	switch c.Param("what") {
	case "leave":
		return s.confirmed(c, "/", "Leave the pool", "Leave the pool", nil, o.Leave)
	case "deactivate":
		return s.confirmed(c, "/", "Maintenance mode here", "Begin maintenance", nil, o.Deactivate)
	case "recover":
		return s.confirmed(c, "/", "Go on alone", "Go on alone", nil, o.Recover)
	case "activate":
		return once("End maintenance here", "This Manager may become Primary again.", o.Activate)
	case "handover":
		label := s.cfg.Source.Redundancy().HandOverLabel()
		if c.FormValue("yes") == "" || label == "" {
			return c.Redirect(http.StatusSeeOther, "/handover")
		}
		if !s.startMove(label) {
			return done(c, "/handover", "a hand over is under way already")
		}
		return c.Redirect(http.StatusSeeOther, "/handover")
	}
	return echo.ErrNotFound
}

// unitsView is the page of the field units; Profile is that of one just added.
type unitsView struct {
	shell
	Units   []Unit
	Added   string
	Profile string
}

func (s *Server) renderUnits(c echo.Context, code int, v unitsView) error {
	units, err := s.cfg.Operations.Units(c.Request().Context())
	if err != nil && v.Problem == nil {
		v.Problem = s.problemOf(c, err)
	}
	v.Units = units
	return c.Render(code, "units.html", v)
}

func (s *Server) unitsPage(c echo.Context) error {
	return s.renderUnits(c, http.StatusOK, unitsView{shell: s.shell(c, "Field units", "/units")})
}

func (s *Server) addUnit(c echo.Context) error {
	v := unitsView{shell: s.shell(c, "Field units", "/units"), Added: c.FormValue("name")}
	var err error
	if v.Profile, err = s.cfg.Operations.AddUnit(c.Request().Context(), v.Added); err != nil {
		v.Problem = s.problemOf(c, err)
		return s.renderUnits(c, http.StatusConflict, v)
	}
	return s.renderUnits(c, http.StatusOK, v)
}

func (s *Server) removeUnit(c echo.Context) error {
	name := c.FormValue("name")
	return s.confirmed(c, "/units", "Remove field unit "+name, "Remove", map[string]string{"name": name}, func(ctx context.Context, yes bool) (string, error) {
		return s.cfg.Operations.RemoveUnit(ctx, name, yes)
	})
}
