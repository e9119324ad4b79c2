package manager

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"redundancypool/manager/trust"
)

// certificateFor chooses what to show: on the virtual IP the pool's certificate, which is the
// same on both Managers so that a takeover stops neither browser nor unit; elsewhere this node's.
func (m *Manager) certificateFor(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if h.Conn != nil {
		if a, ok := h.Conn.LocalAddr().(*net.TCPAddr); ok {
			return m.certificateAt(a.AddrPort().Addr().Unmap())
		}
	}
	return m.certificateAt(netip.Addr{})
}

func (m *Manager) certificateAt(local netip.Addr) (*tls.Certificate, error) {
	s, _, _ := m.snapshot()
	if s.VIP.IsValid() && local == s.VIP.Addr() {
		if c, err := m.trust.PoolCertificate(); err == nil {
			return c, nil
		}
	}
	return m.trust.WebCertificate(m.webNames()...)
}

// webNames are the addresses under which this node is reached.
func (m *Manager) webNames() []string {
	s, _, _ := m.snapshot()
	names := []string{"localhost", "127.0.0.1", "::1"}
	if s.Local.Address.IsValid() {
		names = append(names, s.Local.Address.String())
	}
	return names
}

// ensurePoolCertificate returns the certificate of the virtual IP, made anew when there is none
// or it is for another address.
func ensurePoolCertificate(t *trust.Store, addr netip.Addr) (certPEM, keyPEM []byte, err error) {
	certPEM, keyPEM, err = t.PoolCertificatePEM()
	if err == nil && covers(certPEM, addr) {
		return certPEM, keyPEM, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if certPEM, keyPEM, err = trust.NewPoolCertificate(addr); err != nil {
		return nil, nil, fmt.Errorf("make the certificate of the virtual IP: %w", err)
	}
	return certPEM, keyPEM, t.SavePoolCertificate(certPEM, keyPEM)
}

func covers(certPEM []byte, addr netip.Addr) bool {
	b, _ := pem.Decode(certPEM)
	if b == nil {
		return false
	}
	c, err := x509.ParseCertificate(b.Bytes)
	return err == nil && c.VerifyHostname(addr.String()) == nil
}
