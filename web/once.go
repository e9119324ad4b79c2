package web

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// Keys keeps what requests with a key came to, in the database of both Managers.
// (draft-ietf-httpapi-idempotency-key-header-07)
type Keys interface {
	// Kept returns what is kept for a key on this node; nil: nothing.
	Kept(ctx context.Context, scope, key string) (*KeptAnswer, error)
	// Begin notes that a request is begun; false: the key is there already. It may ask the Primary.
	Begin(ctx context.Context, scope, key string, sum [32]byte) (fresh bool, err error)
	// Keep stores the answer to a request that was begun; an empty one frees the key.
	Keep(ctx context.Context, scope, key string, sum [32]byte, answer string) error
}

// KeptAnswer is what is kept; an empty Answer: begun, and not known what it came to.
type KeptAnswer struct {
	Sum    [32]byte
	Answer string
}

// KeepAnswers is how long a key is remembered.
const KeepAnswers = 24 * time.Hour

const (
	keyHeader    = "Idempotency-Key"
	maxKey       = 255
	mostReplayed = 48 << 10 // bytes of an answer that is kept
	maxKeyedBody = 1 << 20  // bytes of a request with a key
	// onceLimit bounds a request with a key that its client no longer waits for.
	onceLimit = 2 * time.Minute
)

// running are the keys of requests under way on this node.
type running struct {
	mu   sync.Mutex
	keys map[string]bool
}

func (r *running) begin(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys[key] {
		return false
	}
	if r.keys == nil {
		r.keys = map[string]bool{}
	}
	r.keys[key] = true
	return true
}

func (r *running) end(key string) {
	r.mu.Lock()
	delete(r.keys, key)
	r.mu.Unlock()
}

// requestKey reads the key of a request: a string of structured fields (RFC 9651, 3.3.3), or bare.
// Empty: it has none.
func requestKey(r *http.Request) (string, error) {
	text := strings.TrimSpace(r.Header.Get(keyHeader))
	if len(text) >= 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	if len(text) > maxKey {
		return "", echo.NewHTTPError(http.StatusBadRequest, fmt.Sprintf("%s has %d characters: at most %d", keyHeader, len(text), maxKey))
	}
	for _, c := range []byte(text) {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return "", echo.NewHTTPError(http.StatusBadRequest, keyHeader+" may have visible ASCII characters only, without quotation marks and backslashes")
		}
	}
	if text == "" && r.Header.Get(keyHeader) != "" {
		return "", echo.NewHTTPError(http.StatusBadRequest, keyHeader+" is empty")
	}
	return text, nil
}

// fingerprint is taken over everything that makes a request another one. The body can be read again.
func fingerprint(r *http.Request) ([32]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxKeyedBody+1))
	if err != nil {
		return [32]byte{}, err
	}
	if len(body) > maxKeyedBody {
		return [32]byte{}, fmt.Errorf("more than %d bytes", maxKeyedBody)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00", r.Method, r.URL.RequestURI(), r.Header.Get("Content-Type"))
	h.Write(body)
	return [32]byte(h.Sum(nil)), nil
}

// keyed answers a call that comes with a key: the first time by doing it, then by the first answer,
// on whichever Manager. A request that came without a key is done each time.
func (s *Server) keyed(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		if r.Method == http.MethodGet || r.Method == http.MethodHead || !strings.HasPrefix(c.Path(), "/api/v1/") || c.Path() == telemetryPath {
			return next(c)
		}
		key, err := requestKey(r)
		if err != nil {
			return err
		}
		if key == "" {
			return next(c)
		}
		user, _ := c.Get("user").(string)
		scope := "user " + user
		sum, err := fingerprint(r)
		if err != nil {
			return echo.NewHTTPError(http.StatusBadRequest, "the body cannot be read: "+err.Error())
		}
		if !s.pending.begin(scope + "\x00" + key) {
			return s.inProgress(c)
		}
		defer s.pending.end(scope + "\x00" + key)
		if kept, err := s.cfg.Operations.Kept(r.Context(), scope, key); err != nil {
			return err
		} else if kept != nil {
			return s.replay(c, *kept, sum)
		}
		fresh, err := s.cfg.Operations.Begin(r.Context(), scope, key, sum)
		if err != nil {
			return answer(c, 0, nil, err)
		}
		if !fresh {
			kept, err := s.cfg.Operations.Kept(r.Context(), scope, key)
			if err != nil {
				return err
			}
			if kept == nil {
				kept = &KeptAnswer{Sum: sum}
			}
			return s.replay(c, *kept, sum)
		}
		return s.doOnce(c, next, scope, key, sum)
	}
}

