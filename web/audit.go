package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// Auditor keeps what people and programs did.
type Auditor interface {
	// Audit keeps a at once; it waits for no disk and no network.
	Audit(a Act)
}

// Act is one thing that somebody did, or tried to do, through the pages or the API.
type Act struct {
	Who    string // user, "token NAME", or what is known of somebody who did not get in
	From   string // address; "this machine" for loopback
	Via    string // page or api
	Code   string // stable: login, login_failed, handover, settings ...
	What   string // for people: what was done, with its object
	Result string // done, refused, failed
	Why    string // why not; empty when done
	// Target has the names that the request gave, such as name or to; Changed the keys of settings
	// that are other than before. Never a value that could be a secret.
	Target  map[string]string
	Changed []string
}

// The keys of a request that may be told in an event. Everything else in it may be a secret.
var tellable = []string{"name", "id", "to", "fingerprint", "scope", "days", "what", "role", "kind", "channel", "code"}

// acts are the words for the routes; others are named by their path.
var acts = map[string]struct{ code, what string }{
	"POST /login": {"login", "log in"}, "POST /logout": {"logout", "log out"}, "POST /setup": {"setup", "create the administrator"},
	"POST /account/password": {"password", "change the own password"}, "POST /fallback": {"dismiss", "dismiss the reason of the fall back"},
	"POST /settings": {"settings", "change settings"}, "POST /api/v1/redundancy/set": {"settings", "change settings"},
	"POST /waiting/token": {"pairing_token", "show a pairing token"}, "POST /waiting/cancel": {"cancel", "cancel the forming"},
	"POST /account/sessions": {"sessions", "log out everywhere"},
	"POST /trust/withdraw":   {"trust_withdraw", "withdraw an approval"}, "POST /api/v1/redundancy/withdraw": {"trust_withdraw", "withdraw an approval"},
	"POST /trust/approve": {"trust_approve", "approve a certificate"}, "POST /api/v1/redundancy/approve": {"trust_approve", "approve a certificate"},
	"POST /trust/reject": {"trust_reject", "reject a certificate"}, "POST /api/v1/redundancy/reject": {"trust_reject", "reject a certificate"},
	"POST /trust/contact": {"trust_contact", "make contact"}, "POST /api/v1/redundancy/contact": {"trust_contact", "make contact"},
	"POST /settings/certificate": {"certificate_install", "install a certificate"}, "POST /api/v1/certificate": {"certificate_install", "install a certificate"},
	"POST /settings/certificate/renew": {"certificate_renew", "make the certificate anew"}, "POST /api/v1/certificate/renew": {"certificate_renew", "make the certificate anew"},
	"POST /settings/certificate/reset": {"certificate_reset", "return to the own certificate"}, "POST /api/v1/certificate/reset": {"certificate_reset", "return to the own certificate"},
	"POST /database/save":    {"database_save", "save the database"},
	"POST /database/restore": {"database_restore", "restore the database"}, "GET /database/file/:name": {"database_download", "download the database"},
	"POST /units/add": {"unit_add", "add a field unit"}, "POST /units/remove": {"unit_remove", "remove a field unit"},
	"POST /api/v1/units": {"unit_add", "add a field unit"}, "DELETE /api/v1/units/:name": {"unit_remove", "remove a field unit"},
	"POST /notifications": {"notify_set", "change notifications"}, "PUT /api/v1/notifications": {"notify_set", "change notifications"},
	"POST /notifications/test": {"notify_test", "send a test message"}, "POST /api/v1/notifications/test": {"notify_test", "send a test message"},
	"POST /tokens/add": {"token_add", "make an API token"}, "POST /tokens/remove": {"token_remove", "remove an API token"},
	"POST /api/v1/tokens": {"token_add", "make an API token"}, "DELETE /api/v1/tokens/:id": {"token_remove", "remove an API token"},
}

// actionWords are those of the buttons and calls of redundancy, by the end of their path.
var actionWords = map[string]string{
	"handover": "hand over", "activate": "activate redundancy here", "deactivate": "deactivate redundancy here",
	"leave": "leave the pool", "recover": "go on alone", "cancel": "cancel the forming",
}

// What handlers leave for the audit: the problem that the answer tells, and the keys that were changed.
const (
	problemKey = "problem"
	changedKey = "changed"
)

