package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// The certificates that browsers and field units see, below the directory given to Open.
const (
	poolKeyFile  = "pool.key"
	poolCertFile = "pool.crt"
	webKeyFile   = "web.key"
	webCertFile  = "web.crt"
)

// serverYears is how long a server certificate lasts. Units in the field are seldom visited.
const serverYears = 25

// renewBefore is how long before its end the node's own server certificate is made anew.
const renewBefore = 365 * 24 * time.Hour

// NewPoolCertificate makes the certificate that both Managers show on the virtual IP: self-signed,
// at once the authority that a field unit's profile names and the server's certificate, with vip
// and the extra names (IP addresses or DNS names) in it. Both results are PEM.
func NewPoolCertificate(vip netip.Addr, extra ...string) (certPEM, keyPEM []byte, err error) {
	if !vip.IsValid() || vip.IsUnspecified() {
		return nil, nil, errors.New("trust: pool certificate: the virtual IP is empty")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("trust: pool certificate: make key: %w", err)
	}
	certPEM, err = serverCertificate(key, "pool "+vip.String(), append([]string{vip.String()}, extra...))
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return certPEM, keyPEM, nil
}

// RenewPoolCertificate makes the pool's certificate anew for the addresses given, with the same key
// and under the same name: whoever trusts the one before trusts this one too. The result is PEM.
func RenewPoolCertificate(certPEM, keyPEM []byte, addrs ...netip.Addr) ([]byte, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, errors.New("trust: renew pool certificate: certificate and key do not belong together")
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || pair.Leaf == nil {
		return nil, errors.New("trust: renew pool certificate: it is not of this product")
	}
	var names []string
	for _, a := range addrs {
		names = append(names, a.String())
	}
	return serverCertificate(key, pair.Leaf.Subject.CommonName, names)
}

// SavePoolCertificate keeps the pool's certificate and key in this node's folder, replacing an
// older pair. The pair is checked first.
func (s *Store) SavePoolCertificate(certPEM, keyPEM []byte) error {
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		return errors.New("trust: save pool certificate: certificate and key do not belong together")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// One file holds both, so that a power cut never leaves the halves of two pairs; the
	// certificate stands beside it for people to hand out.
	both := append(append([]byte{}, keyPEM...), certPEM...)
	if err := writeFile(filepath.Join(s.dir, poolKeyFile), both); err != nil {
		return err
	}
	return writeFile(filepath.Join(s.dir, poolCertFile), certPEM)
}

// PoolCertificatePEM returns the kept pair for handing it to the other Manager over an
// authenticated connection. Error: fs.ErrNotExist when there is none.
func (s *Store) PoolCertificatePEM() (certPEM, keyPEM []byte, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	both, err := readLimited(filepath.Join(s.dir, poolKeyFile))
	if err != nil {
		return nil, nil, err
	}
	i := bytes.Index(both, []byte("-----BEGIN CERTIFICATE-----"))
	if i < 0 {
		return nil, nil, fmt.Errorf("trust: %s holds no certificate: restore it from the other Manager", poolKeyFile)
	}
	return both[i:], both[:i], nil
}

// PoolCertificate returns the kept pair for a server. Error: fs.ErrNotExist when there is none.
func (s *Store) PoolCertificate() (*tls.Certificate, error) {
	certPEM, keyPEM, err := s.PoolCertificatePEM()
	if err != nil {
		return nil, err
	}
	return usePair(certPEM, keyPEM, poolKeyFile)
}

// RemovePoolCertificate forgets the pool's certificate, after the node has left the pool.
func (s *Store) RemovePoolCertificate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range []string{poolKeyFile, poolCertFile} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("trust: remove pool certificate: %w", err)
		}
	}
	return nil
}

// WebCertificate returns the certificate that this node shows to browsers on its own addresses.
// It is made at first use, and anew (with the same key) when one of the names (IP addresses or DNS
// names) is not in it or its end is near.
func (s *Store) WebCertificate(names ...string) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keyPath, certPath := filepath.Join(s.dir, webKeyFile), filepath.Join(s.dir, webCertFile)
	key, err := loadKey(keyPath)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = createKey(keyPath)
	}
	if err != nil {
		return nil, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if certPEM, err := readLimited(certPath); err == nil {
		if c, err := tls.X509KeyPair(certPEM, keyPEM); err == nil && s.covers(c.Leaf, names) {
			return &c, nil
		}
	}
	certPEM, err := serverCertificate(key, "manager", names)
	if err != nil {
		return nil, err
	}
	if err := writeFile(certPath, certPEM); err != nil {
		return nil, err
	}
	return usePair(certPEM, keyPEM, webCertFile)
}

// covers reports whether leaf is good for all the names for a while.
func (s *Store) covers(leaf *x509.Certificate, names []string) bool {
	if leaf == nil || s.now().Add(renewBefore).After(leaf.NotAfter) {
		return false
	}
	for _, n := range names {
		if leaf.VerifyHostname(n) != nil {
			return false
		}
	}
	return true
}

// serverCertificate signs a certificate for names with key. It starts in the past, so that a
// unit whose clock runs behind still accepts it.
func serverCertificate(key *ecdsa.PrivateKey, subject string, names []string) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("trust: make serial number: %w", err)
	}
	tmpl := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: subject},
		NotBefore:             time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Now().UTC().AddDate(serverYears, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, a.WithZone("").AsSlice())
			continue
		}
		tmpl.DNSNames = append(tmpl.DNSNames, n)
	}
	return selfSign(tmpl, key)
}

func usePair(certPEM, keyPEM []byte, file string) (*tls.Certificate, error) {
	c, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("trust: %s: certificate and key do not belong together: restore both, or remove the file", file)
	}
	return &c, nil
}
