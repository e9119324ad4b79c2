package trust

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// Token is the content of a pairing token: whom to trust, and a secret that proves the right to
// be trusted in return. Its secret appears in no error and no log line.
type Token struct {
	Fingerprint Fingerprint // of the node that made the token
	secret      [secretSize]byte
}

// The binary form: version, fingerprint, secret, checksum. 53 bytes are 85 characters of base32.
const (
	tokenVersion = 1
	secretSize   = 16 // 128 bits
	checksumSize = 4
	tokenSize    = 1 + sha256.Size + secretSize + checksumSize
	tokenChars   = (tokenSize*8 + 4) / 5
	tokenGroup   = 5
	keySize      = sha256.Size
)

// crockford is an alphabet without I, L, O and U, so that reading aloud and copying by hand work.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// String hides the secret, so that a token cannot get into a log by accident. See Text.
func (t Token) String() string { return "pairing token of " + t.Fingerprint.String() }

// GoString hides the secret as well.
func (t Token) GoString() string { return t.String() }

// Text returns the token for copying: 17 groups of 5 characters, joined by dashes.
func (t Token) Text() string {
	raw := make([]byte, 0, tokenSize)
	raw = append(raw, tokenVersion)
	raw = append(raw, t.Fingerprint[:]...)
	raw = append(raw, t.secret[:]...)
	raw = append(raw, tokenChecksum(raw)...)
	text := crockford.EncodeToString(raw)
	var b strings.Builder
	for i := 0; i < len(text); i += tokenGroup {
		if i > 0 {
			b.WriteByte('-')
		}
		b.WriteString(text[i:min(i+tokenGroup, len(text))])
	}
	return b.String()
}

// ParseToken reads what Text wrote. Case, blanks, dashes and line ends are ignored, and I, L and
// O are read as 1, 1 and 0. The error says what is wrong with the text (empty, too short, a
// character that cannot be, a typing error, another version) and never quotes it.
func ParseToken(text string) (Token, error) {
	compact, err := compactToken(text)
	if err != nil {
		return Token{}, err
	}
	switch n := len(compact); {
	case n == 0:
		return Token{}, errors.New("pairing token is empty: run \"redundancy token\" on the other node and copy its last line")
	case n < tokenChars:
		return Token{}, fmt.Errorf("pairing token has %d of %d characters: copy it whole", n, tokenChars)
	case n > tokenChars:
		return Token{}, fmt.Errorf("pairing token has %d characters instead of %d: something else was copied with it", n, tokenChars)
	}
	raw, err := crockford.DecodeString(compact)
	if err != nil || len(raw) != tokenSize {
		return Token{}, errors.New("pairing token cannot be read: copy it again")
	}
	body, sum := raw[:tokenSize-checksumSize], raw[tokenSize-checksumSize:]
	if string(sum) != string(tokenChecksum(body)) {
		return Token{}, errors.New("pairing token has a typing error (its checksum does not match): copy it again")
	}
	if body[0] != tokenVersion {
		return Token{}, fmt.Errorf("pairing token has version %d, this program knows %d: bring both nodes to one version",
			body[0], tokenVersion)
	}
	var t Token
	copy(t.Fingerprint[:], body[1:])
	copy(t.secret[:], body[1+sha256.Size:])
	if crockford.EncodeToString(raw) != compact {
		return Token{}, errors.New("pairing token has a typing error in its last character: copy it again")
	}
	return t, nil
}

// compactToken removes what people put between characters and maps look-alikes.
func compactToken(text string) (string, error) {
	if len(text) > 4*tokenChars {
		return "", fmt.Errorf("pairing token has %d bytes instead of about %d: something else was copied with it", len(text), tokenChars)
	}
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '-' || r == ' ' || r == '\t' || r == '\r' || r == '\n':
			continue
		case r >= 'a' && r <= 'z':
			r -= 'a' - 'A'
		}
		switch r {
		case 'I', 'L':
			r = '1'
		case 'O':
			r = '0'
		}
		if (r < '0' || r > '9') && (r < 'A' || r > 'Z') || r == 'U' {
			return "", fmt.Errorf("pairing token has a character at position %d that no token has: copy it again", i+1)
		}
		b.WriteRune(r)
	}
	return b.String(), nil
}

func tokenChecksum(body []byte) []byte {
	h := sha256.New()
	h.Write([]byte("redundancypool token checksum\x00"))
	h.Write(body)
	return h.Sum(nil)[:checksumSize]
}

// proofKey is what a node keeps of the secret: enough to check a proof, not enough to print the
// token again.
func (t Token) proofKey() []byte {
	m := hmac.New(sha256.New, t.secret[:])
	m.Write([]byte("redundancypool pairing key"))
	m.Write(t.Fingerprint[:])
	return m.Sum(nil)
}

// ClientProof is what the node that was given the token sends to its maker. binding is Binding of
// their connection, client the sender's own fingerprint.
func (t Token) ClientProof(binding []byte, client Fingerprint) []byte {
	return proof(t.proofKey(), "client", binding, client, t.Fingerprint)
}

// CheckServer reports whether got is the maker's answer to ClientProof, in constant time.
// Error: ErrWrongProof.
func (t Token) CheckServer(binding []byte, client Fingerprint, got []byte) error {
	want := proof(t.proofKey(), "server", binding, client, t.Fingerprint)
	if !hmac.Equal(want, got) {
		return ErrWrongProof
	}
	return nil
}

func proof(key []byte, side string, binding []byte, client, server Fingerprint) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(side))
	m.Write([]byte{0, byte(len(binding))})
	m.Write(binding)
	m.Write(client[:])
	m.Write(server[:])
	return m.Sum(nil)
}
