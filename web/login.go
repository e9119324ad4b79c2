package web

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// cookieName has the prefix that binds a cookie to HTTPS and to this host (RFC 6265bis, 4.1.3.2).
	cookieName = "__Host-session"
	// sessionLife is how long a login lasts.
	sessionLife = 12 * time.Hour
	// maxCredential bounds a name and a password before anything is computed with them.
	maxCredential = 256
	leastKey      = 32
)

// readable are the routes that answer to this very machine without a login.
var readable = map[string]bool{"/metrics": true}

// guard lets a request through when its route is public, or it only reads what this very machine
// may read, or it comes with a login. A form of a page must bring its token.
func (s *Server) guard(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if public[r.Method+" "+c.Path()] {
			return next(c)
		}
		if c.Path() == telemetryPath && r.Method == http.MethodPost { // field units have a login of their own
			unit, err := s.sender(c)
			if err != nil {
				return err
			}
			c.Set(senderKey, unit)
			return next(c)
		}
		name, err := s.who(c)
		if err == nil {
			c.Set("user", name)
		}
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case err == nil:
			if !reads {
				if err := checkForm(c); err != nil {
					return err
				}
			}
			return next(c)
		case reads && local(c) && readable[c.Path()]:
			return next(c)
		case !errors.Is(err, ErrLogin):
			return err
		}
		noStore(c)
		if r.Method == http.MethodGet && (c.Path() == "/" || wantsPage(c)) {
			return c.Redirect(http.StatusSeeOther, "/login")
		}
		c.Response().Header().Set("WWW-Authenticate", `Basic realm="manager", charset="UTF-8"`)
		return echo.NewHTTPError(http.StatusUnauthorized, "login needed: open /login in a browser, or send an API token, or name and password with HTTP Basic")
	}
}

// who returns the user of a request, by cookie, API token or HTTP Basic. Error: ErrLogin.
func (s *Server) who(c echo.Context) (string, error) {
	r := c.Request()
	if value := sessionValue(c); value != "" {
		if name, err := s.openSession(r.Context(), value); err == nil {
			return name, nil
		}
	}
	if name, there, err := s.bearer(c); there {
		return name, err
	}
	name, password, ok := r.BasicAuth()
	if !ok || r.TLS == nil && !local(c) {
		return "", ErrLogin
	}
	if s.basic.blocked(c.RealIP(), s.clock()) {
		return "", s.pauseLogin(c)
	}
	c.Set("basic", true)
	err := s.verify(r.Context(), name, password)
	if errors.Is(err, ErrLogin) {
		s.basic.failed(c.RealIP(), s.clock())
		s.cfg.Log.Warn("login refused", "from", c.RealIP())
	}
	return name, err
}

// pauseLogin answers somebody who has sent too many wrong ones.
func (s *Server) pauseLogin(c echo.Context) error {
	c.Response().Header().Set("Retry-After", "30")
	return echo.NewHTTPError(http.StatusTooManyRequests, "too many wrong passwords or tokens: wait half a minute")
}

func (s *Server) verify(ctx context.Context, name, password string) error {
	if name == "" || len(name) > maxCredential || len(password) > maxCredential {
		return ErrLogin
	}
	return s.cfg.Users.Verify(ctx, name, password)
}

// loginView is the login page: it names the node, its role and its status.
type loginView struct {
	Error string
	Name  string
	R     Redundancy
	First bool // nobody can log in yet
}

func (s *Server) loginView(c echo.Context, text string) loginView {
	founded, err := s.cfg.Operations.Founded(c.Request().Context())
	return loginView{Error: text, R: s.cfg.Source.Redundancy(), First: err == nil && !founded}
}

func (s *Server) loginPage(c echo.Context) error {
	noStore(c)
	return c.Render(http.StatusOK, "login.html", s.loginView(c, ""))
}