// audit is the one place where what somebody does through pages and API is noted: every route that
// changes something, downloads of the database, and every login that failed.
func (s *Server) audit(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		route := r.Method + " " + c.Path()
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		if c.Path() == telemetryPath { // data, not an act
			return next(c)
		}
		if reads && acts[route].code == "" && r.Header.Get("Authorization") == "" {
			return next(c)
		}
		body := keepBody(r)
		code, what := actOf(c)
		var before map[string]string
		if code == "settings" {
			before = s.cfg.Operations.Settings().Values
		}
		err := next(c)
		status := c.Response().Status
		var he *echo.HTTPError
		switch {
		case errors.As(err, &he):
			status = he.Code
		case err != nil:
			status = http.StatusInternalServerError
		}
		a := Act{Who: s.actor(c), From: origin(c), Via: via(c), Code: code, What: what, Target: targets(c, body)}
		p, _ := c.Get(problemKey).(*Problem)
		a.Result, a.Why = outcome(status, p, err)
		switch {
		case code == "login" && a.Result != "done", status == http.StatusUnauthorized && r.Header.Get("Authorization") != "":
			a.Code, a.What, a.Result, a.Target = "login_failed", "log in", "refused", nil
		case reads && acts[route].code == "", asks(p), c.Path() == "", status == http.StatusUnauthorized,
			strings.HasSuffix(c.Path(), "/verify"), code == "settings" && c.FormValue("do") != "" && c.FormValue("do") != "store":
			return err
		}
		if a.Changed, _ = c.Get(changedKey).([]string); before != nil && a.Result == "done" {
			a.Changed = changed(before, s.cfg.Operations.Settings().Values)
		}
		s.cfg.Operations.Audit(a)
		return err
	}
}

// actOf returns the code and the words of what a request asks for.
func actOf(c echo.Context) (code, what string) {
	if a, ok := acts[c.Request().Method+" "+c.Path()]; ok {
		return a.code, a.what
	}
	path := strings.TrimPrefix(c.Path(), "/api/v1")
	if path == "/actions/:what" {
		path = "/redundancy/" + c.Param("what")
	}
	if name, ok := strings.CutPrefix(path, "/redundancy/"); ok {
		if words, known := actionWords[name]; known {
			return name, words
		}
		path = name
	}
	var parts []string
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part[0] != ':' {
			parts = append(parts, strings.ReplaceAll(part, "-", "_"))
		}
	}
	if c.Request().Method == http.MethodDelete {
		parts = append(parts, "remove")
	}
	return strings.Join(parts, "_"), strings.ReplaceAll(strings.Join(parts, " "), "_", " ")
}

// outcome says what became of a request; p is the problem that the answer tells, if any.
func outcome(status int, p *Problem, err error) (result, why string) {
	var he *echo.HTTPError
	switch {
	case p != nil && p.Code == "internal":
		return "failed", p.Message
	case p != nil:
		return "refused", p.Error()
	case status < http.StatusBadRequest:
		return "done", ""
	case status >= http.StatusInternalServerError && status != http.StatusServiceUnavailable:
		return "failed", "an internal error, which the log tells"
	case errors.As(err, &he):
		why, _ = he.Message.(string)
	}
	return "refused", why
}

// asks reports whether the answer only asks for a confirmation.
func asks(p *Problem) bool { return p != nil && len(p.Confirm) > 0 }

// settle forgets the question that came before what was agreed to and done.
func settle(c echo.Context) { c.Set(problemKey, (*Problem)(nil)) }

// actor returns who sent a request. Of somebody who did not get in, the name counts only if there is
// such a user: people type passwords into the field for the name.
func (s *Server) actor(c echo.Context) string {
	if name, _ := c.Get("user").(string); name != "" {
		return name
	}
	name, _, basic := c.Request().BasicAuth()
	switch {
	case c.Path() == "/login", c.Path() == "/setup":
		name = c.FormValue("name")
	case !basic && c.Request().Header.Get("Authorization") != "":
		return "an unknown token"
	}
	if name != "" && len(name) <= maxCredential {
		if _, err := s.cfg.Users.Generation(c.Request().Context(), name); err == nil {
			return name
		}
	}
	return "an unknown user"
}

func origin(c echo.Context) string {
	if local(c) {
		return "this machine"
	}
	return c.RealIP()
}

func via(c echo.Context) string {
	if strings.HasPrefix(c.Path(), "/api/") {
		return "api"
	}
	return "page"
}

// keepBody returns the JSON that comes with a request, and leaves it to be read again. A form is
// not JSON: its values are asked for afterwards.
func keepBody(r *http.Request) (body map[string]any) {
	if r.Body == nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		return nil
	}
	text, err := io.ReadAll(r.Body) // its length is limited already
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text), failing{err}))
	if json.Unmarshal(text, &body) != nil {
		return nil
	}
	return body
}

// failing gives what was wrong with a body to whoever reads it again.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if f.err == nil {
		return 0, io.EOF
	}
	return 0, f.err
}

// targets returns what of a request may be told.
func targets(c echo.Context, body map[string]any) map[string]string {
	out := map[string]string{}
	for _, key := range tellable {
		text := c.Param(key)
		switch v := body[key].(type) {
		case string:
			text = v
		case float64, bool:
			if b, err := json.Marshal(v); err == nil {
				text = string(b)
			}
		}
		if text == "" && c.Request().Form != nil { // the handler has read the form
			text = c.Request().Form.Get(key)
		}
		if c.Path() == "/login" || c.Path() == "/setup" {
			text = "" // who it is, is told as such
		}
		if text != "" && len(text) <= 200 {
			out[key] = text
		}
	}
	return out
}

// changed returns the keys of settings that have another value now.
func changed(before, after map[string]string) []string {
	keys := map[string]bool{}
	for k, v := range after {
		if before[k] != v {
			keys[k] = true
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			keys[k] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
