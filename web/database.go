package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// Data is this node's database and its saved copies. A string is what was done, for people.
type Data interface {
	// Saves lists the saved copies, newest first.
	Saves(ctx context.Context) ([]Save, error)
	// Save saves the database now; who asked for it is noted.
	Save(ctx context.Context, who string) (string, error)
	// SavePath returns the file of a save in the list; a *Problem for any other name.
	SavePath(name string) (string, error)
	// Restore puts a save in the place of the data; in a running pool for all members.
	Restore(ctx context.Context, name string, yes bool) (string, error)
	DeleteSave(ctx context.Context, name string, yes bool) (string, error)
	// Upload takes in a saved file from elsewhere, checks it, and adds it to the list.
	Upload(ctx context.Context, who, name string, body io.Reader) (string, error)
	// SavesKept says how many saves are kept and how long; KeepSaves sets it and removes what is beyond.
	SavesKept() Retention
	KeepSaves(ctx context.Context, r Retention) (string, error)
	// Exports lists what this Manager had beyond a pool that went on without it, newest first.
	Exports() ([]Export, error)
	// ExportPath returns the file of an export in the list; a *Problem for any other name.
	ExportPath(name string) (string, error)
}

// Save is one saved copy of the database. Figures below 0 are not known.
type Save struct {
	Name    string    `json:"name"`
	Bytes   int64     `json:"bytes"`
	At      time.Time `json:"at"`
	Why     string    `json:"why"`
	Who     string    `json:"who"`
	Schema  int       `json:"schema"`
	Units   int64     `json:"units"`
	Events  int64     `json:"events"`
	Samples int64     `json:"samples"`
}

// Retention says how many saves are kept and for how many days; 0 days: for ever.
type Retention struct {
	Count int `json:"count"`
	Days  int `json:"days"`
}

// Export is a file with records that this Manager had beyond its pool.
type Export struct {
	Name  string    `json:"name"`
	Bytes int64     `json:"bytes"`
	At    time.Time `json:"at"`
}

// uploadPath takes a saved file as it is, not a form: it may be long.
const uploadPath = "/api/v1/database/upload"

const (
	maxUpload  = 64 << 30
	uploadTime = time.Hour
)

// databaseRoutes are the routes of the page Database and its calls.
func (s *Server) databaseRoutes(e *echo.Echo) {
	o := s.cfg.Operations
	e.GET("/database", s.databasePage)
	e.POST("/database/save", func(c echo.Context) error {
		text, err := o.Save(c.Request().Context(), s.actor(c))
		return s.toDatabase(c, text, err)
	})
	e.POST("/database/restore", s.aboutSave("Restore the database", "Restore", o.Restore))
	e.POST("/database/delete", s.aboutSave("Delete the save", "Delete", o.DeleteSave))
	e.POST("/database/keep", func(c echo.Context) error {
		count, err1 := strconv.Atoi(strings.TrimSpace(c.FormValue("count")))
		days, err2 := strconv.Atoi(strings.TrimSpace(c.FormValue("days")))
		if err1 != nil || err2 != nil {
			return s.toDatabase(c, "", &Problem{Message: "how many and how long are whole numbers", Fix: "give both, 0 days for ever"})
		}
		text, err := o.KeepSaves(c.Request().Context(), Retention{count, days})
		return s.toDatabase(c, text, err)
	})
	e.GET("/database/file/:name", s.sendFile(o.SavePath))
	e.GET("/database/beyond/:name", s.sendFile(o.ExportPath))
	e.GET("/api/v1/database", func(c echo.Context) error {
		v, err := s.savesNow(c.Request().Context())
		return answer(c, http.StatusOK, v, err)
	})
	e.GET("/api/v1/database/saves/:name", s.sendFile(o.SavePath))
	e.GET("/api/v1/database/exports/:name", s.sendFile(o.ExportPath))
	e.POST(uploadPath, s.upload)
	e.POST("/api/v1/database/save", func(c echo.Context) error {
		var q struct{}
		if err := readJSON(c, &q); err != nil {
			return err
		}
		v, err := message(o.Save(c.Request().Context(), s.actor(c)))
		return answer(c, http.StatusOK, v, err)
	})
	e.POST("/api/v1/database/restore", called(func(ctx context.Context, q saveOrder) (any, error) { return message(o.Restore(ctx, q.Name, q.Yes)) }))
	e.POST("/api/v1/database/delete", called(func(ctx context.Context, q saveOrder) (any, error) { return message(o.DeleteSave(ctx, q.Name, q.Yes)) }))
	e.POST("/api/v1/database/keep", called(func(ctx context.Context, q Retention) (any, error) { return message(o.KeepSaves(ctx, q)) }))
}

