package web

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/time/rate"
)

//go:embed static
var staticFiles embed.FS

// public are the routes that answer everybody. Everything else, unknown paths included, needs a
// login; from loopback reading needs none.
var public = map[string]bool{
	"GET /healthz":      true,
	"GET /readyz":       true,
	"GET /login":        true,
	"POST /login":       true,
	"GET /static/:file": true,
	"GET /setup":        true,
	"POST /setup":       true,
}

func (s *Server) routes() *echo.Echo {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.IPExtractor = echo.ExtractIPDirect() // the default believes X-Forwarded-For
	e.HTTPErrorHandler = s.fail
	e.Renderer = newPages(s.cfg.Version)
	e.Use(
		s.requestLog(),
		middleware.RecoverWithConfig(middleware.RecoverConfig{DisableStackAll: true, LogErrorFunc: s.panicked}),
		middleware.SecureWithConfig(middleware.SecureConfig{
			ContentTypeNosniff: "nosniff",
			XFrameOptions:      "DENY",
			// No HSTS: it would lock people out of a node whose certificate their browser does not know.
			ContentSecurityPolicy: "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
			ReferrerPolicy:        "same-origin",
		}),
		echo.WrapMiddleware(http.NewCrossOriginProtection().Handler),
		middleware.BodyLimitWithConfig(middleware.BodyLimitConfig{Limit: maxBody, Skipper: func(c echo.Context) bool { return c.Path() == uploadPath }}),
		s.limit(50, 300, telemetryPath),
		s.held,
		s.audit,
		s.guard,
		s.closed,
		s.keyed,
	)
	e.GET("/healthz", func(c echo.Context) error { return c.String(http.StatusOK, "ok\n") })
	e.GET("/readyz", s.ready)
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{ErrorLog: slogPrinter{s.cfg.Log}, MaxRequestsInFlight: 4})))
	e.GET("/", s.statusPage)
	e.GET("/shell", s.shellPage)
	e.GET("/redundancy", func(c echo.Context) error { return c.Redirect(http.StatusSeeOther, "/") })
	e.GET("/handover", s.handOverPage)
	e.GET("/api/v1/redundancy/handover", s.handOverFacts)
	e.GET("/login", s.loginPage)
	e.GET("/setup", s.setupPage)
	e.POST("/setup", s.setup, s.limit(0.5, 5))
	e.GET("/account", s.accountPage)
	e.POST("/account/password", s.changePassword, s.limit(0.5, 5))
	s.tokenRoutes(e)
	s.unitCalls(e)
	e.POST("/account/sessions", s.endSessions)
	e.GET("/about", s.aboutPage)
	e.GET("/waiting", s.waitingPage)
	e.POST("/waiting/token", s.waitingToken)
	e.POST("/waiting/cancel", s.waitingCancel)
	e.GET("/settings", s.settingsPage)
	e.POST("/settings", s.settingsForm)
	e.POST("/fallback", s.dismiss)
	e.POST("/actions/:what", s.action)
	s.trustRoutes(e)
	s.certificateRoutes(e)
	s.databaseRoutes(e)
	s.memberRoutes(e)
	e.GET("/units", s.unitsPage)
	e.POST("/units/add", s.addUnit)
	e.POST("/units/remove", s.removeUnit)
	e.GET("/api/v1/redundancy/waiting", func(c echo.Context) error { return s.waitingFacts(c, http.StatusOK) })
	e.GET("/api/v1/redundancy/worst", s.worst)
	e.GET("/api/v1/redundancy/checks", s.checks)
	for name, do := range s.orders() {
		e.POST("/api/v1/redundancy/"+name, s.command(do))
	}
	s.logRoutes(e)
	s.noticeRoutes(e)
	s.historyRoutes(e)
	s.drillRoutes(e)
	s.telemetryRoutes(e)
	e.POST("/login", s.login, s.limit(0.5, 5))
	e.POST("/logout", s.logout)
	e.GET("/api/v1/redundancy", s.redundancy)
	e.GET("/api/v1/events", s.events)
	e.GET("/api/v1/openapi.json", s.openapi)
	e.GET("/static/:file", s.static)
	return e
}

