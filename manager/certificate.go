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
	"sync"

	"redundancypool/manager/trust"
	"redundancypool/vip"
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

// certificateAt returns what is shown at a local address. It is kept in memory: a takeover brings
// every unit and browser at once, and a disk that hangs must not hold a handshake.
func (m *Manager) certificateAt(local netip.Addr) (*tls.Certificate, error) {
	m.certs.Lock()
	defer m.certs.Unlock()
	s, _, e := m.snapshot()
	if e != nil {
		s = e.settings // a new virtual IP holds from the engine's next start
	}
	if s.VIP.IsValid() && local == s.VIP.Addr() {
		if m.certs.pool == nil {
			c, err := m.trust.PoolCertificate()
			if err != nil {
				return nil, fmt.Errorf("certificate of the virtual IP: %w", err)
			}
			m.certs.pool = c
		}
		return m.certs.pool, nil
	}
	if m.certs.own == nil {
		c, err := m.trust.WebCertificate(m.webNames()...)
		if err != nil {
			return nil, err
		}
		m.certs.own = c
	}
	return m.certs.own, nil
}

// certificates are kept in memory until the mode changes.
type certificates struct {
	sync.Mutex
	pool, own *tls.Certificate
	installed *tls.Certificate // of the pages; nil: none
	looked    bool             // for an installed one
}

func (c *certificates) forget() {
	c.Lock()
	c.pool, c.own, c.installed, c.looked = nil, nil, nil, false
	c.Unlock()
}

// webNames are the addresses under which this node is reached.
func (m *Manager) webNames() []string {
	s, _, _ := m.snapshot()
	names := []string{"localhost", "127.0.0.1", "::1"}
	if s.Local.Address.IsValid() {
		names = append(names, s.Local.Address.String())
	}
	all, err := vip.LocalAddresses()
	if err != nil {
		return names
	}
	for _, a := range all {
		if addr := a.Address.Addr(); addr.IsValid() && !a.Loopback && !addr.IsLinkLocalUnicast() && addr != s.VIP.Addr() && addr != s.Local.Address {
			names = append(names, addr.String())
		}
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