type saveOrder struct {
	Name string `json:"name"`
	Yes  bool   `json:"yes"`
}

// savesView is the list of saves and what goes with it.
type savesView struct {
	Saves   []Save    `json:"saves"`
	Kept    Retention `json:"kept"`
	Exports []Export  `json:"exports"`
}

func (s *Server) savesNow(ctx context.Context) (v savesView, err error) {
	o := s.cfg.Operations
	v = savesView{Saves: []Save{}, Kept: o.SavesKept(), Exports: []Export{}}
	saves, err := o.Saves(ctx)
	if err != nil {
		return v, err
	}
	exports, err := o.Exports()
	v.Saves, v.Exports = append(v.Saves, saves...), append(v.Exports, exports...)
	return v, err
}

func (s *Server) databasePage(c echo.Context) error {
	sh := s.shell(c, "Database", "/database")
	v, err := s.savesNow(c.Request().Context())
	if err != nil {
		sh.Problem = s.problemOf(c, err)
	}
	return c.Render(http.StatusOK, "database.html", struct {
		shell
		savesView
	}{sh, v})
}

// toDatabase goes back to the page and says what was done, or why not.
func (s *Server) toDatabase(c echo.Context, text string, err error) error {
	if err != nil {
		text = s.problemOf(c, err).Error()
	}
	return done(c, "/database", text)
}

// aboutSave asks, and does something with one save.
func (s *Server) aboutSave(heading, button string, do func(context.Context, string, bool) (string, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		name := c.FormValue("name")
		return s.confirmed(c, "/database", heading, button, map[string]string{"name": name}, func(ctx context.Context, yes bool) (string, error) {
			return do(ctx, name, yes)
		})
	}
}

// sendFile sends a file of a list.
func (s *Server) sendFile(find func(name string) (string, error)) echo.HandlerFunc {
	return func(c echo.Context) error {
		file, err := find(c.Param("name"))
		var p *Problem
		switch {
		case errors.As(err, &p):
			return echo.NewHTTPError(http.StatusNotFound, p.Message)
		case err != nil:
			return err
		}
		noStore(c)
		_ = http.NewResponseController(c.Response()).SetWriteDeadline(time.Now().Add(uploadTime)) // else a long file is cut
		return c.Attachment(file, path.Base(file))
	}
}

// upload takes in a saved file.
func (s *Server) upload(c echo.Context) error {
	r := c.Request()
	if kind := r.Header.Get("Content-Type"); kind != "application/octet-stream" {
		return echo.NewHTTPError(http.StatusUnsupportedMediaType, "send the file itself, with the content type application/octet-stream")
	}
	ctl := http.NewResponseController(c.Response())
	_ = ctl.SetReadDeadline(time.Now().Add(uploadTime))
	_ = ctl.SetWriteDeadline(time.Now().Add(uploadTime))
	v, err := message(s.cfg.Operations.Upload(r.Context(), s.actor(c), c.QueryParam("name"), http.MaxBytesReader(c.Response(), r.Body, maxUpload)))
	return answer(c, http.StatusOK, v, err)
}
