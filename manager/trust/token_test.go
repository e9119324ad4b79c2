package trust

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var testBinding = bytes.Repeat([]byte{7}, 32)

func newToken(t *testing.T, s *Store, validity time.Duration) Token {
	t.Helper()
	tok, err := s.NewToken(validity)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestParseToken(t *testing.T) {
	s := open(t, t.TempDir())
	tok := newToken(t, s, 0)
	text := tok.Text()
	changed := func(i int) string {
		b := []byte(text)
		if b[i] == '7' {
			b[i] = '8'
		} else {
			b[i] = '7'
		}
		return string(b)
	}
	later := Token{Fingerprint: tok.Fingerprint}
	for _, tt := range []struct {
		name, text, want string // want: part of the error, empty: it is read
	}{
		{"as printed", text, ""},
		{"in lower case with a line end", strings.ToLower(text) + "\r\n", ""},
		{"without dashes", strings.ReplaceAll(text, "-", ""), ""},
		{"with look-alikes", strings.NewReplacer("1", "l", "0", "o").Replace(text), ""},
		{"empty", " \n", "empty"},
		{"the last character missing", text[:len(text)-1], "84 of 85"},
		{"copied twice", text + text, "170 characters"},
		{"copied with half of the screen", strings.Repeat(text, 9), "something else"},
		{"one wrong character in the middle", changed(30), "typing error"},
		{"one wrong character at the end", changed(len(text) - 1), "typing error"},
		{"a character that no token has", "*" + text[1:], "position 1"},
		{"not a token", strings.Repeat("A", 85), "typing error"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseToken(tt.text)
			if tt.want == "" {
				if err != nil || got != tok {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("error %v, want one with %q", err, tt.want)
			}
			if strings.Contains(err.Error(), text[40:60]) {
				t.Errorf("the error tells the token: %v", err)
			}
		})
	}
	if shown := fmt.Sprintf("%v %+v %#v", tok, tok, tok); strings.Contains(shown, text[45:65]) || strings.Contains(shown, "secret") {
		t.Errorf("formatting shows the secret: %s", shown)
	}
	if later.Text() == text {
		t.Error("the text does not depend on the secret")
	}
}

func TestPairing(t *testing.T) {
	s := open(t, t.TempDir())
	client := Fingerprint{5}
	tok := newToken(t, s, 0)
	answer, err := s.Pair(testBinding, tok.ClientProof(testBinding, client), PeerRecord{Fingerprint: client, Role: "master", Name: "cell 1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.CheckServer(testBinding, client, answer); err != nil {
		t.Errorf("the client does not believe the server: %v", err)
	}
	if !open(t, s.dir).Approved(client) {
		t.Error("the client is not approved after a restart")
	}
	if _, err := s.Pair(testBinding, tok.ClientProof(testBinding, client), PeerRecord{Fingerprint: client, Role: "master", Name: ""}); !errors.Is(err, ErrNoToken) {
		t.Errorf("used twice: %v, want ErrNoToken", err)
	}
	if tok.CheckServer(bytes.Repeat([]byte{8}, 32), client, answer) == nil {
		t.Error("an answer from another connection is believed")
	}
}

func TestPairingRefuses(t *testing.T) {
	client := Fingerprint{5}
	for _, tt := range []struct {
		name string
		// prepare returns the proof to send.
		prepare func(s *Store, c *clock) []byte
		want    error
	}{
		{"no token was ever made", func(*Store, *clock) []byte { return make([]byte, 32) }, ErrNoToken},
		{"a newer token replaced it", func(s *Store, _ *clock) []byte {
			old, _ := s.NewToken(0)
			s.NewToken(0)
			return old.ClientProof(testBinding, client)
		}, ErrWrongProof},
		{"its time is over", func(s *Store, c *clock) []byte {
			tok, _ := s.NewToken(time.Minute)
			c.now = c.now.Add(61 * time.Second)
			return tok.ClientProof(testBinding, client)
		}, ErrTokenExpired},
		{"the clock was set back by years", func(s *Store, c *clock) []byte {
			tok, _ := s.NewToken(time.Minute)
			c.now = c.now.AddDate(-5, 0, 0)
			return tok.ClientProof(testBinding, client)
		}, ErrTokenExpired},
		{"the proof is of another connection", func(s *Store, _ *clock) []byte {
			tok, _ := s.NewToken(0)
			return tok.ClientProof([]byte("other"), client)
		}, ErrWrongProof},
		{"the proof is of another client", func(s *Store, _ *clock) []byte {
			tok, _ := s.NewToken(0)
			return tok.ClientProof(testBinding, Fingerprint{6})
		}, ErrWrongProof},
		{"an empty proof", func(s *Store, _ *clock) []byte { s.NewToken(0); return nil }, ErrWrongProof},
		{"it was revoked", func(s *Store, _ *clock) []byte {
			tok, _ := s.NewToken(0)
			s.RevokeToken()
			return tok.ClientProof(testBinding, client)
		}, ErrNoToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			c := &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
			c.use(s)
			if _, err := s.Pair(testBinding, tt.prepare(s, c), PeerRecord{Fingerprint: client, Role: "master", Name: ""}); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if s.Approved(client) {
				t.Error("the client is approved")
			}
		})
	}
}

func TestFiveWrongTriesBurnTheToken(t *testing.T) {
	s := open(t, t.TempDir())
	tok := newToken(t, s, 0)
	client := Fingerprint{5}
	for i := range maxWrong {
		if i == 3 {
			s = open(t, s.dir) // a restart gives no new tries
		}
		_, err := s.Pair(testBinding, make([]byte, 32), PeerRecord{Fingerprint: client, Role: "master", Name: ""})
		if want := map[bool]error{true: ErrTokenBurnt, false: ErrWrongProof}[i == maxWrong-1]; !errors.Is(err, want) {
			t.Fatalf("try %d: %v, want %v", i+1, err, want)
		}
	}
	if _, err := s.Pair(testBinding, tok.ClientProof(testBinding, client), PeerRecord{Fingerprint: client, Role: "master", Name: ""}); !errors.Is(err, ErrTokenBurnt) {
		t.Errorf("the right proof after that: %v", err)
	}
	if _, ok := s.TokenPending(); ok {
		t.Error("a burnt token is shown as pending")
	}
	newToken(t, s, 0)
	if _, ok := s.TokenPending(); !ok {
		t.Error("a new token is not pending")
	}
}

func TestTokenSurvivesARestartButIsNotOnDisk(t *testing.T) {
	s := open(t, t.TempDir())
	tok := newToken(t, s, 0)
	onDisk, err := os.ReadFile(filepath.Join(s.dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(onDisk, tok.secret[:]) || bytes.Contains(onDisk, []byte(tok.Text())) {
		t.Error("the file holds the token itself")
	}
	parsed, err := ParseToken(tok.Text())
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, s.dir)
	if _, err := again.Pair(testBinding, parsed.ClientProof(testBinding, Fingerprint{5}), PeerRecord{Fingerprint: Fingerprint{5}, Role: "master", Name: ""}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestFingerprintText(t *testing.T) {
	f := Fingerprint{0xab, 0xcd, 0x01}
	plain, _ := f.MarshalText()
	for _, text := range []string{string(plain), f.String(), strings.ToUpper(string(plain))} {
		if got, err := ParseFingerprint(text); err != nil || got != f {
			t.Errorf("%q is read as %v (%v)", text, got, err)
		}
	}
	if !strings.HasPrefix(f.String(), "ABCD 0100 ") || len(plain) != 64 {
		t.Errorf("shown as %q and %q", f, plain)
	}
	for _, text := range []string{"", "ab", strings.Repeat("zz", 32)} {
		if _, err := ParseFingerprint(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(Token{Fingerprint: Fingerprint{1}, secret: [16]byte{2}}.Text())
	f.Add("")
	f.Add(strings.Repeat("0", 85))
	f.Add("I-L-O-U \xff")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := ParseToken(text)
		if err != nil {
			return
		}
		if again, err := ParseToken(tok.Text()); err != nil || again != tok {
			t.Errorf("%q is read, but its own text is not: %v", text, err)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"peers":[{"fingerprint":"` + strings.Repeat("ab", 32) + `","role":"backup","name":"x","approved_ms":1}]}`))
	f.Add([]byte(`{"version":1,"token":{"key":"AA==","created":"2026-01-01T00:00:00Z","expires":"2026-01-01T01:00:00Z","wrong":2}}`))
	f.Add([]byte(`{"version":1,"peers":null,"token":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		st, err := decodeState(text)
		if err == nil && st.Version != stateVersion {
			t.Errorf("accepted version %d", st.Version)
		}
	})
}
