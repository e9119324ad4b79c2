package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
)

// Certificates are what browsers see of this node. A string is what was done, for people.
type Certificates interface {
	Certificate(ctx context.Context) (CertificateReport, error)
	// InstallCertificate shows a certificate (PEM, with its chain) and its key from now on.
	InstallCertificate(ctx context.Context, certificate, key string) (string, error)
	RenewCertificate(ctx context.Context) (string, error)
	ResetCertificate(ctx context.Context, yes bool) (string, error)
}

// CertificateReport describes the certificates of the pages.
type CertificateReport struct {
	Installed bool             `json:"installed"`  // somebody brought it; else this node made it itself
	Page      CertificateInfo  `json:"page"`       // on this node's own addresses
	VirtualIP *CertificateInfo `json:"virtual_ip"` // null: this node belongs to no pool
	Warnings  []string         `json:"warnings"`
}

// CertificateInfo describes one certificate.
type CertificateInfo struct {
	Subject     string    `json:"subject"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names"` // DNS names and addresses
	NotBefore   time.Time `json:"not_before"`
	NotAfter    time.Time `json:"not_after"`
	Fingerprint string    `json:"fingerprint"` // SHA-256 of the whole certificate, as browsers show it
	PEM         string    `json:"pem"`         // with its chain; never the key
}

// certificateRoutes are the routes of the section Certificate of the settings and its calls.
func (s *Server) certificateRoutes(e *echo.Echo) {
	o := s.cfg.Operations
	e.POST("/settings/certificate", s.installCertificate)
	e.POST("/settings/certificate/renew", s.renewCertificate)
	e.POST("/settings/certificate/reset", s.resetCertificate)
	e.GET("/settings/certificate/:file", s.certificateFile)
	e.GET("/api/v1/certificate", func(c echo.Context) error {
		r, err := o.Certificate(c.Request().Context())
		return answer(c, http.StatusOK, r, err)
	})
	e.POST("/api/v1/certificate", called(func(ctx context.Context, q struct {
		Certificate string `json:"certificate"`
		Key         string `json:"key"`
	}) (any, error) {
		return message(o.InstallCertificate(ctx, q.Certificate, q.Key))
	}))
	e.POST("/api/v1/certificate/renew", called(func(ctx context.Context, _ struct{}) (any, error) { return message(o.RenewCertificate(ctx)) }))
	e.POST("/api/v1/certificate/reset", called(func(ctx context.Context, q struct {
		Yes bool `json:"yes"`
	}) (any, error) {
		return message(o.ResetCertificate(ctx, q.Yes))
	}))
}

// certificateView is the section of the settings; Wrong is what is wrong with what was just brought.
type certificateView struct {
	CertificateReport
	Wrong map[string][]FieldProblem // by certificate and key
}

// certificateOf reads the section; without it the page says why.
func (s *Server) certificateOf(c echo.Context, v *settingsView) {
	r, err := s.cfg.Operations.Certificate(c.Request().Context())
	if err != nil && v.Problem == nil {
		v.Problem = s.problemOf(c, err)
	}
	v.Certificate = certificateView{CertificateReport: r, Wrong: v.Certificate.Wrong}
}

// uploaded returns the text of a file in the form; empty: none was chosen. The body's limit bounds it.
func uploaded(c echo.Context, name string) (string, error) {
	h, err := c.FormFile(name)
	if err != nil || h.Size == 0 {
		return "", nil // none was chosen
	}
	f, err := h.Open()
	if err != nil {
		return "", fmt.Errorf("read the uploaded file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	return string(text), err
}

func (s *Server) installCertificate(c echo.Context) error {
	certificate, err := uploaded(c, "certificate")
	if err != nil {
		return err
	}
	key, err := uploaded(c, "key")
	if err != nil {
		return err
	}
	text, err := s.cfg.Operations.InstallCertificate(c.Request().Context(), certificate, key)
	if err == nil {
		return done(c, "/settings#certificate", text)
	}
	v := s.newSettingsView(c)
	p := s.problemOf(c, err)
	v.Problem = &Problem{Message: p.Message + ": nothing was changed", Fix: p.Fix}
	v.Certificate.Wrong = map[string][]FieldProblem{}
	for _, f := range p.Fields {
		v.Certificate.Wrong[f.Field] = append(v.Certificate.Wrong[f.Field], f)
	}
	return s.renderSettings(c, http.StatusUnprocessableEntity, v)
}

func (s *Server) renewCertificate(c echo.Context) error {
	text, err := s.cfg.Operations.RenewCertificate(c.Request().Context())
	if err != nil {
		text = s.problemOf(c, err).Error()
	}
	return done(c, "/settings#certificate", text)
}

func (s *Server) resetCertificate(c echo.Context) error {
	return s.confirmed(c, "/settings", "Return to this node's own certificate", "Remove the installed one", nil, s.cfg.Operations.ResetCertificate)
}

// certificateFile downloads a certificate, never a key.
func (s *Server) certificateFile(c echo.Context) error {
	r, err := s.cfg.Operations.Certificate(c.Request().Context())
	if err != nil {
		return err
	}
	text := ""
	switch file := c.Param("file"); {
	case file == "node.pem":
		text = r.Page.PEM
	case file == "virtual-ip.pem" && r.VirtualIP != nil:
		text = r.VirtualIP.PEM
	}
	if text == "" {
		return echo.ErrNotFound
	}
	noStore(c)
	c.Response().Header().Set("Content-Disposition", `attachment; filename="`+c.Param("file")+`"`)
	return c.Stream(http.StatusOK, "application/x-pem-file", strings.NewReader(text))
}
