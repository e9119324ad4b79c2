package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// shell is what every page has around its content.
type shell struct {
	Title string
	Here  string // the path of the menu's entry
	Mode  string // full, light or waiting: a page that learns of another one loads itself anew
	R     Redundancy
	User  string
	Form  string // token of this page's forms
	Note  string // what was done
	Now   time.Time
	// Refresh is what the page fetches to renew its live parts; empty: by Here.
	Refresh string
	// Problem is why what was asked was not done.
	Problem *Problem
}

// The modes of the pages.
const (
	modeFull    = "full"
	modeLight   = "light"
	modeWaiting = "waiting"
)

// modeOf: while a pool is being formed there is only the waiting page; a Manager that is Online in
// a pool has few pages, because the Primary has all of them.
func modeOf(r Redundancy) string {
	switch {
	case r.Deadline != nil:
		return modeWaiting
	case r.Status == statusPrimary, r.Role == "standalone":
		return modeFull
	}
	return modeLight
}

func (s *Server) shell(c echo.Context, title, here string) shell {
	noStore(c)
	user, _ := c.Get("user").(string)
	r := s.cfg.Source.Redundancy()
	return shell{Title: title, Here: here, Mode: modeOf(r), R: r, User: user, Form: formToken(sessionValue(c)), Note: takeNote(c), Now: s.clock().UTC()}
}

// Links lists the menu of a page.
func (s shell) Links() []link {
	all := []link{{"/", "Redundancy"}, {"/changeovers", "Changeovers"}, {"/settings", "Settings"}, {"/units", "Field units"}, {"/database", "Database"}, {"/members", "Members"}, {"/trust", "Connections"}, {"/logs", "Logs"}, {"/notifications", "Notifications"}, {"/about", "About"}}
	out := all[:0]
	for _, l := range all {
		if s.Mode == modeFull || s.Mode == modeLight && open[l.Path]&inLight != 0 {
			out = append(out, l)
		}
	}
	return out
}

type link struct{ Path, Name string }

// Primary returns the address of the Manager that is Primary, with the virtual IP first; empty:
// nobody is known to be.
func (s shell) Primary() string {
	for _, m := range s.R.Members {
		if m.Status == statusPrimary {
			if s.R.VIP.Address != nil {
				return hostOf(*s.R.VIP.Address)
			}
			return hostOf(m.Address)
		}
	}
	return ""
}

// When a route answers.
const (
	inWaiting = 1 << iota // while a pool is being formed
	inLight               // on a Manager that is Online in a pool
)

// open says when a page or call answers besides on a Manager that has all pages. Unlisted: only there.
var open = map[string]int{
	"/redundancy": inLight, "/handover": inLight,
	"/members": inLight, "/api/v1/redundancy/change": inLight,
	"/": inLight, "/settings": inLight, "/database": inLight, "/database/save": inLight, "/database/file/:name": inLight, "/database/delete": inLight, "/database/keep": inLight, "/database/beyond/:name": inLight,
	"/api/v1/database": inLight, "/api/v1/database/saves/:name": inLight, "/api/v1/database/exports/:name": inLight, uploadPath: inLight,
	"/api/v1/database/save": inLight, "/api/v1/database/delete": inLight, "/api/v1/database/keep": inLight,
	"/about": inLight, "/account": inLight, "/account/password": inLight, "/account/sessions": inLight, "/actions/:what": inLight, "/fallback": inLight,
	"/waiting": inWaiting | inLight, "/waiting/token": inWaiting, "/waiting/cancel": inWaiting,
	"/shell": inWaiting | inLight, "/login": inWaiting | inLight, "/logout": inWaiting | inLight, "/setup": inWaiting | inLight,
	"/healthz": inWaiting | inLight, "/readyz": inWaiting | inLight, "/metrics": inWaiting | inLight, "/static/:file": inWaiting | inLight,
	"/trust": inWaiting | inLight, "/trust/contact": inWaiting | inLight, "/trust/approve": inWaiting | inLight, "/trust/reject": inWaiting | inLight, "/trust/withdraw": inWaiting | inLight,
	"/settings/certificate": inLight, "/settings/certificate/renew": inLight, "/settings/certificate/reset": inLight, "/settings/certificate/:file": inLight,
	"/api/v1/certificate": inLight, "/api/v1/certificate/renew": inLight, "/api/v1/certificate/reset": inLight,
	"/api/v1/redundancy/connections": inWaiting | inLight, "/api/v1/redundancy/contact": inWaiting | inLight, "/api/v1/redundancy/approve": inWaiting | inLight,
	"/api/v1/redundancy/reject": inWaiting | inLight, "/api/v1/redundancy/withdraw": inWaiting | inLight,
	"/api/v1/redundancy": inWaiting | inLight, "/api/v1/events": inWaiting | inLight, "/api/v1/openapi.json": inWaiting | inLight,
	"/api/v1/redundancy/verify": inLight, "/api/v1/redundancy/set": inLight, "/api/v1/redundancy/leave": inLight,
	"/api/v1/redundancy/activate": inLight, "/api/v1/redundancy/deactivate": inLight, "/api/v1/redundancy/handover": inLight,
	"/api/v1/redundancy/recover": inLight, "/api/v1/redundancy/cancel": inWaiting,
	"/logs": inLight, "/logs/stream": inLight, "/api/v1/logs": inLight, "/api/v1/logs/stream": inLight, "/api/v1/logs/export": inLight,
	"/api/v1/redundancy/worst": inLight, "/api/v1/redundancy/checks": inLight, "/api/v1/redundancy/waiting": inWaiting | inLight,
}

// closed answers for routes that are not open at present.
func (s *Server) closed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		mode := modeOf(s.cfg.Source.Redundancy())
		switch {
		case c.Path() == "", mode == modeFull,
			mode == modeLight && open[c.Path()]&inLight != 0,
			mode == modeWaiting && open[c.Path()]&inWaiting != 0:
			return next(c)
		case mode == modeWaiting && wantsPage(c):
			return s.renderWaiting(c, http.StatusServiceUnavailable, "")
		case mode == modeWaiting:
			return s.waitingFacts(c, http.StatusServiceUnavailable)
		case wantsPage(c):
			return c.Render(http.StatusConflict, "light.html", s.shell(c, "On the Primary", ""))
		case s.atVIP(c):
			if s.outlive(c) {
				return next(c)
			}
			return nil
		}
		sh := s.shell(c, "", "")
		return c.JSON(http.StatusConflict, map[string]any{"error": map[string]any{"code": http.StatusConflict,
			"message": "this Manager is " + Word(sh.R.Status) + ": ask the Primary", "primary": sh.Primary()}})
	}
}

// shellPage is what pages fetch to renew chips, icon and panel.
func (s *Server) shellPage(c echo.Context) error {
	return c.Render(http.StatusOK, "shell.html", s.shell(c, "", ""))
}

// problemOf makes anything that went wrong fit to be shown; an error of the inside goes to the
// log and is not told.
func (s *Server) problemOf(c echo.Context, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		c.Set(problemKey, p)
		return p
	}
	s.cfg.Log.Error("web request failed", "path", c.Path(), "error", err)
	p = &Problem{Code: "internal", Message: err.Error(), Fix: "look into the log of this Manager"}
	c.Set(problemKey, p)
	return p
}

// done goes to a page that says what was done.
func done(c echo.Context, to, text string) error {
	if text != "" {
		leaveNote(c, text)
	}
	return c.Redirect(http.StatusSeeOther, to)
}
