package trial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// StartHTTP adds n units that send their records over HTTP, each with an Idempotency-Key of its own,
// rate records a second, until ctx ends. They are written down in the ledger like the others: a
// request that was cut unanswered is sent again with its key, one that was answered with anything
// but success counts as refused. It may be called once, after StartUnits.
func (p *Pool) StartHTTP(ctx context.Context, n int, rate float64) error {
	if p.ledger == nil {
		return errors.New("start HTTP clients: start units first")
	}
	if rate <= 0 {
		return fmt.Errorf("start HTTP clients: rate %v: must be above 0", rate)
	}
	for i := range n {
		name := fmt.Sprintf("http-%02d", i+1)
		path, err := p.AddUnit(ctx, name)
		if err != nil {
			return err
		}
		pr, err := readProfile(path)
		if err != nil {
			return err
		}
		c, err := p.httpClient(pr)
		if err != nil {
			return err
		}
		c.ledger = filepath.Join(filepath.Dir(path), "ledger.jsonl")
		p.ledger.files = append(p.ledger.files, &ledgerFile{path: c.ledger})
		p.units = append(p.units, name)
		go c.run(ctx, time.Duration(float64(time.Second)/rate))
	}
	return nil
}

// httpClient is one unit that writes by the API.
type httpClient struct {
	profile profile
	http    *http.Client
	url     string
	ledger  string
	boot    string
}

// How long a client waits for a connection and for an answer, before it tries again.
const (
	httpDial   = 50 * time.Millisecond
	httpAnswer = 3 * time.Second
	httpPause  = 5 * time.Millisecond
)

func (p *Pool) httpClient(pr profile) (*httpClient, error) {
	host, err := p.lab.Host("client")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(pr.CA)) {
		return nil, fmt.Errorf("HTTP client %s: its profile has no certificate", pr.Username)
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, httpDial) // a lost SYN would cost a second
			defer cancel()
			return host.Dial(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: pr.Host}, MaxIdleConnsPerHost: 1,
	}
	return &httpClient{
		profile: pr, http: &http.Client{Transport: transport, Timeout: httpAnswer},
		url: "https://" + net.JoinHostPort(pr.Host, "8443") + "/api/v1/telemetry", boot: fmt.Sprint(time.Now().UnixNano()),
	}, nil
}

func (c *httpClient) run(ctx context.Context, every time.Duration) {
	for seq := uint64(1); pause(ctx, every); seq++ {
		c.write(ctx, seq)
	}
}

// write sends one record until it is answered.
func (c *httpClient) write(ctx context.Context, seq uint64) {
	sent := time.Now()
	body := fmt.Sprintf(`{"timestamp":%d,"seq":%d,"boot":%q,"node":"http","group":"g","values":{"n":%d}}`, sent.UnixMilli(), seq, c.boot, seq)
	for sends := 1; ctx.Err() == nil; sends++ {
		code, text, err := c.post(ctx, fmt.Sprintf("%s-%d", c.boot, seq), body)
		switch {
		case err != nil:
		case code == http.StatusOK:
			c.note(map[string]any{"unit": c.profile.Username, "boot": c.boot, "seq": seq, "sent_ns": sent.UnixNano(), "acked_ns": time.Now().UnixNano(), "sends": sends})
			return
		default:
			c.note(map[string]any{"unit": c.profile.Username, "boot": c.boot, "seq": seq, "sent_ns": sent.UnixNano(), "refused_ns": time.Now().UnixNano(),
				"reason": fmt.Sprintf("HTTP %d %s", code, text)})
		}
		if !pause(ctx, httpPause) {
			return
		}
	}
}

func (c *httpClient) post(ctx context.Context, key, body string) (code int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.SetBasicAuth(c.profile.Username, c.profile.Password)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", `"`+key+`"`)
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return resp.StatusCode, strings.TrimSpace(string(answer)), err // an answer that is cut off is none
}

// note adds a line to this client's file of the ledger.
func (c *httpClient) note(line map[string]any) {
	b, err := json.Marshal(line)
	if err != nil {
		return
	}
	f, err := os.OpenFile(c.ledger, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	_, _ = f.Write(append(b, '\n')) // without its line the record counts as not acknowledged
}
