package fieldunit

import (
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"time"
)

func selfSigned(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestProfileComesBack(t *testing.T) {
	p := Profile{Name: "pool", Type: TypeManager, Host: "10.0.0.50", Port: 8883, TLS: true, CA: selfSigned(t), Username: "u1", Password: "s3cret", Autoconnect: true}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseProfile(b)
	if err != nil || got != p {
		t.Fatalf("%+v, %v", got, err)
	}
	if c := got.TLSConfig(); c.ServerName != "10.0.0.50" || c.RootCAs == nil {
		t.Fatalf("TLS: %+v", c)
	}
}

func TestProfileRefuses(t *testing.T) {
	good := `{"name":"pool","type":"manager","host":"10.0.0.50","port":1883,"tls":false,"username":"u1","password":"x","autoconnect":true}`
	if _, err := ParseProfile([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new, want string }{
		{"a misspelt field", `"host"`, `"hots"`, "unknown field"},
		{"a second object", `true}`, `true}{}`, "after its JSON object"},
		{"no name", `"pool"`, `""`, "name"},
		{"another type", `"manager"`, `"broker"`, "only \"manager\""},
		{"no address", `10.0.0.50`, `0.0.0.0`, "no host's address"},
		{"a broken host", `10.0.0.50`, `a b`, "RFC 1123"},
		{"port 0", `1883`, `0`, "port 0"},
		{"TLS without CA", `"tls":false`, `"tls":true`, "ca is empty"},
		{"a CA that is none", `"tls":false`, `"tls":true,"ca":"x"`, "no PEM certificate"},
		{"a bad user name", `"u1"`, `"u 1"`, "username"},
		{"no password", `"x"`, `""`, "password"},
		{"no JSON", good, "host=1", "not the JSON object"},
	} {
		_, err := ParseProfile([]byte(strings.Replace(good, tt.old, tt.new, 1)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte(`{"name":"pool","type":"manager","host":"10.0.0.50","port":1883,"tls":false,"username":"u1","password":"x","autoconnect":true}`))
	f.Add([]byte(`{"name":"pool","type":"manager","host":"a..b","port":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseProfile(b); err == nil && p.Validate() != nil {
			t.Fatalf("accepted %q, which is not valid", b)
		}
	})
}
