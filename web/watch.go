package web

import (
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
)

// Watched is the latest of the checks that a running pool makes by itself.
type Watched struct {
	At     time.Time // zero: none yet
	Checks []Check
}

// Watch are its checks, what is wrong first; empty: none were made.
func (v settingsView) Watch() []Check { return sortedChecks(v.S.Watched.Checks) }

// WatchWrong reports whether one of them failed.
func (v settingsView) WatchWrong() bool {
	w := v.Watch()
	return len(w) > 0 && w[0].Result == "failed"
}

// WatchSummary says how they came out, and when.
func (v settingsView) WatchSummary() string {
	n := map[string]int{}
	for _, c := range v.S.Watched.Checks {
		n[c.Result]++
	}
	text := fmt.Sprintf("%d pass", n["ok"])
	for _, r := range []struct{ result, word string }{{"failed", "fail"}, {"warning", "with a warning"}, {"unknown", "not tested"}} {
		if n[r.result] > 0 {
			text += fmt.Sprintf(", %d %s", n[r.result], r.word)
		}
	}
	return text + ", last at " + v.S.Watched.At.Format("15:04:05 MST")
}

// checks answers with the latest round, for programs.
func (s *Server) checks(c echo.Context) error {
	noStore(c)
	w := s.cfg.Operations.Settings().Watched
	answer := map[string]any{"at": nil, "checks": []Check{}}
	if !w.At.IsZero() {
		answer["at"], answer["checks"] = w.At.UTC(), w.Checks
	}
	return c.JSON(http.StatusOK, answer)
}
