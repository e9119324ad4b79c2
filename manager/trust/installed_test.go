package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	n    int64
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, key: ecKey(t)}
	a.cert = a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, a.key.Public())
	return a
}

// sign issues tmpl, valid for a year unless it says otherwise.
func (a *authority) sign(tmpl *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	a.n++
	tmpl.SerialNumber = big.NewInt(a.n)
	if tmpl.NotAfter.IsZero() {
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0)
	}
	parent := a.cert
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

func pemOf(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

func keyPEM(t *testing.T, kind string, key any) []byte {
	t.Helper()
	var der []byte
	var err error
	switch kind {
	case "PRIVATE KEY":
		der, err = x509.MarshalPKCS8PrivateKey(key)
	case "EC PRIVATE KEY":
		der, err = x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	case "RSA PRIVATE KEY":
		der = x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey))
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestPairIsChecked(t *testing.T) {
	a := newAuthority(t)
	key, other := ecKey(t), ecKey(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	server := func(change func(*x509.Certificate), k crypto.PublicKey) *x509.Certificate {
		c := &x509.Certificate{Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}, DNSNames: []string{"node.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		if change != nil {
			change(c)
		}
		return a.sign(c, k)
	}
	good := server(nil, key.Public())
	pkcs8, now := keyPEM(t, "PRIVATE KEY", key), time.Now()
	for _, tt := range []struct {
		name      string
		cert, key []byte
		want      string // field and code; empty: taken
	}{
		{"leaf alone", pemOf(good), pkcs8, ""},
		{"with its authority", pemOf(good, a.cert), pkcs8, ""},
		{"the key in the form of openssl ec", pemOf(good), keyPEM(t, "EC PRIVATE KEY", key), ""},
		{"an RSA key in the old form", pemOf(server(nil, rsaKey.Public())), keyPEM(t, "RSA PRIVATE KEY", rsaKey), ""},
		{"one file with both", append(pemOf(good), pkcs8...), nil, ""},
		{"no usage named", pemOf(server(func(c *x509.Certificate) { c.ExtKeyUsage = nil }, key.Public())), pkcs8, ""},
		{"nothing", nil, nil, "certificate unreadable"},
		{"a key instead of a certificate", pkcs8, nil, "certificate unreadable"},
		{"a damaged certificate", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Raw[:50]}), pkcs8, "certificate unreadable"},
		{"no key", pemOf(good), nil, "key unreadable"},
		{"a damaged key", pemOf(good), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "key unreadable"},
		{"a key with a passphrase", pemOf(good), pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}), "key encrypted"},
		{"the key of another", pemOf(good), keyPEM(t, "PRIVATE KEY", other), "key mismatch"},
		{"the authority first", pemOf(a.cert, good), pkcs8, "certificate chain_order"},
		{"an authority that did not sign it", pemOf(good, newAuthority(t).cert), pkcs8, "certificate chain_order"},
		{"ended", pemOf(server(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.AddDate(-2, 0, 0), now.AddDate(-1, 0, 0) }, key.Public())), pkcs8, "certificate expired"},
		{"not begun", pemOf(server(func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.AddDate(1, 0, 0), now.AddDate(2, 0, 0) }, key.Public())), pkcs8, "certificate not_yet"},
		{"of a client", pemOf(server(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, key.Public())), pkcs8, "certificate usage"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := CheckPair(tt.cert, tt.key, now, []string{"10.0.0.1"})
			var pe *PairError
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (!errors.As(err, &pe) || pe.Field+" "+pe.Code != tt.want):
				t.Errorf("error %v, want %s", err, tt.want)
			case err != nil && len(tt.key) > 80 && strings.Contains(err.Error(), string(tt.key[40:70])):
				t.Errorf("the error quotes what was given: %v", err)
			}
		})
	}
	p, err := CheckPair(pemOf(good), pkcs8, now, []string{"10.0.0.1", "10.0.0.2", "node.example", "else.example"})
	if err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "10.0.0.2, else.example") {
		t.Errorf("warnings %q, %v", p.Warnings, err)
	}
	if p, err := CheckPair(pemOf(good), pkcs8, good.NotAfter.Add(-time.Hour), nil); err != nil || len(p.Warnings) != 1 {
		t.Errorf("an hour before its end: %q, %v", p.Warnings, err)
	}
}

func TestInstalledCertificateLeavesTheOthersAlone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	own, err := s.WebCertificate("10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.InstalledWebCertificate(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("nothing installed: %v", err)
	}
	a, key := newAuthority(t), ecKey(t)
	leaf := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "mine"}, DNSNames: []string{"x.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 7)}}, key.Public())
	p, err := CheckPair(pemOf(leaf, a.cert), keyPEM(t, "EC PRIVATE KEY", key), time.Now(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.InstallWebCertificate(p); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	c, err := again.InstalledWebCertificate()
	if err != nil || len(c.Certificate) != 2 {
		t.Fatalf("after a restart: %v", err)
	}
	d, err := Describe(c)
	if err != nil || d.Subject != "CN=mine" || d.Issuer != "CN=authority" || strings.Join(d.Names, " ") != "x.example 10.0.0.7" || d.Chain != 2 || len(d.Fingerprint) != 95 || strings.Contains(d.PEM, "PRIVATE") {
		t.Errorf("details %+v, %v", d, err)
	}
	if info, err := os.Stat(filepath.Join(dir, installedFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v, %v", info, err)
	}
	if again.Fingerprint() != s.Fingerprint() {
		t.Error("the key towards the members changed")
	}
	if now, err := again.WebCertificate("10.0.0.1"); err != nil || !now.Leaf.Equal(own.Leaf) {
		t.Errorf("the node's own certificate changed (%v)", err)
	}
	renewed, err := again.RenewWebCertificate("10.0.0.1")
	if err != nil || renewed.Leaf.Equal(own.Leaf) || !renewed.Leaf.PublicKey.(*ecdsa.PublicKey).Equal(own.Leaf.PublicKey) {
		t.Errorf("renewed: another key, or the same certificate (%v)", err)
	}
	if err := errors.Join(again.RemoveWebCertificate(), again.RemoveWebCertificate()); err != nil {
		t.Error(err)
	}
	if _, err := again.InstalledWebCertificate(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its removal: %v", err)
	}
}
