package manager

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
	"redundancypool/web"
)

// pageCertificate chooses what browsers are shown: on this node's own addresses the certificate that
// somebody installed, if there is one. Field units see what this node makes itself, because that
// stands in their profiles.
func (m *Manager) pageCertificate(local netip.Addr) (*tls.Certificate, error) {
	s, _, _ := m.snapshot()
	if s.VIP.IsValid() && local == s.VIP.Addr() {
		return m.certificateAt(local)
	}
	m.certs.Lock()
	c, looked := m.certs.installed, m.certs.looked
	m.certs.Unlock()
	if !looked {
		var err error
		if c, err = m.trust.InstalledWebCertificate(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("the installed certificate cannot be used; the node's own is shown", "error", err)
		}
		m.certs.Lock()
		m.certs.installed, m.certs.looked = c, true
		m.certs.Unlock()
	}
	if c != nil {
		return c, nil
	}
	return m.certificateAt(local)
}

// reachedAt are the addresses under which people in the LAN open this node's pages.
func (m *Manager) reachedAt() []string {
	s, _, _ := m.snapshot()
	if s.Mode != settings.Standalone && s.Local.Address.IsValid() {
		return []string{s.Local.Address.String()}
	}
	return slices.DeleteFunc(m.webNames(), func(n string) bool { return n == "localhost" || n == "127.0.0.1" || n == "::1" })
}

func describeCertificate(c *tls.Certificate) (control.CertificateInfo, error) {
	d, err := trust.Describe(c)
	if d.Names == nil {
		d.Names = []string{}
	}
	return control.CertificateInfo{
		Subject: d.Subject, Issuer: d.Issuer, Names: d.Names, NotBefore: d.NotBefore, NotAfter: d.NotAfter, Fingerprint: d.Fingerprint, PEM: d.PEM,
	}, err
}

// Certificate implements control.Certificates.
func (f faces) Certificate(context.Context) (control.CertificateReport, error) {
	m := f.m
	r := control.CertificateReport{Warnings: []string{}}
	c, err := m.pageCertificate(netip.Addr{})
	if err != nil {
		return r, err
	}
	if r.Page, err = describeCertificate(c); err != nil {
		return r, err
	}
	m.certs.Lock()
	r.Installed = m.certs.installed != nil
	m.certs.Unlock()
	if leaf := c.Leaf; leaf != nil {
		var missing []string
		for _, n := range m.reachedAt() {
			if leaf.VerifyHostname(n) != nil {
				missing = append(missing, n)
			}
		}
		if len(missing) > 0 {
			r.Warnings = append(r.Warnings, "the certificate does not name "+strings.Join(missing, ", ")+": browsers that open this node there will warn")
		}
		switch left := time.Until(leaf.NotAfter); {
		case left <= 0:
			r.Warnings = append(r.Warnings, "the certificate has ended")
		case left < 30*24*time.Hour:
			r.Warnings = append(r.Warnings, "the certificate ends on "+leaf.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	if pc, err := m.trust.PoolCertificate(); err == nil {
		info, err := describeCertificate(pc)
		if err != nil {
			return r, err
		}
		r.VirtualIP = &info
	}
	return r, nil
}

// InstallCertificate implements control.Certificates.
func (f faces) InstallCertificate(_ context.Context, certificate, key string) (control.Done, error) {
	m := f.m
	p, err := trust.CheckPair([]byte(certificate), []byte(key), time.Now(), m.reachedAt())
	if err == nil {
		err = m.trust.InstallWebCertificate(p)
	}
	var pe *trust.PairError
	if errors.As(err, &pe) {
		return control.Done{}, &control.Error{Code: "invalid", Message: "the certificate cannot be used", Fields: []control.FieldError{{Field: pe.Field, Code: pe.Code, Message: pe.Text, Fix: pe.Fix}}}
	}
	if err != nil {
		return control.Done{}, err
	}
	m.certs.forget()
	m.event(journal.Info, "trust", "certificate_installed", "a certificate was installed for the pages of this node", map[string]any{"warnings": p.Warnings})
	text := "installed; new connections to this node's pages are shown this certificate"
	if len(p.Warnings) > 0 {
		text += ". To know: " + strings.Join(p.Warnings, "; ")
	}
	return control.Done{Message: text}, nil
}

// RenewCertificate implements control.Certificates.
func (f faces) RenewCertificate(context.Context) (control.Done, error) {
	m := f.m
	if _, err := m.trust.InstalledWebCertificate(); err == nil {
		return control.Done{}, refuse("installed", "install the new one that its issuer gave, or return to this node's own", "the certificate in use was issued by somebody else")
	}
	if _, err := m.trust.RenewWebCertificate(m.webNames()...); err != nil {
		return control.Done{}, err
	}
	m.certs.forget()
	m.event(journal.Info, "trust", "certificate_renewed", "this node's own certificate of the pages was made anew, with the same key", nil)
	return control.Done{Message: "made anew, with the same key; browsers that were told to accept the one before will ask again"}, nil
}

// ResetCertificate implements control.Certificates.
func (f faces) ResetCertificate(_ context.Context, yes bool) (control.Done, error) {
	m := f.m
	if _, err := m.trust.InstalledWebCertificate(); errors.Is(err, fs.ErrNotExist) {
		return control.Done{}, refuse("not_installed", "nothing to do", "this node shows its own certificate already")
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "the installed certificate is to be removed", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "certificate_reset", Text: "The installed certificate and its key are removed. Browsers then see this node's own certificate, which they do not know, and warn."}}}
	}
	if err := m.trust.RemoveWebCertificate(); err != nil {
		return control.Done{}, err
	}
	m.certs.forget()
	m.event(journal.Info, "trust", "certificate_reset", "the pages of this node are back to the certificate that it makes itself", nil)
	return control.Done{Message: "removed; this node shows its own certificate again"}, nil
}

// Certificate implements web.Certificates.
func (d desk) Certificate(ctx context.Context) (web.CertificateReport, error) {
	r, err := d.faces().Certificate(ctx)
	if err != nil {
		return web.CertificateReport{}, pageError(err)
	}
	out := web.CertificateReport{Installed: r.Installed, Page: web.CertificateInfo(r.Page), Warnings: r.Warnings}
	if r.VirtualIP != nil {
		out.VirtualIP = ref(web.CertificateInfo(*r.VirtualIP))
	}
	return out, nil
}

// InstallCertificate implements web.Certificates.
func (d desk) InstallCertificate(ctx context.Context, certificate, key string) (string, error) {
	return said(d.faces().InstallCertificate(ctx, certificate, key))
}

// RenewCertificate implements web.Certificates.
func (d desk) RenewCertificate(ctx context.Context) (string, error) {
	return said(d.faces().RenewCertificate(ctx))
}

// ResetCertificate implements web.Certificates.
func (d desk) ResetCertificate(ctx context.Context, yes bool) (string, error) {
	return said(d.faces().ResetCertificate(ctx, yes))
}
