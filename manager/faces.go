package manager

import (
	"crypto/tls"
	"net/netip"

	"redundancypool/web"
)

// openPages opens the pages at the addresses of the command line, else of the settings.
func (m *Manager) openPages() (err error) {
	s, _, _ := m.snapshot()
	listen := s.Listen
	if m.cfg.ListenHTTP != "" {
		listen.HTTP = m.cfg.ListenHTTP
	}
	if m.cfg.ListenHTTPS != "" {
		listen.HTTPS = m.cfg.ListenHTTPS
	}
	m.pages, err = web.Open(web.Config{
		HTTP: listen.HTTP, HTTPS: listen.HTTPS, Source: source{m}, Users: pageUsers{m}, SessionKey: m.sessionKey,
		FormerKey: m.formerKey, Operations: desk{m},
		MaxStreams: s.Limits.Browsers, Version: m.cfg.Version, Log: m.log,
		Certificate: func(local netip.Addr, _ string) (*tls.Certificate, error) { return m.certificateAt(local) },
	})
	return err
}
