package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// Tokens are what programs log in with: "Authorization: Bearer TOKEN" (RFC 6750, 2.1), over HTTPS.
type Tokens interface {
	// CheckToken returns the token with that text, from this node's own copy. Error: ErrLogin when
	// it is wrong, removed or expired.
	CheckToken(ctx context.Context, text string) (Token, error)
	// Tokens lists them, oldest first.
	Tokens(ctx context.Context) ([]Token, error)
	// AddToken makes one and returns its text, to be shown this once; days 0: it does not expire.
	AddToken(ctx context.Context, name, scope string, days int, by string) (Token, string, error)
	RemoveToken(ctx context.Context, id string) (string, error)
}

// Token is one token, without its text. ExpiresMS 0: never.
type Token struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Scope     string `json:"scope"`
	By        string `json:"by"`
	CreatedMS int64  `json:"created_ms"`
	ExpiresMS int64  `json:"expires_ms"`
}

// Created and Expires are for the template; Expires is zero when it does not.
func (t Token) Created() time.Time { return time.UnixMilli(t.CreatedMS).UTC() }

// Expires is when the token ends; zero: never.
func (t Token) Expires() time.Time {
	if t.ExpiresMS == 0 {
		return time.Time{}
	}
	return time.UnixMilli(t.ExpiresMS).UTC()
}

// The scopes of a token.
const (
	ScopeRead    = "read"    // what reads
	ScopeOperate = "operate" // what changes something too, except who may log in
)

// peoplesOnly begin the paths that no token reaches: with them a token could make another.
var peoplesOnly = []string{"/api/v1/tokens"}

func (s *Server) tokenRoutes(e *echo.Echo) {
	e.GET("/tokens", s.tokensPage)
	e.POST("/tokens/add", s.addToken)
	e.POST("/tokens/remove", s.removeToken)
	e.GET("/api/v1/tokens", s.listTokens)
	e.POST("/api/v1/tokens", s.createToken)
	e.DELETE("/api/v1/tokens/:id", s.deleteToken)
}

// bearer returns the user that a token stands for, "token NAME". There is none without the header.
// Errors: ErrLogin; an HTTP error for a token that may not do this.
func (s *Server) bearer(c echo.Context) (name string, there bool, err error) {
	r := c.Request()
	kind, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return "", false, nil
	}
	if r.TLS == nil && !local(c) || len(text) > maxCredential {
		return "", true, ErrLogin
	}
	if s.basic.blocked(c.RealIP(), s.clock()) {
		return "", true, s.pauseLogin(c)
	}
	t, err := s.cfg.Operations.CheckToken(r.Context(), strings.TrimSpace(text))
	if err != nil {
		if errors.Is(err, ErrLogin) {
			s.basic.failed(c.RealIP(), s.clock())
			s.cfg.Log.Warn("API token refused", "from", c.RealIP())
		}
		return "", true, err
	}
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case !strings.HasPrefix(c.Path(), "/api/") && c.Path() != "/metrics":
		return "", true, echo.NewHTTPError(http.StatusForbidden, "an API token opens the API and the metrics, not the pages")
	case !reads && t.Scope != ScopeOperate:
		return "", true, echo.NewHTTPError(http.StatusForbidden, "this API token may only read: use one with the scope operate")
	}
	for _, p := range peoplesOnly {
		if strings.HasPrefix(c.Path(), p) {
			return "", true, echo.NewHTTPError(http.StatusForbidden, "API tokens are made and ended by people: log in with name and password")
		}
	}
	c.Set("basic", true) // the proof comes with the request
	return "token " + t.Name, true, nil
}

// tokensView is the page of the API tokens; Text is that of one just made.
type tokensView struct {
	shell
	Tokens      []Token
	Added, Text string
}

func (s *Server) renderTokens(c echo.Context, code int, v tokensView) error {
	var err error
	if v.Tokens, err = s.cfg.Operations.Tokens(c.Request().Context()); err != nil && v.Problem == nil {
		v.Problem = s.problemOf(c, err)
	}
	return c.Render(code, "tokens.html", v)
}

func (s *Server) tokensPage(c echo.Context) error {
	return s.renderTokens(c, http.StatusOK, tokensView{shell: s.shell(c, "API tokens", "/account")})
}

func (s *Server) addToken(c echo.Context) error {
	v := tokensView{shell: s.shell(c, "API tokens", "/account"), Added: c.FormValue("name")}
	days, err := strconv.Atoi(c.FormValue("days"))
	if err != nil {
		days = -1
	}
	if _, v.Text, err = s.cfg.Operations.AddToken(c.Request().Context(), v.Added, c.FormValue("scope"), days, v.User); err != nil {
		v.Problem = s.problemOf(c, err)
		return s.renderTokens(c, http.StatusUnprocessableEntity, v)
	}
	return s.renderTokens(c, http.StatusOK, v)
}

func (s *Server) removeToken(c echo.Context) error {
	id := c.FormValue("id")
	return s.confirmed(c, "/tokens", "Remove API token "+id, "Remove", map[string]string{"id": id}, func(ctx context.Context, yes bool) (string, error) {
		if !yes {
			return "", &Problem{Code: "confirm", Message: "removing a token ends its access", Confirm: []Consequence{{Text: "Programs that use this token are refused at once, on both Managers."}}}
		}
		return s.cfg.Operations.RemoveToken(ctx, id)
	})
}

func (s *Server) listTokens(c echo.Context) error {
	all, err := s.cfg.Operations.Tokens(c.Request().Context())
	return answer(c, http.StatusOK, map[string]any{"tokens": all}, err)
}

func (s *Server) createToken(c echo.Context) error {
	q := struct {
		Name  string `json:"name"`
		Scope string `json:"scope"`
		Days  int    `json:"days"`
	}{Days: 365}
	if err := readJSON(c, &q); err != nil {
		return err
	}
	user, _ := c.Get("user").(string)
	t, text, err := s.cfg.Operations.AddToken(c.Request().Context(), q.Name, q.Scope, q.Days, user)
	return answer(c, http.StatusCreated, struct {
		Token
		Text string `json:"token"`
	}{t, text}, err)
}

func (s *Server) deleteToken(c echo.Context) error {
	text, err := s.cfg.Operations.RemoveToken(c.Request().Context(), c.Param("id"))
	return answer(c, http.StatusOK, map[string]string{"message": text}, err)
}
