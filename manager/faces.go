package manager

import (
	"crypto/tls"
	"net/netip"

	"redundancypool/web"
)

// openPages opens the pages.
func (m *Manager) openPages(at bound) error {
	pages, err := web.Open(web.Config{
		HTTP: at.http, HTTPS: at.https, Source: source{m}, Users: pageUsers{m}, SessionKey: m.sessionKey,
		FormerKey: m.formerKey, Operations: desk{m},
		MaxStreams: at.browsers, Version: m.cfg.Version, Log: m.log,
		Certificate: func(local netip.Addr, _ string) (*tls.Certificate, error) { return m.pageCertificate(local) },
	})
	if err == nil {
		m.pages = pages
	}
	return err
}
