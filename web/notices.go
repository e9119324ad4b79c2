package web

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// Notices are the notifications by webhook and e-mail.
type Notices interface {
	Notices(ctx context.Context) (NoticeView, error)
	// SetNotices puts values over the present ones, and secrets by channel: an empty one removes it.
	SetNotices(ctx context.Context, values, secrets map[string]string) (string, error)
	// TestNotice sends a test message at once, with what is stored.
	TestNotice(ctx context.Context, channel string) (string, error)
	// NoticeKinds are what can be told of.
	NoticeKinds() []NoticeKind
}

// NoticeView is the object of GET /api/v1/notifications. It has no secret.
type NoticeView struct {
	Values  map[string]string `json:"values"`
	Secrets map[string]bool   `json:"secrets"` // by channel: one is stored
	History []Notice          `json:"history"` // newest first
}

// NoticeKind is one thing that can be told of.
type NoticeKind struct{ Code, Name, Help string }

// Notice is one message and what became of it.
type Notice struct {
	ID         string           `json:"id"`
	Kind       string           `json:"kind"`
	TimeMS     int64            `json:"time_ms"`
	Time       string           `json:"time"`
	Severity   string           `json:"severity"`
	Node       string           `json:"node"`
	Title      string           `json:"title"`
	Text       string           `json:"text"`
	Held       bool             `json:"held"`     // within the quiet time: told with others
	Gathered   string           `json:"gathered"` // id of the message that told of it; empty: not yet
	Deliveries []NoticeDelivery `json:"deliveries"`
}

// NoticeDelivery is how far a message has come on one channel.
type NoticeDelivery struct {
	Channel  string `json:"channel"`
	State    string `json:"state"` // waiting, sent, failed
	Attempts int    `json:"attempts"`
	Last     string `json:"last"` // attempt; empty: none
	Next     string `json:"next"` // attempt not before
	Error    string `json:"error"`
	By       string `json:"by"`
}

// noticeRoutes are the page and the calls of notifications.
func (s *Server) noticeRoutes(e *echo.Echo) {
	e.GET("/notifications", func(c echo.Context) error { return s.renderNotices(c, http.StatusOK, nil, nil) })
	e.POST("/notifications", s.noticesForm)
	e.POST("/notifications/test", s.noticeTest)
	e.GET("/api/v1/notifications", func(c echo.Context) error {
		v, err := s.cfg.Operations.Notices(c.Request().Context())
		return answer(c, http.StatusOK, v, err)
	})
	e.PUT("/api/v1/notifications", s.putNotices)
	e.POST("/api/v1/notifications/test", s.testCall)
}

// noticesView is the page. Errors are those of single fields, by their key.
type noticesView struct {
	shell
	V      NoticeView
	Kinds  []chosenKind
	Errors map[string][]FieldProblem
}

type chosenKind struct {
	NoticeKind
	Chosen bool
}

// Value, On and Is read the form's values.
func (v noticesView) Value(key string) string { return v.V.Values[key] }

// On reports whether a box is ticked.
func (v noticesView) On(key string) bool { return v.V.Values[key] == "true" }

// Wrong returns what is wrong with a field.
func (v noticesView) Wrong(key string) []FieldProblem { return v.Errors[key] }

// renderNotices shows the page; typed are values that were not stored, with the problem.
func (s *Server) renderNotices(c echo.Context, code int, typed map[string]string, p *Problem) error {
	v := noticesView{shell: s.shell(c, "Notifications", "/notifications"), Errors: map[string][]FieldProblem{}}
	var err error
	if v.V, err = s.cfg.Operations.Notices(c.Request().Context()); err != nil {
		p = s.problemOf(c, err)
	}
	for key, text := range typed {
		v.V.Values[key] = text
	}
	if v.Problem = p; p != nil {
		for _, f := range p.Fields {
			v.Errors[f.Field] = append(v.Errors[f.Field], f)
		}
	}
	chosen := strings.Split(v.V.Values["kinds"], ",")
	for _, k := range s.cfg.Operations.NoticeKinds() {
		v.Kinds = append(v.Kinds, chosenKind{k, slices.Contains(chosen, k.Code)})
	}
	return c.Render(code, "notifications.html", v)
}

// noticeKeys are the values of the form; those in noticeBoxes are ticked or not.
var (
	noticeKeys  = []string{"quiet_minutes", "webhook.url", "webhook.ca", "email.server", "email.security", "email.username", "email.from", "email.to", "email.ca"}
	noticeBoxes = []string{"webhook.enabled", "webhook.allow_http", "email.enabled"}
)

func (s *Server) noticesForm(c echo.Context) error {
	form, err := c.FormParams()
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the form cannot be read")
	}
	values := map[string]string{"kinds": strings.Join(form["kind"], ",")}
	for _, key := range noticeKeys {
		values[key] = strings.TrimSpace(form.Get(key))
	}
	for _, key := range noticeBoxes {
		values[key] = "false"
		if form.Get(key) != "" {
			values[key] = "true"
		}
	}
	secrets := map[string]string{}
	for _, channel := range []string{"webhook", "email"} {
		switch {
		case form.Get("remove."+channel) != "":
			secrets[channel] = ""
		case form.Get("secret."+channel) != "":
			secrets[channel] = form.Get("secret." + channel)
		}
	}
	text, err := s.setNotices(c, values, secrets)
	if err != nil {
		return s.renderNotices(c, http.StatusUnprocessableEntity, values, s.problemOf(c, err))
	}
	return done(c, "/notifications", text)
}

// setNotices stores, and tells the audit what is other than before.
func (s *Server) setNotices(c echo.Context, values, secrets map[string]string) (string, error) {
	ctx := c.Request().Context()
	before, berr := s.cfg.Operations.Notices(ctx)
	text, err := s.cfg.Operations.SetNotices(ctx, values, secrets)
	if err != nil {
		return "", err
	}
	if after, aerr := s.cfg.Operations.Notices(ctx); berr == nil && aerr == nil {
		keys := changed(before.Values, after.Values)
		for _, channel := range []string{"webhook", "email"} {
			if _, ok := secrets[channel]; ok {
				keys = append(keys, "secret."+channel)
			}
		}
		c.Set(changedKey, keys)
	}
	return text, nil
}

func (s *Server) noticeTest(c echo.Context) error {
	text, err := s.cfg.Operations.TestNotice(c.Request().Context(), c.FormValue("channel"))
	if err != nil {
		return s.renderNotices(c, http.StatusConflict, nil, s.problemOf(c, err))
	}
	return done(c, "/notifications", text)
}

func (s *Server) putNotices(c echo.Context) error {
	var q struct {
		Values  map[string]string `json:"values"`
		Secrets map[string]string `json:"secrets"`
	}
	if err := readJSON(c, &q); err != nil {
		return err
	}
	text, err := s.setNotices(c, q.Values, q.Secrets)
	return answer(c, http.StatusOK, map[string]string{"message": text}, err)
}

func (s *Server) testCall(c echo.Context) error {
	var q struct {
		Channel string `json:"channel"`
	}
	if err := readJSON(c, &q); err != nil {
		return err
	}
	text, err := s.cfg.Operations.TestNotice(c.Request().Context(), q.Channel)
	return answer(c, http.StatusOK, map[string]string{"message": text}, err)
}
