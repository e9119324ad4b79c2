package web

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
)

// setupView is the page that creates the first administrator.
type setupView struct {
	Error, Name string
	R           Redundancy
	NeedsCode   bool
}

// setupPage is open as long as nobody can log in.
func (s *Server) setupPage(c echo.Context) error {
	noStore(c)
	founded, err := s.cfg.Operations.Founded(c.Request().Context())
	if err != nil {
		return s.setupAgain(c, http.StatusServiceUnavailable, "", s.problemOf(c, err).Error())
	}
	if founded {
		return c.Redirect(http.StatusSeeOther, "/login")
	}
	return s.setupAgain(c, http.StatusOK, "", "")
}

func (s *Server) setupAgain(c echo.Context, code int, name, text string) error {
	return c.Render(code, "setup.html", setupView{Error: text, Name: name, R: s.cfg.Source.Redundancy(), NeedsCode: !local(c)})
}

// setup creates the first administrator: from this machine, or with the code that the process
// printed.
func (s *Server) setup(c echo.Context) error {
	noStore(c)
	name, password := c.FormValue("name"), c.FormValue("password")
	switch {
	case !local(c) && c.Request().TLS == nil:
		return s.setupAgain(c, http.StatusForbidden, name, "Use HTTPS: here the password would not be encrypted.")
	case !local(c) && c.FormValue("code") == "":
		return s.setupAgain(c, http.StatusForbidden, name, "The code is missing: it stands in the log of this Manager.")
	case password != c.FormValue("again"):
		return s.setupAgain(c, http.StatusUnprocessableEntity, name, "The two passwords differ.")
	}
	code := c.FormValue("code")
	if local(c) {
		code = ""
	}
	if err := s.cfg.Operations.Found(c.Request().Context(), code, name, password); err != nil {
		p := s.problemOf(c, err)
		status := http.StatusUnprocessableEntity
		if p.Code == "founded" || p.Code == "code" {
			status = http.StatusForbidden
		}
		return s.setupAgain(c, status, name, p.Error())
	}
	return s.begin(c, name)
}

func (s *Server) accountPage(c echo.Context) error {
	return c.Render(http.StatusOK, "account.html", s.shell(c, "Account", "/account"))
}

// changePassword sets the visitor's own password, which ends all sessions, and begins a new one.
func (s *Server) changePassword(c echo.Context) error {
	ctx := c.Request().Context()
	user, _ := c.Get("user").(string)
	refuse := func(code int, p *Problem) error {
		sh := s.shell(c, "Account", "/account")
		sh.Problem = p
		return c.Render(code, "account.html", sh)
	}
	switch err := s.verify(ctx, user, c.FormValue("old")); {
	case errors.Is(err, ErrLogin):
		return refuse(http.StatusUnauthorized, &Problem{Message: "The present password is wrong."})
	case err != nil:
		return err
	case c.FormValue("password") != c.FormValue("again"):
		return refuse(http.StatusUnprocessableEntity, &Problem{Message: "The two new passwords differ."})
	}
	if err := s.cfg.Operations.SetPassword(ctx, user, c.FormValue("password")); err != nil {
		return refuse(http.StatusUnprocessableEntity, s.problemOf(c, err))
	}
	leaveNote(c, "The password was changed; all other sessions have ended.")
	return s.begin(c, user)
}

// endSessions logs the visitor out everywhere, here as well.
func (s *Server) endSessions(c echo.Context) error {
	user, _ := c.Get("user").(string)
	if _, err := s.cfg.Operations.EndSessions(c.Request().Context(), user); err != nil {
		return done(c, "/account", s.problemOf(c, err).Error())
	}
	setSession(c, "", -1)
	return c.Redirect(http.StatusSeeOther, "/login")
}

func (s *Server) aboutPage(c echo.Context) error {
	return c.Render(http.StatusOK, "about.html", struct {
		shell
		S Settings
	}{s.shell(c, "About", "/about"), s.cfg.Operations.Settings()})
}
