package manager_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// api is a program on the client's host that calls the API at the virtual IP.
type api struct {
	s    *site
	http *http.Client
}

func (s *site) api(ca string) *api {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	return &api{s, &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			defer cancel()
			return s.host(clientHost).Dial(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: s.vip.Addr().String()},
	}}}
}

// post sends a request until it is answered, as a client does whose connection was cut.
func (a *api) post(path, user, password, key, body string) (code int, text string, replayed bool, tries int) {
	a.s.t.Helper()
	a.s.await(20*time.Second, path+" is answered", func() (bool, string) {
		tries++
		req, err := http.NewRequestWithContext(a.s.t.Context(), "POST", "https://"+a.s.vip.Addr().String()+":8443"+path, strings.NewReader(body))
		if err != nil {
			a.s.t.Fatal(err)
		}
		req.SetBasicAuth(user, password)
		req.Header.Set("Content-Type", "application/json")
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		resp, err := a.http.Do(req)
		if err != nil {
			return false, err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		code, text, replayed = resp.StatusCode, strings.TrimSpace(string(b)), resp.Header.Get("Idempotency-Replayed") == "true"
		return err == nil && (code != http.StatusConflict || !strings.Contains(text, "in_progress")), fmt.Sprint(code, text, err)
	})
	return code, text, replayed, tries
}

// A program that has Primary handed over through the very address that moves gets its answer by
// sending the request again with its key, and Primary moves once. A record written with a key is
// stored once, whichever Manager it comes to.
func TestARequestWithAKeyAcrossAHandOver(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	const password = "correct horse 42"
	if _, err := s.remote(masterHost).AddUser(t.Context(), "ann", password); err != nil {
		t.Fatal(err)
	}
	p := s.profile(masterHost, "a")
	a := s.api(p.CA)
	record := func(seq int) string {
		return fmt.Sprintf(`{"timestamp":1700000000000,"seq":%d,"node":"n","group":"g","values":{"v":1}}`, seq)
	}
	if code, text, replayed, _ := a.post("/api/v1/telemetry", p.Username, p.Password, `"k1"`, record(1)); code != 200 || replayed || text != `{"stored":1}` {
		t.Fatalf("a record: %d %s", code, text)
	}
	before := s.status(masterHost).Term
	code, text, _, tries := a.post("/api/v1/redundancy/handover", "ann", password, "move-1", "{}")
	if code != 200 || !strings.Contains(text, "Primary moved") {
		t.Errorf("hand over: %d %s after %d tries", code, text, tries)
	}
	t.Logf("hand over answered after %d tries: %s", tries, text)
	s.awaitStatus(backupHost, "primary")
	if again, same, replayed, _ := a.post("/api/v1/redundancy/handover", "ann", password, "move-1", "{}"); again != 200 || same != text || !replayed {
		t.Errorf("sent again: %d %s, replayed %t", again, same, replayed)
	}
	if st := s.status(backupHost); st.Status != "primary" || st.Term != before+1 {
		t.Errorf("the Backup is %s in term %d, after %d", st.Status, st.Term, before)
	}
	if code, _, replayed, _ := a.post("/api/v1/telemetry", p.Username, p.Password, `"k1"`, record(1)); code != 200 || !replayed {
		t.Errorf("the record again, at the new Primary: %d, replayed %t", code, replayed)
	}
	if code, text, _, _ := a.post("/api/v1/telemetry", p.Username, p.Password, `"k1"`, record(2)); code != 422 {
		t.Errorf("another record under its key: %d %s", code, text)
	}
	if code, _, replayed, _ := a.post("/api/v1/telemetry", p.Username, p.Password, "", record(1)); code != 200 || replayed {
		t.Errorf("the record again, without a key: %d", code)
	}
	var unit json.RawMessage
	for range 2 {
		code, text, replayed, _ := a.post("/api/v1/units", "ann", password, "unit-b", `{"name":"b"}`)
		if code != 201 || replayed != (unit != nil) || unit != nil && string(unit) != text {
			t.Errorf("a unit: %d, replayed %t", code, replayed)
		}
		unit = json.RawMessage(text)
	}
	var rows []string
	s.await(10*time.Second, "the record is on both Managers, once", func() (bool, string) {
		rows = nil
		for _, name := range []string{masterHost, backupHost} {
			err := s.remote(name).Query(t.Context(), "SELECT count(*) FROM sample", func([]string) error { return nil }, func(row []any) error { rows = append(rows, fmt.Sprint(row[0])); return nil })
			if err != nil {
				return false, err.Error()
			}
		}
		return strings.Join(rows, " ") == "1 1", fmt.Sprint(rows)
	})
}