// login checks the form and starts a session. Without encryption that is for this very machine.
func (s *Server) login(c echo.Context) error {
	noStore(c)
	if c.Request().TLS == nil && !local(c) {
		return c.Render(http.StatusForbidden, "login.html", s.loginView(c, "log in over HTTPS: here the password would not be encrypted"))
	}
	name, password := c.FormValue("name"), c.FormValue("password")
	err := s.verify(c.Request().Context(), name, password)
	if errors.Is(err, ErrLogin) {
		s.cfg.Log.Warn("login refused", "from", c.RealIP())
		return c.Render(http.StatusUnauthorized, "login.html", s.loginView(c, "Name or password is wrong."))
	}
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	return s.begin(c, name)
}

// begin starts the session of somebody who has proved to be name.
func (s *Server) begin(c echo.Context, name string) error {
	value, err := s.newSession(c.Request().Context(), name)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	setSession(c, value, int(sessionLife/time.Second))
	return c.Redirect(http.StatusSeeOther, "/")
}

func (s *Server) logout(c echo.Context) error {
	noStore(c)
	setSession(c, "", -1)
	return c.Redirect(http.StatusSeeOther, "/login")
}

func sessionCookie(value string, age int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: age,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

// newSession returns a signed text that any Manager with the same key believes: name, the user's
// generation and the end.
func (s *Server) newSession(ctx context.Context, name string) (string, error) {
	key := s.cfg.SessionKey()
	if len(key) < leastKey {
		return "", errors.New("no session key yet: try again in a moment")
	}
	gen, err := s.cfg.Users.Generation(ctx, name)
	if err != nil {
		return "", err
	}
	body := strings.Join([]string{
		base64.RawURLEncoding.EncodeToString([]byte(name)),
		strconv.FormatUint(gen, 10),
		strconv.FormatInt(s.clock().Add(sessionLife).Unix(), 10),
	}, ".")
	return body + "." + sign(key, body), nil
}

// openSession returns the user of a session. Error: ErrLogin, or a failed read.
func (s *Server) openSession(ctx context.Context, value string) (string, error) {
	cut := strings.LastIndexByte(value, '.')
	if cut < 0 || len(value) > 4*maxCredential {
		return "", ErrLogin
	}
	body, mac := value[:cut], value[cut+1:]
	if !s.signed(body, mac) {
		return "", ErrLogin
	}
	part := strings.Split(body, ".")
	if len(part) != 3 {
		return "", ErrLogin
	}
	name, err1 := base64.RawURLEncoding.DecodeString(part[0])
	gen, err2 := strconv.ParseUint(part[1], 10, 64)
	end, err3 := strconv.ParseInt(part[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return "", ErrLogin
	}
	// An end further away than a session's life means that a clock was set back meanwhile.
	if left := time.Unix(end, 0).Sub(s.clock()); left <= 0 || left > 2*sessionLife {
		return "", ErrLogin
	}
	now, err := s.cfg.Users.Generation(ctx, string(name))
	if err != nil {
		return "", err
	}
	if now != gen {
		return "", ErrLogin
	}
	return string(name), nil
}

// signed reports whether mac is that of one of the keys that are believed.
func (s *Server) signed(body, mac string) bool {
	keys := [][]byte{s.cfg.SessionKey()}
	if s.cfg.FormerKey != nil {
		keys = append(keys, s.cfg.FormerKey())
	}
	for _, key := range keys {
		if len(key) >= leastKey && hmac.Equal([]byte(sign(key, body)), []byte(mac)) {
			return true
		}
	}
	return false
}

func sign(key []byte, body string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("session 1 "))
	m.Write([]byte(body))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// local reports whether a request comes from this machine and was meant for it: a name in Host
// that is not "localhost" can be an attacker's name that resolves to 127.0.0.1, and a forwarding
// header means that a proxy on this machine speaks for somebody else.
func local(c echo.Context) bool {
	r := c.Request()
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, h := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback()
}
