package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// SendTime bounds one attempt on one channel.
const SendTime = 10 * time.Second

// PostWebhook posts m as JSON, signed as the Standard Webhooks specification 1.0.0 says: header
// webhook-signature has "v1," and the base64 of HMAC-SHA256 over "webhook-id.webhook-timestamp.body".
// A secret that begins with "whsec_" is base64 behind it, any other is taken as it is.
//
// Nil: the other side answered 2xx. A redirect is followed on the same host alone, as a post.
func PostWebhook(ctx context.Context, c WebhookConfig, secret string, m Message, now time.Time) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, SendTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("address %s: %w", c.URL, err)
	}
	stamp := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "redundancypool-manager")
	req.Header.Set("webhook-id", m.ID)
	req.Header.Set("webhook-timestamp", stamp)
	if secret != "" {
		sig, err := Sign(secret, m.ID, stamp, body)
		if err != nil {
			return err
		}
		req.Header.Set("webhook-signature", sig)
	}
	trust, err := trusting(c.CA)
	if err != nil {
		return err
	}
	tr := &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true, Proxy: nil}
	client := &http.Client{Transport: tr, CheckRedirect: sameHost}
	resp, err := client.Do(req)
	if err != nil {
		return plain(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // only for the message
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	if to := resp.Header.Get("Location"); to != "" {
		return fmt.Errorf("answered %s to %s: enter the address that takes posts itself", resp.Status, to)
	}
	return fmt.Errorf("answered %s: %s", resp.Status, strings.Join(strings.Fields(strings.ToValidUTF8(string(text), "?")), " "))
}

// sameHost follows a redirect only where the signed post would go to the host that was configured,
// and stay a post.
func sameHost(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > 3 || req.Method != http.MethodPost || req.URL.Host != first.Host || first.Scheme == "https" && req.URL.Scheme != "https" {
		return http.ErrUseLastResponse
	}
	return nil
}

// plain takes what http.Client adds out: the address, which may be long.
func plain(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		if ue.Timeout() {
			return fmt.Errorf("no answer within %v", SendTime)
		}
		return ue.Err
	}
	return err
}

// Sign returns the header webhook-signature.
func Sign(secret, id, stamp string, body []byte) (string, error) {
	key := []byte(secret)
	if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
		var err error
		if key, err = base64.StdEncoding.DecodeString(text); err != nil {
			return "", errors.New("the secret behind whsec_ is no base64: store it again")
		}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// trusting returns the TLS of a client that believes the given authorities, else the system's.
func trusting(ca string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("the certificate authority is no certificate: paste it again")
		}
	}
	return c, nil
}

func validCA(text string) bool {
	return len(text) <= 64<<10 && x509.NewCertPool().AppendCertsFromPEM([]byte(text))
}
