package trust

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// installedFile holds the certificate that a person installed for the pages, behind its key.
const installedFile = "web-installed.key"

// soonOver is how long before its end a certificate is worth a warning.
const soonOver = 30 * 24 * time.Hour

// PairError says what is wrong with a certificate or key that somebody wants to install. It never
// quotes either.
type PairError struct {
	Field     string // certificate or key
	Code      string
	Text, Fix string
}

func (e *PairError) Error() string { return e.Text + ": " + e.Fix }

// Pair is a certificate for the pages with its key, checked by CheckPair.
type Pair struct {
	chain    []*x509.Certificate // the server's own first
	key      crypto.Signer
	Warnings []string // what is allowed, and should be known
}

// CheckPair reads a certificate with the chain behind it, and its key, both PEM; the key may stand in
// the same text. It checks that they belong together, are valid now, stand in order and may serve
// pages; names are the addresses and names of this node, which are warned of where the
// certificate does not have them. Error: *PairError.
func CheckPair(certPEM, keyPEM []byte, now time.Time, names []string) (Pair, error) {
	chain, err := readChain(certPEM)
	if err != nil {
		return Pair{}, err
	}
	if len(bytes.TrimSpace(keyPEM)) == 0 {
		keyPEM = certPEM // one file with both
	}
	key, err := readKey(keyPEM)
	if err != nil {
		return Pair{}, err
	}
	p := Pair{chain: chain, key: key}
	if err := p.check(now); err != nil {
		return Pair{}, err
	}
	leaf := chain[0]
	var missing []string
	for _, n := range names {
		if leaf.VerifyHostname(n) != nil {
			missing = append(missing, n)
		}
	}
	if len(missing) > 0 {
		p.Warnings = append(p.Warnings, "the certificate does not name "+strings.Join(missing, ", ")+": browsers that open this node there will warn")
	}
	if left := leaf.NotAfter.Sub(now); left < soonOver {
		p.Warnings = append(p.Warnings, fmt.Sprintf("it ends in %d days", int(left.Hours()/24)))
	}
	return p, nil
}

func (p Pair) check(now time.Time) error {
	leaf := p.chain[0]
	own := func(c *x509.Certificate) bool {
		k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		return ok && k.Equal(p.key.Public())
	}
	if !own(leaf) {
		if i := slices.IndexFunc(p.chain, own); i > 0 {
			return &PairError{"certificate", "chain_order", fmt.Sprintf("the certificate of the key stands at place %d of the file", i+1), "put the server's own certificate first, then the one that signed it, and so on"}
		}
		return &PairError{"key", "mismatch", "the key does not belong to the certificate", "give the key that the certificate was issued for"}
	}
	if k, ok := p.key.Public().(*rsa.PublicKey); ok && k.N.BitLen() < 2048 {
		return &PairError{"key", "weak", fmt.Sprintf("an RSA key of %d bits is too short for browsers", k.N.BitLen()), "use 2048 bits or more, or an elliptic curve"}
	}
	for i, c := range p.chain {
		what := "the certificate"
		if i > 0 {
			what = fmt.Sprintf("certificate %d of the chain", i+1)
		}
		switch {
		case now.After(c.NotAfter):
			return &PairError{"certificate", "expired", fmt.Sprintf("%s ended on %s", what, c.NotAfter.UTC().Format(time.DateOnly)), "get a new one; or set the clock of this node right"}
		case now.Before(c.NotBefore):
			return &PairError{"certificate", "not_yet", fmt.Sprintf("%s begins only on %s", what, c.NotBefore.UTC().Format(time.DateTime)), "wait until then; or set the clock of this node right"}
		}
		if i+1 < len(p.chain) && c.CheckSignatureFrom(p.chain[i+1]) != nil {
			return &PairError{"certificate", "chain_order", fmt.Sprintf("certificate %d of the file is not signed by the one after it", i+1), "put the server's own certificate first, then the one that signed it, and so on"}
		}
	}
	if u := leaf.ExtKeyUsage; len(u) > 0 && !slices.Contains(u, x509.ExtKeyUsageServerAuth) && !slices.Contains(u, x509.ExtKeyUsageAny) {
		return &PairError{"certificate", "usage", "the certificate is not meant for a server", "get one with the extended key usage serverAuth"}
	}
	return nil
}

func readChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		if b.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, &PairError{"certificate", "unreadable", fmt.Sprintf("certificate %d in the file cannot be read", len(chain)+1), "copy the file again, as PEM"}
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, &PairError{"certificate", "unreadable", "no certificate in PEM form is in it", "give a text with -----BEGIN CERTIFICATE-----; openssl x509 -inform der converts a binary one"}
	}
	return chain, nil
}

// readKey reads one key in the forms that openssl writes. Its errors never quote the text.
func readKey(text []byte) (crypto.Signer, error) {
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, &PairError{"key", "unreadable", "no private key in PEM form is in it", "give a text with -----BEGIN PRIVATE KEY-----"}
		}
		if !strings.HasSuffix(b.Type, "PRIVATE KEY") {
			continue
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, &PairError{"key", "encrypted", "the key is protected by a passphrase", "take it off first: openssl pkey -in FILE -out NEW"}
		}
		parsed, err := x509.ParsePKCS8PrivateKey(b.Bytes)
		if err != nil {
			if parsed, err = x509.ParsePKCS1PrivateKey(b.Bytes); err != nil {
				parsed, err = x509.ParseECPrivateKey(b.Bytes)
			}
		}
		key, ok := parsed.(crypto.Signer)
		if err != nil || !ok {
			return nil, &PairError{"key", "unreadable", "the private key in it cannot be read", "use RSA, an elliptic curve or Ed25519, as PEM"}
		}
		return key, nil
	}
}

// InstallWebCertificate makes p the certificate of this node's pages. The one that this node makes itself
// stays, for field units and for the return to it. Members' keys are not touched.
func (s *Store) InstallWebCertificate(p Pair) error {
	der, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		return &PairError{"key", "unreadable", "this kind of key cannot be kept", "use RSA, an elliptic curve or Ed25519"}
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	for _, c := range p.chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return writeFile(filepath.Join(s.dir, installedFile), text) // one file, so that a power cut leaves no halves of two pairs
}

// InstalledWebCertificate returns what InstallWebCertificate kept, also after its end. Error:
// fs.ErrNotExist when there is none.
func (s *Store) InstalledWebCertificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := readLimited(filepath.Join(s.dir, installedFile))
	if err != nil {
		return nil, err
	}
	return usePair(text, text, installedFile)
}

// RemoveWebCertificate returns to the certificate that this node makes itself.
func (s *Store) RemoveWebCertificate() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(filepath.Join(s.dir, installedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("trust: remove the installed certificate: %w", err)
	}
	return syncDir(s.dir)
}

// RenewWebCertificate makes this node's own certificate of the pages anew, with the same key.
func (s *Store) RenewWebCertificate(names ...string) (*tls.Certificate, error) {
	s.mu.Lock()
	err := os.Remove(filepath.Join(s.dir, webCertFile))
	s.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("trust: renew the certificate: %w", err)
	}
	return s.WebCertificate(names...)
}

// Details are what people want to know of a certificate.
type Details struct {
	Subject, Issuer     string
	Names               []string // DNS names, then addresses
	NotBefore, NotAfter time.Time
	Fingerprint         string // SHA-256 of the whole certificate, as browsers show it
	Chain               int    // how many certificates are sent
	PEM                 string // all of them
}

// Describe returns the details of a server's certificate. Nothing of the key is in them.
func Describe(c *tls.Certificate) (Details, error) {
	leaf := c.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return Details{}, fmt.Errorf("trust: read certificate: %w", err)
		}
	}
	sum := sha256.Sum256(leaf.Raw)
	var pairs []string
	for _, b := range sum {
		pairs = append(pairs, strings.ToUpper(hex.EncodeToString([]byte{b})))
	}
	d := Details{
		Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Names: slices.Clone(leaf.DNSNames),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), Fingerprint: strings.Join(pairs, ":"), Chain: len(c.Certificate),
	}
	for _, ip := range leaf.IPAddresses {
		d.Names = append(d.Names, ip.String())
	}
	for _, der := range c.Certificate {
		d.PEM += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return d, nil
}
