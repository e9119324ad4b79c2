package web

import (
	"context"
	"errors"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"
)

const (
	telemetryPath = "/api/v1/telemetry"
	senderKey     = "sender"
)

// Telemetry takes what field units send over HTTP.
type Telemetry interface {
	// AdmitUnit returns nil when secret is the unit's, ErrLogin when not.
	AdmitUnit(ctx context.Context, unit, secret string) error
	// Record stores one native payload of a unit; nil means committed by the pool. With a key it is
	// done once, however often it comes: repeat then tells that it was there already. ErrKeyReused;
	// *Problem when it will never be accepted or this node is not Primary; ErrNotKnown.
	Record(ctx context.Context, unit string, payload []byte, key string, sum [32]byte) (n int, repeat bool, err error)
}

var (
	// ErrKeyReused is returned for a key that was used for another request.
	ErrKeyReused = errors.New("the key was used for another request")
	// ErrNotKnown is returned when a write may or may not have been stored: it may be sent again
	// with the same key or number.
	ErrNotKnown = errors.New("not known to be stored")
)

func (s *Server) telemetryRoutes(e *echo.Echo) {
	e.POST(telemetryPath, s.telemetry, s.limit(500, 1000)) // one address may be a gateway of many units
}

// telemetry stores what a field unit sent. The unit logs in with its name and secret; people and
// programs name the unit.
func (s *Server) telemetry(c echo.Context) error {
	noStore(c)
	r := c.Request()
	unit, _ := c.Get(senderKey).(string) // by guard
	key, err := requestKey(r)
	if err != nil {
		return err
	}
	sum, err := fingerprint(r)
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the body cannot be read")
	}
	payload, err := io.ReadAll(r.Body)
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the body cannot be read")
	}
	n, repeat, err := s.cfg.Operations.Record(r.Context(), unit, payload, key, sum)
	if (errors.Is(err, ErrNotKnown) || notPrimary(err)) && s.atVIP(c) && s.outlive(c) {
		n, repeat, err = s.cfg.Operations.Record(r.Context(), unit, payload, key, sum) // known by key, number or time
	}
	switch {
	case c.Response().Committed || r.Context().Err() != nil:
		return nil // answered, or cut
	case errors.Is(err, ErrKeyReused):
		return s.keyReused(c)
	case errors.Is(err, ErrNotKnown):
		c.Response().Header().Set("Retry-After", "1")
		return echo.NewHTTPError(http.StatusServiceUnavailable, "not known to be stored: send it again, with the same key or number")
	case err != nil:
		return answer(c, 0, nil, err)
	}
	if repeat {
		c.Response().Header().Set("Idempotency-Replayed", "true")
	}
	return c.JSON(http.StatusOK, map[string]int{"stored": n})
}

// notPrimary reports whether something was not done because this Manager is not Primary.
func notPrimary(err error) bool {
	var p *Problem
	return errors.As(err, &p) && (p.Code == "not_primary" || p.Code == "no_primary")
}

// sender returns the unit that a request is from.
func (s *Server) sender(c echo.Context) (string, error) {
	r := c.Request()
	name, secret, basic := r.BasicAuth()
	if basic && (r.TLS != nil || local(c)) && len(name) <= maxCredential && len(secret) <= maxCredential {
		if s.basic.blocked(c.RealIP(), s.clock()) {
			return "", s.pauseLogin(c)
		}
		err := s.cfg.Operations.AdmitUnit(r.Context(), name, secret)
		if err == nil {
			return name, nil
		}
		if !errors.Is(err, ErrLogin) {
			return "", err
		}
	}
	_, err := s.who(c)
	if err == nil {
		err = checkForm(c)
	} else if errors.Is(err, ErrLogin) {
		c.Response().Header().Set("WWW-Authenticate", `Basic realm="field unit", charset="UTF-8"`)
		err = echo.NewHTTPError(http.StatusUnauthorized, "send the field unit's name and secret with HTTP Basic over HTTPS, or log in and name the unit with ?unit=NAME")
	}
	if err != nil {
		return "", err
	}
	unit := c.QueryParam("unit")
	if unit == "" {
		return "", echo.NewHTTPError(http.StatusBadRequest, "name the field unit with ?unit=NAME")
	}
	return unit, nil
}
