package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"
)

// order is the body of the calls that change something.
type order struct {
	Values         map[string]string `json:"values"`
	Pairing        string            `json:"pairing"`
	ArbiterPairing string            `json:"arbiter_pairing"`
	// Member makes verify try to connect to this one alone: master, backup or arbiter.
	Member string `json:"member"`
	// Yes agrees to what the call would otherwise ask for.
	Yes bool `json:"yes"`
}

// orders are the calls under /api/v1/redundancy/, for programs what the buttons are for people.
func (s *Server) orders() map[string]func(context.Context, order) (any, error) {
	o := s.cfg.Operations
	plain := func(do func(context.Context) (string, error)) func(context.Context, order) (any, error) {
		return func(ctx context.Context, _ order) (any, error) { return message(do(ctx)) }
	}
	asking := func(do func(context.Context, bool) (string, error)) func(context.Context, order) (any, error) {
		return func(ctx context.Context, q order) (any, error) { return message(do(ctx, q.Yes)) }
	}
	return map[string]func(context.Context, order) (any, error){
		"verify": func(ctx context.Context, q order) (any, error) {
			verify := o.Verify
			if q.Member != "" {
				verify = func(ctx context.Context, values map[string]string) ([]Check, error) {
					return o.Connect(ctx, values, q.Member)
				}
			}
			checks, err := verify(ctx, q.Values)
			if checks == nil {
				checks = []Check{}
			}
			ok := true
			for _, c := range checks {
				ok = ok && c.Result != "failed"
			}
			return map[string]any{"ok": ok, "checks": checks}, err
		},
		"set": func(ctx context.Context, q order) (any, error) {
			if !q.Yes {
				asked, err := o.Review(ctx, q.Values)
				if err == nil {
					err = &Problem{Code: "confirm", Message: "storing these values needs a confirmation", Fix: "send it again with yes", Confirm: asked}
				}
				return nil, err
			}
			return message(o.Set(ctx, q.Values, q.Pairing, q.ArbiterPairing))
		},
		"cancel": plain(o.Cancel), "activate": plain(o.Activate),
		"leave": asking(o.Leave), "deactivate": asking(o.Deactivate), "recover": asking(o.Recover),
		"handover": s.handOverCall,
	}
}

func message(text string, err error) (any, error) { return map[string]string{"message": text}, err }

// command answers one of orders.
func (s *Server) command(do func(context.Context, order) (any, error)) echo.HandlerFunc {
	return called(do)
}

// called answers a call that changes something.
func called[T any](do func(context.Context, T) (any, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		var q T
		if err := readJSON(c, &q); err != nil {
			return err
		}
		v, err := do(c.Request().Context(), q)
		return answer(c, http.StatusOK, v, err)
	}
}

// readJSON reads the body of a call into q. It takes JSON alone, which no form of another site can
// send, and no key that q does not have.
func readJSON(c echo.Context, q any) error {
	r := c.Request()
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(kind) != "application/json" {
		return echo.NewHTTPError(http.StatusUnsupportedMediaType, "send JSON, with the content type application/json")
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the body is no JSON object of this call: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// answer sends v with code, or the problem that kept a call from being done: 422 when fields of it
// are wrong, else 409.
func answer(c echo.Context, code int, v any, err error) error {
	noStore(c)
	if err == nil {
		return c.JSON(code, v)
	}
	var p *Problem
	if !errors.As(err, &p) {
		return err
	}
	c.Set(problemKey, p)
	code = http.StatusConflict
	if len(p.Fields) > 0 {
		code = http.StatusUnprocessableEntity
	}
	return c.JSON(code, map[string]any{"error": map[string]any{"code": code, "message": p.Message, "problem": p}})
}
