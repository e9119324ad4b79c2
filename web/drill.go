package web

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
)

// Drills are planned takeovers and back, with a report.
type Drills interface {
	// Drills returns schedule and reports, from this node's own copy.
	Drills(ctx context.Context, limit int) (DrillView, error)
	// RunDrill begins a drill on the Primary and returns the key of its report. A *Problem has the
	// reasons why it is refused.
	RunDrill(ctx context.Context, by string) (string, error)
	// SetDrill stores when drills run by themselves, and their limit.
	SetDrill(ctx context.Context, schedule string, limitMS int64) (string, error)
}

// DrillView is what the page and the API show.
type DrillView struct {
	Schedule string        `json:"schedule"` // "off", or days, time and zone: "sun 03:00 Europe/Berlin"
	LimitMS  int64         `json:"limit_ms"` // of each interruption
	Next     *time.Time    `json:"next"`     // null: none is scheduled
	Running  bool          `json:"running"`
	Drills   []DrillReport `json:"drills"` // newest first
}

// DrillReport is what a drill came to.
type DrillReport struct {
	Key     string      `json:"key"`
	By      string      `json:"by"` // user, or "schedule"
	At      time.Time   `json:"at"`
	Ended   *time.Time  `json:"ended"`
	Result  string      `json:"result"` // running, passed, failed, aborted
	LimitMS int64       `json:"limit_ms"`
	Out     *DrillLeg   `json:"out"`  // to the other Manager
	Back    *DrillLeg   `json:"back"` // and back
	Reasons []Reason    `json:"reasons"`
	Steps   []DrillStep `json:"steps"`
}

// DrillLeg is one of the two changes of Primary.
type DrillLeg struct {
	From  string           `json:"from"`
	To    string           `json:"to"`
	Term  uint64           `json:"term"`
	GapMS float64          `json:"gap_ms"` // no write was possible for so long
	Check *ContinuityCheck `json:"check"`
}

// DrillStep is one line of progress.
type DrillStep struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// drillQuery is the body of the calls.
type drillQuery struct {
	Schedule string `json:"schedule"`
	LimitMS  int64  `json:"limit_ms"`
}

func (s *Server) drillRoutes(e *echo.Echo) {
	e.GET("/drill", s.drillPage)
	e.POST("/drill/run", s.drillRun)
	e.POST("/drill/schedule", s.drillSchedule)
	e.GET("/api/v1/redundancy/drills", func(c echo.Context) error {
		v, err := s.cfg.Operations.Drills(c.Request().Context(), 100)
		return answer(c, http.StatusOK, v, err)
	})
	e.POST("/api/v1/redundancy/drills", func(c echo.Context) error {
		var q struct{}
		if err := readJSON(c, &q); err != nil {
			return err
		}
		key, err := s.cfg.Operations.RunDrill(c.Request().Context(), userOf(c))
		return answer(c, http.StatusAccepted, map[string]string{"key": key}, err)
	})
	e.PUT("/api/v1/redundancy/drills/schedule", called(func(ctx context.Context, q drillQuery) (any, error) {
		return message(s.cfg.Operations.SetDrill(ctx, q.Schedule, q.LimitMS))
	}))
}

func userOf(c echo.Context) string { name, _ := c.Get("user").(string); return name }

func init() {
	for _, path := range []string{"/drill", "/drill/run", "/drill/schedule", "/api/v1/redundancy/drills", "/api/v1/redundancy/drills/schedule"} {
		open[path] = inLight
	}
	acts["POST /drill/run"] = struct{ code, what string }{"drill", "run a failover drill"}
	acts["POST /api/v1/redundancy/drills"] = acts["POST /drill/run"]
	acts["POST /drill/schedule"] = struct{ code, what string }{"drill_schedule", "change the schedule of drills"}
	acts["PUT /api/v1/redundancy/drills/schedule"] = acts["POST /drill/schedule"]
}

// drillView is the page.
type drillView struct {
	shell
	V DrillView
}

func (s *Server) renderDrill(c echo.Context, code int, v drillView) error {
	var err error
	if v.V, err = s.cfg.Operations.Drills(c.Request().Context(), 50); err != nil && v.Problem == nil {
		v.Problem = s.problemOf(c, err)
	}
	return c.Render(code, "drill.html", v)
}

func (s *Server) drillPage(c echo.Context) error {
	return s.renderDrill(c, http.StatusOK, drillView{shell: s.shell(c, "Failover drill", "/drill")})
}

func (s *Server) drillRun(c echo.Context) error {
	return s.confirmed(c, "/drill", "Run a failover drill", "Run the drill", nil, func(ctx context.Context, yes bool) (string, error) {
		if !yes {
			return "", &Problem{Code: "confirm", Message: "a drill moves Primary twice", Confirm: []Consequence{
				{Text: "The other Manager becomes Primary, and a little later this one's place is taken back: two short interruptions, each measured."},
				{Text: "Field units and browsers reconnect by themselves. If the pool is not Protected in between, Primary stays where it is then."}}}
		}
		if _, err := s.cfg.Operations.RunDrill(ctx, userOf(c)); err != nil {
			return "", err
		}
		return "The drill has begun.", nil
	})
}

func (s *Server) drillSchedule(c echo.Context) error {
	limit, err := strconv.ParseInt(c.FormValue("limit_ms"), 10, 64)
	if err != nil {
		limit = -1
	}
	schedule := "off"
	if c.FormValue("on") != "" {
		schedule = fmt.Sprintf("%s %s %s", c.FormValue("days"), c.FormValue("time"), c.FormValue("zone"))
	}
	text, err := s.cfg.Operations.SetDrill(c.Request().Context(), schedule, limit)
	if err != nil {
		v := drillView{shell: s.shell(c, "Failover drill", "/drill")}
		v.Problem = s.problemOf(c, err)
		return s.renderDrill(c, http.StatusUnprocessableEntity, v)
	}
	return done(c, "/drill", text)
}

// On, Days, Clock and Zone take the schedule apart for the form.
func (v DrillView) On() bool { return v.Schedule != "off" && v.Schedule != "" }
func (v DrillView) part(i int, none string) string {
	var p [3]string
	if n, _ := fmt.Sscan(v.Schedule, &p[0], &p[1], &p[2]); n == 3 {
		return p[i]
	}
	return none
}

// Days are the days of the schedule.
func (v DrillView) Days() string { return v.part(0, "sun") }

// Clock is its time.
func (v DrillView) Clock() string { return v.part(1, "03:00") }

// Zone is its time zone.
func (v DrillView) Zone() string { return v.part(2, "UTC") }

// Took is how long a drill took.
func (r DrillReport) Took() string {
	if r.Ended == nil {
		return ""
	}
	return r.Ended.Sub(r.At).Round(time.Second).String()
}

// Legs are the changes of Primary that took place.
func (r DrillReport) Legs() (out []*DrillLeg) {
	for _, l := range []*DrillLeg{r.Out, r.Back} {
		if l != nil {
			out = append(out, l)
		}
	}
	return out
}
