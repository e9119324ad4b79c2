package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint is the SHA-256 of a public key in its SubjectPublicKeyInfo form (RFC 5280,
// 4.1.2.7). The zero value belongs to nobody and is never trusted.
type Fingerprint [sha256.Size]byte

// String returns the fingerprint for people: upper-case hex in groups of four digits.
func (f Fingerprint) String() string {
	digits := strings.ToUpper(hex.EncodeToString(f[:]))
	var b strings.Builder
	for i := 0; i < len(digits); i += 4 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(digits[i : i+4])
	}
	return b.String()
}

// IsZero reports whether f is the zero value.
func (f Fingerprint) IsZero() bool { return f == Fingerprint{} }

// MarshalText returns 64 lower-case hex digits. It never fails.
func (f Fingerprint) MarshalText() ([]byte, error) {
	return []byte(hex.EncodeToString(f[:])), nil
}

// UnmarshalText reads what MarshalText or String wrote; blanks, colons and dashes between the
// digits are ignored.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	got, err := ParseFingerprint(string(text))
	if err != nil {
		return err
	}
	*f = got
	return nil
}

// ParseFingerprint reads 64 hex digits of either case; blanks, colons and dashes are ignored.
func ParseFingerprint(text string) (Fingerprint, error) {
	digits := strings.Map(func(r rune) rune {
		if r == ' ' || r == ':' || r == '-' {
			return -1
		}
		return r
	}, text)
	if len(digits) != 2*len(Fingerprint{}) {
		return Fingerprint{}, fmt.Errorf("trust: a fingerprint has 64 hex digits, not %d: copy it whole", len(digits))
	}
	var f Fingerprint
	if _, err := hex.Decode(f[:], []byte(digits)); err != nil {
		return Fingerprint{}, errors.New("trust: a fingerprint has hex digits only (0-9, a-f): copy it again")
	}
	return f, nil
}

func fingerprintOf(publicKey any) (Fingerprint, error) {
	der, err := x509.MarshalPKIXPublicKey(publicKey)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("encode public key: %w", err)
	}
	return sha256.Sum256(der), nil
}