// ready answers load balancers: 200 on the Primary alone.
func (s *Server) ready(c echo.Context) error {
	r := s.cfg.Source.Redundancy()
	code := http.StatusServiceUnavailable
	if r.Status == statusPrimary {
		code = http.StatusOK
	}
	noStore(c)
	return c.JSON(code, map[string]string{"status": r.Status})
}

func (s *Server) redundancy(c echo.Context) error {
	noStore(c)
	return c.JSON(http.StatusOK, s.cfg.Source.Redundancy())
}

func (s *Server) static(c echo.Context) error {
	name := c.Param("file")
	text, err := fs.ReadFile(staticFiles, "static/"+name)
	if err != nil {
		return echo.ErrNotFound
	}
	kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
	c.Response().Header().Set("Cache-Control", "no-cache")
	return c.Blob(http.StatusOK, kind, text)
}

// limit admits each client so many requests a second, after a burst; loopback is not limited, nor
// are the routes in but, which have limits of their own.
func (s *Server) limit(perSecond rate.Limit, burst int, but ...string) echo.MiddlewareFunc {
	return middleware.RateLimiterWithConfig(middleware.RateLimiterConfig{
		Skipper: func(c echo.Context) bool { return local(c) || slices.Contains(but, c.Path()) },
		Store: middleware.NewRateLimiterMemoryStoreWithConfig(middleware.RateLimiterMemoryStoreConfig{
			Rate: perSecond, Burst: burst, ExpiresIn: 10 * time.Minute,
		}),
		IdentifierExtractor: func(c echo.Context) (string, error) { return c.RealIP(), nil },
		DenyHandler: func(c echo.Context, _ string, _ error) error {
			c.Response().Header().Set("Retry-After", "2")
			return echo.NewHTTPError(http.StatusTooManyRequests, "too many requests: wait a moment")
		},
	})
}

// fail turns every error into a short answer without anything of the inside.
func (s *Server) fail(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	code, text := http.StatusInternalServerError, "internal error: look into the log"
	var he *echo.HTTPError
	if errors.As(err, &he) {
		code, text = he.Code, fmt.Sprint(he.Message)
	} else {
		s.cfg.Log.Error("web request failed", "path", c.Path(), "error", err)
	}
	noStore(c)
	if c.Request().Method == http.MethodHead {
		err = c.NoContent(code)
	} else if wantsPage(c) && c.Get("user") == nil { // nothing of the pool for strangers
		err = c.Render(code, "refused.html", struct{ Title, Text string }{http.StatusText(code), text})
	} else if wantsPage(c) {
		sh := s.shell(c, http.StatusText(code), "")
		sh.Problem = &Problem{Message: text}
		err = c.Render(code, "error.html", sh)
	} else {
		err = c.JSON(code, map[string]any{"error": map[string]any{"code": code, "message": text}})
	}
	if err != nil {
		s.cfg.Log.Debug("web client left before the answer", "error", err)
	}
}

func (s *Server) panicked(c echo.Context, err error, stack []byte) error {
	s.cfg.Log.Error("web handler panicked", "path", c.Path(), "error", err, "stack", string(stack))
	return err
}

// requestLog notes what was asked, never a body, a query or a header.
func (s *Server) requestLog() echo.MiddlewareFunc {
	return middleware.RequestLoggerWithConfig(middleware.RequestLoggerConfig{
		LogStatus: true, LogMethod: true, LogRoutePath: true, LogLatency: true, LogRemoteIP: true, HandleError: true,
		LogValuesFunc: func(_ echo.Context, v middleware.RequestLoggerValues) error {
			s.cfg.Log.Debug("web request", "method", v.Method, "path", v.RoutePath, "status", v.Status, "from", v.RemoteIP, "after", v.Latency)
			return nil
		},
	})
}

func noStore(c echo.Context) { c.Response().Header().Set("Cache-Control", "no-store") }

// slogPrinter lets the metrics handler log through slog.
type slogPrinter struct{ log *slog.Logger }

func (p slogPrinter) Println(v ...any) { p.log.Warn("metrics", "error", fmt.Sprint(v...)) }
