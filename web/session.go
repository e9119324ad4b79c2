package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// plainCookie carries a session where the page came without TLS: only to this very machine.
const plainCookie = "session-local"

// noteCookie carries what was done from a form to the page after it.
const noteCookie = "note"

// sessionValue returns the session that came with a request; empty: none.
func sessionValue(c echo.Context) string {
	name := cookieName
	if c.Request().TLS == nil {
		if !local(c) {
			return ""
		}
		name = plainCookie
	}
	cookie, err := c.Request().Cookie(name)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// setSession gives the browser a session; an age below zero takes it away.
func setSession(c echo.Context, value string, age int) {
	cookie := sessionCookie(value, age)
	if c.Request().TLS == nil {
		cookie.Name, cookie.Secure = plainCookie, false
	}
	c.SetCookie(cookie)
}

// formToken is what a form must bring along besides the cookie. Another site can neither read the
// cookie nor compute this from anything else.
func formToken(session string) string {
	if session == "" {
		return ""
	}
	sum := sha256.Sum256([]byte("form token 1 " + session))
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// checkForm refuses a form without its token. Requests with HTTP Basic carry their proof with them.
func checkForm(c echo.Context) error {
	want := formToken(sessionValue(c))
	if c.Get("basic") != nil {
		return nil
	}
	got := c.Request().Header.Get("X-Form-Token")
	if got == "" {
		got = c.FormValue("_token")
	}
	if want == "" || subtle.ConstantTimeCompare([]byte(want), []byte(got)) != 1 {
		return echo.NewHTTPError(http.StatusForbidden, "this form is out of date: open the page again and repeat")
	}
	return nil
}

// leaveNote lets the next page say what was done.
func leaveNote(c echo.Context, text string) {
	if len(text) > 1000 {
		text = text[:1000]
	}
	c.SetCookie(&http.Cookie{Name: noteCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(text)), Path: "/",
		MaxAge: int(time.Minute / time.Second), HttpOnly: true, Secure: c.Request().TLS != nil, SameSite: http.SameSiteStrictMode})
}

// takeNote returns what leaveNote left, once.
func takeNote(c echo.Context) string {
	cookie, err := c.Request().Cookie(noteCookie)
	if err != nil {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return ""
	}
	c.SetCookie(&http.Cookie{Name: noteCookie, Path: "/", MaxAge: -1, HttpOnly: true, Secure: c.Request().TLS != nil, SameSite: http.SameSiteStrictMode})
	return string(text)
}

// wantsPage tells a browser's request for a page from a program's.
func wantsPage(c echo.Context) bool {
	r := c.Request()
	return strings.Contains(r.Header.Get("Accept"), "text/html") && !strings.HasPrefix(r.URL.Path, "/api/")
}
