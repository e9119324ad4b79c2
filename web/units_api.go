package web

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/labstack/echo/v4"
)

func (s *Server) unitCalls(e *echo.Echo) {
	e.GET("/api/v1/units", s.listUnits)
	e.POST("/api/v1/units", s.createUnit)
	e.DELETE("/api/v1/units/:name", s.deleteUnit)
}

// unitRow is one field unit in an answer.
type unitRow struct {
	Name       string `json:"name"`
	Connected  bool   `json:"connected"`
	LastSeenMS *int64 `json:"last_seen_ms"` // Unix ms; null: not since this Manager is Primary
}

func (s *Server) listUnits(c echo.Context) error {
	all, err := s.cfg.Operations.Units(c.Request().Context())
	rows := make([]unitRow, 0, len(all))
	for _, u := range all {
		r := unitRow{Name: u.Name, Connected: u.Connected}
		if !u.LastSeen.IsZero() {
			ms := u.LastSeen.UnixMilli()
			r.LastSeenMS = &ms
		}
		rows = append(rows, r)
	}
	return answer(c, http.StatusOK, map[string]any{"units": rows}, err)
}

// createUnit answers with the unit's destination profile, with its secret, this once.
func (s *Server) createUnit(c echo.Context) error {
	var q struct {
		Name string `json:"name"`
	}
	if err := readJSON(c, &q); err != nil {
		return err
	}
	profile, err := s.cfg.Operations.AddUnit(c.Request().Context(), q.Name)
	return answer(c, http.StatusCreated, json.RawMessage(profile), err)
}

func (s *Server) deleteUnit(c echo.Context) error {
	return s.commanded(c, func(ctx context.Context) (string, error) {
		return s.cfg.Operations.RemoveUnit(ctx, c.Param("name"), true)
	})
}

// commanded answers with what was done.
func (s *Server) commanded(c echo.Context, do func(context.Context) (string, error)) error {
	text, err := do(c.Request().Context())
	return answer(c, http.StatusOK, map[string]string{"message": text}, err)
}
