package web

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// waitingView is the page of a node whose pool is being formed.
type waitingView struct {
	shell
	W     Waiting
	Token string      // just made, shown this once
	T     Connections // who waits for approval here
	// Events are the newest of this node, newest first: the Logs page is closed meanwhile.
	Events []LogEvent
}

// waitingEvents is how many events the waiting page shows.
const waitingEvents = 8

// Ends is about when the time is used up, as a time of day in the node's zone; to the minute,
// because the countdown beside it is exact.
func (v waitingView) Ends() string {
	if v.R.Deadline == nil {
		return ""
	}
	return v.Now.In(time.Local).Add(time.Duration(v.R.Deadline.RemainingMS) * time.Millisecond).Format("15:04 MST")
}

// Done counts the steps that are done, and all.
func (v waitingView) Done() string {
	done, all := 0, 0
	for _, m := range v.W.Members {
		for _, s := range m.Steps {
			all++
			if s.Done {
				done++
			}
		}
	}
	return fmt.Sprintf("%d of %d steps done", done, all)
}

// renderWaiting answers with the waiting page; token is one just made, or empty.
func (s *Server) renderWaiting(c echo.Context, code int, token string) error {
	return c.Render(code, "waiting.html", s.waitingView(c, token))
}

func (s *Server) waitingView(c echo.Context, token string) waitingView {
	v := waitingView{shell: s.shell(c, "Forming the pool", "/waiting"), W: s.cfg.Operations.Waiting(), Token: token, Events: s.cfg.Operations.OwnLogs(waitingEvents)}
	var err error
	if v.T, err = s.cfg.Operations.Connections(c.Request().Context()); err != nil {
		v.Problem = s.problemOf(c, err)
	}
	return v
}

// waitingPage is open while a pool is being formed; afterwards it leads to the normal pages.
func (s *Server) waitingPage(c echo.Context) error {
	if modeOf(s.cfg.Source.Redundancy()) != modeWaiting {
		return c.Redirect(http.StatusSeeOther, "/")
	}
	return s.renderWaiting(c, http.StatusOK, "")
}

// waitingFacts are those of the waiting page, for programs.
func (s *Server) waitingFacts(c echo.Context, code int) error {
	noStore(c)
	w, r := s.cfg.Operations.Waiting(), s.cfg.Source.Redundancy()
	if w.Members == nil {
		w.Members = []WaitingMember{}
	}
	if w.Differences == nil {
		w.Differences = []Difference{}
	}
	answer := map[string]any{"status": r.Status, "forming": w.Forming, "deadline": r.Deadline, "members": w.Members, "problem": w.Problem,
		"differences": w.Differences, "copy": w.Copy, "to_copy": nil}
	if w.ToCopy >= 0 {
		answer["to_copy"] = w.ToCopy
	}
	if code != http.StatusOK {
		answer["error"] = map[string]any{"code": code, "message": "a pool is being formed here: only the waiting page is open"}
	}
	return c.JSON(code, answer)
}

func (s *Server) waitingToken(c echo.Context) error {
	token, err := s.cfg.Operations.Token(c.Request().Context())
	if err != nil {
		v := s.waitingView(c, "")
		v.Problem = s.problemOf(c, err)
		return c.Render(http.StatusConflict, "waiting.html", v)
	}
	return s.renderWaiting(c, http.StatusOK, token)
}

func (s *Server) waitingCancel(c echo.Context) error {
	text, err := s.cfg.Operations.Cancel(c.Request().Context())
	if err != nil {
		text = s.problemOf(c, err).Error()
	}
	return done(c, "/waiting", text)
}

// dismiss takes the banner of a fall back away.
func (s *Server) dismiss(c echo.Context) error {
	if err := s.cfg.Operations.Dismiss(c.Request().Context()); err != nil {
		return done(c, "/", s.problemOf(c, err).Error())
	}
	return done(c, "/", "")
}
