package trial

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A client of the API sends again what was cut off unanswered, under the same key, and writes down
// what was refused to it.
func TestAnAPIClientSendsAgainWithItsKey(t *testing.T) {
	var keys, bodies []string
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if user, secret, _ := r.BasicAuth(); err != nil || user != "u" || secret != "s" {
			t.Errorf("%v from %q", err, user)
		}
		keys, bodies = append(keys, r.Header.Get("Idempotency-Key")), append(bodies, string(b))
		switch len(keys) {
		case 1:
			panic(http.ErrAbortHandler) // cut, unanswered
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	transport := srv.Client().Transport.(*http.Transport)
	c := &httpClient{profile: profile{Username: "u", Password: "s"}, http: &http.Client{Transport: transport, Timeout: 10 * time.Second}, url: srv.URL, ledger: filepath.Join(t.TempDir(), "ledger"), boot: "b"}
	begin := time.Now()
	c.write(t.Context(), 7)
	l := NewLedger(c.ledger)
	if err := l.Read(); err != nil {
		t.Fatal(err)
	}
	if len(keys) != 3 || keys[0] != `"b-7"` || keys[1] != keys[0] || keys[2] != keys[0] || bodies[0] != bodies[2] || !strings.Contains(bodies[0], `"seq":7`) {
		t.Errorf("keys %q, bodies %q", keys, bodies)
	}
	if a := l.acked["u"]; len(a) != 1 || a[0].Seq != 7 || a[0].Sends != 3 {
		t.Errorf("acknowledged %+v", a)
	}
	if refused, resent := l.failures(begin); refused != 1 || resent != 1 {
		t.Errorf("%d refused, %d sent again", refused, resent)
	}
}
