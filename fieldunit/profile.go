package fieldunit

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// TypeManager is the only type of destination that a Profile can have today.
const TypeManager = "manager"

// Profile is a destination profile: all that a field unit needs to reach its Manager. The
// Manager issues it, the unit's agent reads it. It holds the unit's secret: keep the file 0600.
type Profile struct {
	Name        string `json:"name"` // what people call the destination
	Type        string `json:"type"` // TypeManager
	Host        string `json:"host"` // the virtual IP, or a name that resolves to it
	Port        int    `json:"port"`
	TLS         bool   `json:"tls"`
	CA          string `json:"ca,omitempty"` // PEM; what the Manager's certificate must chain to
	Username    string `json:"username"`     // the unit's name
	Password    string `json:"password"`
	Autoconnect bool   `json:"autoconnect"` // connect at start and again after each loss
}

// ParseProfile reads one JSON object strictly: unknown fields and trailing text are errors, so
// that a misspelt field is noticed where it was written.
func ParseProfile(data []byte) (Profile, error) {
	var p Profile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Profile{}, fmt.Errorf("profile is not the JSON object that the Manager issues: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Profile{}, errors.New("profile has text after its JSON object: keep one profile per file")
	}
	return p, p.Validate()
}

// Validate reports the first field that cannot work and what to put there.
func (p Profile) Validate() error {
	switch {
	case p.Name == "" || len(p.Name) > MaxLabel || !printable(p.Name):
		return fmt.Errorf("profile: name %.80q: give 1 to %d printable characters", p.Name, MaxLabel)
	case p.Type != TypeManager:
		return fmt.Errorf("profile: type %.80q: only %q is known", p.Type, TypeManager)
	case p.Port < 1 || p.Port > 65535:
		return fmt.Errorf("profile: port %d: use 1 to 65535, 8883 by default", p.Port)
	case p.Password == "" || len(p.Password) > MaxLabel:
		return fmt.Errorf("profile: password has %d bytes: use the 1 to %d that the Manager issued", len(p.Password), MaxLabel)
	case p.TLS && p.CA == "":
		return errors.New(`profile: tls is true but ca is empty: take the profile from the Manager again, or set "tls": false for its plain port`)
	}
	if err := ValidateName(p.Username); err != nil {
		return fmt.Errorf("profile: username: %w", err)
	}
	if err := checkHost(p.Host); err != nil {
		return fmt.Errorf("profile: host %.80q: %w", p.Host, err)
	}
	if p.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(p.CA)) {
		return errors.New("profile: ca holds no PEM certificate: take the profile from the Manager again")
	}
	return nil
}

func checkHost(h string) error {
	if a, err := netip.ParseAddr(h); err == nil {
		if a.IsUnspecified() || a.IsMulticast() {
			return errors.New("is no host's address: use the virtual IP")
		}
		return nil
	}
	if h == "" || len(h) > 253 {
		return errors.New("use the virtual IP, or a name of at most 253 characters")
	}
	for part := range strings.SplitSeq(h, ".") {
		if part == "" || len(part) > 63 || part[0] == '-' || part[len(part)-1] == '-' || strings.IndexFunc(part, notHost) >= 0 {
			return errors.New("use the virtual IP, or a name (RFC 1123)")
		}
	}
	return nil
}

func notHost(r rune) bool { return r > 127 || !letter(byte(r)) && r != '-' && r != '_' }

// TLSConfig returns how to check the Manager: the certificate must chain to CA and carry Host.
// It is nil when the profile says no TLS.
func (p Profile) TLSConfig() *tls.Config {
	if !p.TLS {
		return nil
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(p.CA))
	return &tls.Config{RootCAs: roots, ServerName: p.Host, MinVersion: tls.VersionTLS12}
}
