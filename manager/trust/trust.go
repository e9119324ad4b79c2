// Package trust holds this node's identity towards the other members of its pool, and whom it
// trusts: a private key with a self-signed certificate, the peers that a person or a pairing
// token has approved, the one pairing token that is valid now, and the server certificates for
// browsers and field units.
//
// Peers are known by the SHA-256 of their public key alone. Names and dates inside the
// certificates between members are ignored, so that no pool dies at an expiry or with a dead
// clock battery (RFC 7469 pins keys in the same way).
//
// It opens no connection and decides nothing about members: the pool's transport and the
// Arbiter ask it. Private keys stand in files of mode 0600 below the directory given to Open and
// are never part of an error, a log line or the database.
package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The files of a node's identity, below the directory given to Open.
const (
	keyFile   = "node.key"
	certFile  = "node.crt"
	stateFile = "trust.json"
)

// Store is a node's identity and the peers it trusts. All methods are safe for concurrent use.
type Store struct {
	dir  string
	cert tls.Certificate
	fp   Fingerprint
	now  func() time.Time

	mu    sync.Mutex
	state state // what trust.json holds
	met   contacts
	wrong int // wrong tries with the token since it was made or loaded; written with the state
}

// Open loads the identity kept in dir, creating dir, the key and the certificate when they are
// not there yet. It holds no file open, so there is nothing to close.
//
// Errors name the file and the fix: a key that others may read, a certificate without its key,
// a damaged file.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("trust: create the data folder: %w", err)
	}
	key, err := openKey(dir)
	if err != nil {
		return nil, err
	}
	cert, err := openCertificate(dir, key)
	if err != nil {
		return nil, err
	}
	fp, err := fingerprintOf(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("trust: fingerprint of %s: %w", keyFile, err)
	}
	st, err := loadState(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, cert: cert, fp: fp, now: time.Now, state: st}
	if st.Token != nil {
		s.wrong = st.Token.Wrong
	}
	return s, nil
}

// Fingerprint returns this node's own fingerprint: what the other members pin.
func (s *Store) Fingerprint() Fingerprint { return s.fp }

// openKey loads the node's key or makes one. A certificate without a key is an error: a silent
// new identity would look like an attack to every peer.
func openKey(dir string) (*ecdsa.PrivateKey, error) {
	path := filepath.Join(dir, keyFile)
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if _, err := os.Stat(filepath.Join(dir, certFile)); err == nil {
		return nil, fmt.Errorf("trust: %s is missing but %s is there: restore the key from a copy, "+
			"or remove %s to start with a new identity that every peer must approve", path, certFile, certFile)
	}
	return createKey(path)
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("trust: read key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("trust: %s has mode %04o, others may read it: run chmod 600 %s",
			path, info.Mode().Perm(), path)
	}
	text, err := readLimited(path)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fmt.Errorf("trust: %s: %w: restore it from a copy", path, err)
	}
	return key, nil
}

func createKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("trust: make key: %w", err)
	}
	text, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeFile(path, text); err != nil {
		return nil, err
	}
	return key, nil
}

// openCertificate loads the certificate of key, or makes it anew where it is missing or belongs
// to another key: peers look at the key alone, so a new certificate changes nothing for them.
func openCertificate(dir string, key *ecdsa.PrivateKey) (tls.Certificate, error) {
	path := filepath.Join(dir, certFile)
	keyText, err := encodeKey(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if text, err := readLimited(path); err == nil {
		if cert, err := tls.X509KeyPair(text, keyText); err == nil {
			return cert, nil
		}
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "pool member"},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, 4.1.2.5: no well-defined end
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	text, err := selfSign(tmpl, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := writeFile(path, text); err != nil {
		return tls.Certificate{}, err
	}
	cert, err := tls.X509KeyPair(text, keyText)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("trust: use the new certificate: %w", err)
	}
	return cert, nil
}

func selfSign(tmpl *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("trust: make certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("trust: encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey reads one ECDSA key. Its errors never quote the text.
func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM block of type PRIVATE KEY in it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the key in it cannot be read")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key in it is not an ECDSA key")
	}
	return key, nil
}