// inProgress tells that the same key is being worked on.
func (s *Server) inProgress(c echo.Context) error {
	c.Response().Header().Set("Retry-After", "1")
	return answer(c, 0, nil, &Problem{Code: "in_progress", Message: "a request with this key is being worked on", Fix: "send it again in a moment to get its answer"})
}

// doOnce runs the call and keeps its answer before it is sent. What was refused or failed is not
// kept: the request may be sent again with its key.
func (s *Server) doOnce(c echo.Context, next echo.HandlerFunc, scope, key string, sum [32]byte) error {
	// The client's connection may be cut by the very thing that it asks for: what is begun goes on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request().Context()), onceLimit)
	defer cancel()
	c.SetRequest(c.Request().WithContext(ctx))
	w := c.Response().Writer
	rec := &recorded{ResponseWriter: w, code: http.StatusOK}
	c.Response().Writer = rec
	err := next(c)
	if err != nil {
		c.Error(err)
	}
	c.Response().Writer = w
	sealed := ""
	if rec.code < 300 && rec.body.Len() <= mostReplayed {
		sealed = s.seal(kept{rec.code, w.Header().Get("Content-Type"), rec.body.String()})
	}
	// The answer is kept although its client may be gone: it is for the client's next try.
	keep, stop := context.WithTimeout(context.WithoutCancel(ctx), holdLimit)
	defer stop()
	if kerr := s.cfg.Operations.Keep(keep, scope, key, sum, sealed); kerr != nil {
		s.cfg.Log.Warn("the answer to a request with a key is not kept", "path", c.Path(), "error", kerr)
	}
	w.WriteHeader(rec.code)
	_, _ = w.Write(rec.body.Bytes()) // the client may be gone
	return nil
}

// replay answers with what the first request came to.
func (s *Server) replay(c echo.Context, k KeptAnswer, sum [32]byte) error {
	switch first, ok := s.unseal(k); {
	case k.Sum != sum:
		return s.keyReused(c)
	case !ok:
		return answer(c, 0, nil, &Problem{Code: "outcome_unknown", Message: "a request with this key was begun, and its answer was not kept: it is not done again",
			Fix: "look whether it was done, and use another key for another try"})
	default:
		noStore(c)
		c.Response().Header().Set("Idempotency-Replayed", "true")
		return c.Blob(first.Code, first.Type, []byte(first.Body))
	}
}

func (s *Server) keyReused(c echo.Context) error {
	return answer(c, 0, nil, &Problem{Code: "key_reused", Message: "this key was used for another request",
		Fields: []FieldProblem{{Field: keyHeader, Code: "key_reused", Message: "it belongs to a request with another content", Fix: "use a new key for each new request"}}})
}

// kept is an answer as it is sealed.
type kept struct {
	Code int    `json:"c"`
	Type string `json:"t"`
	Body string `json:"b"`
}

// seal encrypts an answer with a key that both Managers have and that is not in the database: an
// answer may hold a secret that is shown once, such as that of a new field unit.
func (s *Server) seal(k kept) string {
	box := s.box()
	if box == nil {
		return ""
	}
	text, err := json.Marshal(k)
	if err != nil {
		return ""
	}
	nonce := make([]byte, box.NonceSize())
	_, _ = rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(box.Seal(nonce, nonce, text, nil))
}

func (s *Server) unseal(k KeptAnswer) (first kept, ok bool) {
	box := s.box()
	raw, err := base64.StdEncoding.DecodeString(k.Answer)
	if box == nil || err != nil || len(raw) <= box.NonceSize() {
		return first, false
	}
	text, err := box.Open(nil, raw[:box.NonceSize()], raw[box.NonceSize():], nil)
	if err != nil {
		return first, false
	}
	return first, json.Unmarshal(text, &first) == nil
}

func (s *Server) box() cipher.AEAD {
	key := s.cfg.SessionKey()
	if len(key) < leastKey {
		return nil
	}
	sum := sha256.Sum256(append([]byte("kept answers 1 "), key...))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return nil
	}
	box, err := cipher.NewGCM(block)
	if err != nil {
		return nil
	}
	return box
}

// recorded is an answer that is not sent yet.
type recorded struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (r *recorded) WriteHeader(code int)        { r.code = code }
func (r *recorded) Write(b []byte) (int, error) { return r.body.Write(b) }
