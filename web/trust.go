package web

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// Trust is about whose keys this Manager believes. A string is what was done, for people.
type Trust interface {
	Connections(ctx context.Context) (Connections, error)
	// Contact calls the pool port at address and notes the key that answers as one that waits for
	// approval as role (master, backup or arbiter); the other side notes this one's.
	Contact(ctx context.Context, address, role string) (string, error)
	// Approve trusts a key; role is needed where the contact names none.
	Approve(ctx context.Context, fingerprint, role string, yes bool) (string, error)
	// Reject refuses a key for a while.
	Reject(ctx context.Context, fingerprint string) (string, error)
	// Withdraw ends the trust in the peer with this fingerprint.
	Withdraw(ctx context.Context, fingerprint string, yes bool) (string, error)
}

// Connections are this Manager's own key, the keys that it trusts, and those that wait for that.
type Connections struct {
	Fingerprint string    `json:"fingerprint"`
	Approved    []Peer    `json:"approved"`
	Contacts    []Contact `json:"contacts"`
}

// Contact is a node that came and is not trusted; role and name are its own words.
type Contact struct {
	Fingerprint string    `json:"fingerprint"`
	Role        string    `json:"role"` // empty: a Manager that is not set to anything yet
	Name        string    `json:"name"`
	Address     string    `json:"address"`
	First       time.Time `json:"first_seen"`
	Last        time.Time `json:"last_seen"`
	// RejectedUntil is when a rejected node may come again; nil: it was not rejected.
	RejectedUntil *time.Time `json:"rejected_until"`
	// Instead is the approved key that was expected from there; empty: none was.
	Instead string `json:"instead"`
	// InPool: the running pool needs Instead, so this key cannot be approved beside it.
	InPool bool `json:"in_pool"`
}

// trustRoutes are the routes of the page Redundancy connections and its calls.
func (s *Server) trustRoutes(e *echo.Echo) {
	e.GET("/trust", s.trustPage)
	e.POST("/trust/contact", s.contact)
	e.POST("/trust/approve", s.approve)
	e.POST("/trust/reject", s.reject)
	e.POST("/trust/withdraw", s.withdraw)
	e.GET("/api/v1/redundancy/connections", func(c echo.Context) error {
		t, err := s.cfg.Operations.Connections(c.Request().Context())
		return answer(c, http.StatusOK, t, err)
	})
	o := s.cfg.Operations
	for name, do := range map[string]func(context.Context, trustOrder) (string, error){
		"contact": func(ctx context.Context, q trustOrder) (string, error) { return o.Contact(ctx, q.Address, q.Role) },
		"approve": func(ctx context.Context, q trustOrder) (string, error) {
			return o.Approve(ctx, q.Fingerprint, q.Role, q.Yes)
		},
		"reject":   func(ctx context.Context, q trustOrder) (string, error) { return o.Reject(ctx, q.Fingerprint) },
		"withdraw": func(ctx context.Context, q trustOrder) (string, error) { return o.Withdraw(ctx, q.Fingerprint, q.Yes) },
	} {
		e.POST("/api/v1/redundancy/"+name, called(func(ctx context.Context, q trustOrder) (any, error) { return message(do(ctx, q)) }))
	}
}

// trustOrder is the body of the calls about trust.
type trustOrder struct {
	Address     string `json:"address"`
	Role        string `json:"role"`
	Fingerprint string `json:"fingerprint"`
	Yes         bool   `json:"yes"`
}

// trustView is the page Redundancy connections.
type trustView struct {
	shell
	T     Connections
	Typed trustOrder // into the form that makes contact
}

func (s *Server) renderTrust(c echo.Context, code int, v trustView) error {
	t, err := s.cfg.Operations.Connections(c.Request().Context())
	if err != nil && v.Problem == nil {
		v.Problem = s.problemOf(c, err)
	}
	v.T = t
	return c.Render(code, "trust.html", v)
}

func (s *Server) trustPage(c echo.Context) error {
	return s.renderTrust(c, http.StatusOK, trustView{shell: s.shell(c, "Redundancy connections", "/trust")})
}

// back is where the answer to a form about trust is shown: on the page that it was on.
func (s *Server) back(c echo.Context) string {
	if c.FormValue("from") == "/waiting" {
		return "/waiting"
	}
	return "/trust"
}

func (s *Server) contact(c echo.Context) error {
	q := trustOrder{Address: strings.TrimSpace(c.FormValue("address")), Role: c.FormValue("role")}
	text, err := s.cfg.Operations.Contact(c.Request().Context(), q.Address, q.Role)
	if err != nil {
		v := trustView{shell: s.shell(c, "Redundancy connections", "/trust"), Typed: q}
		v.Problem = s.problemOf(c, err)
		return s.renderTrust(c, http.StatusConflict, v)
	}
	return done(c, "/trust", text)
}

func (s *Server) approve(c echo.Context) error {
	fp, role, from := c.FormValue("fingerprint"), c.FormValue("role"), s.back(c)
	return s.confirmed(c, from, "Approve another certificate", "Approve the new one", map[string]string{"fingerprint": fp, "role": role, "from": from}, func(ctx context.Context, yes bool) (string, error) {
		return s.cfg.Operations.Approve(ctx, fp, role, yes)
	})
}

func (s *Server) reject(c echo.Context) error {
	text, err := s.cfg.Operations.Reject(c.Request().Context(), c.FormValue("fingerprint"))
	if err != nil {
		text = s.problemOf(c, err).Error()
	}
	return done(c, s.back(c), text)
}

func (s *Server) withdraw(c echo.Context) error {
	fp := c.FormValue("fingerprint")
	return s.confirmed(c, "/trust", "Withdraw the approval", "Withdraw", map[string]string{"fingerprint": fp}, func(ctx context.Context, yes bool) (string, error) {
		return s.cfg.Operations.Withdraw(ctx, fp, yes)
	})
}
