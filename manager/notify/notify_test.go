package notify

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func message(id string) Message {
	return Message{ID: id, Kind: "health", TimeMS: now.UnixMilli(), Time: now.Format(time.RFC3339), Severity: "warning", Pool: "p", Node: "m1", Title: "Pool health: Degraded", Text: "The Backup is unreachable."}
}

func TestWebhookIsSignedAndCarriesItsID(t *testing.T) {
	var got Message
	var problem string
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		want, err := Sign("whsec_"+base64.StdEncoding.EncodeToString([]byte("key")), r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
		if err != nil || r.Header.Get("webhook-signature") != want || r.Method != http.MethodPost || r.Header.Get("webhook-timestamp") != "1767323045" {
			problem = fmt.Sprint(r.Method, r.Header, err)
		}
		_ = json.Unmarshal(body, &got)
	}))
	defer srv.Close()
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("key"))
	if err := PostWebhook(t.Context(), WebhookConfig{URL: srv.URL, AllowHTTP: true}, secret, message("id1"), now); err != nil {
		t.Fatal(err)
	}
	if problem != "" || got.ID != "id1" || got.Title != "Pool health: Degraded" {
		t.Errorf("got %+v; %s", got, problem)
	}
	// The example of the Standard Webhooks specification.
	sig, err := Sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if err != nil || sig != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("signature %q, %v", sig, err)
	}
}

func TestWebhookFailuresAreExact(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	mux := http.NewServeMux()
	mux.HandleFunc("/busy", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "come back\nlater", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusPermanentRedirect) })
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	posts := 0
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts++
		}
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := ln.Addr().String()
	ln.Close()
	for _, tt := range []struct{ name, url, want string }{
		{"an answer of 503", srv.URL + "/busy", "answered 503 Service Unavailable: come back later"},
		{"a redirect to another host", srv.URL + "/away", "answered 307 Temporary Redirect to " + other.URL},
		{"a redirect that would lose the post", srv.URL + "/get", "answered 302 Found to /ok"},
		{"a redirect on the same host", srv.URL + "/moved", ""},
		{"nobody listens", "http://" + closed, "connection refused"},
	} {
		err := PostWebhook(t.Context(), WebhookConfig{URL: tt.url}, "s", message("x"), now)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	if elsewhere != 0 || posts != 1 {
		t.Errorf("%d posts went to another host, %d arrived", elsewhere, posts)
	}
	tls := httptest.NewUnstartedServer(mux)
	tls.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	tls.StartTLS()
	defer tls.Close()
	if err := PostWebhook(t.Context(), WebhookConfig{URL: tls.URL + "/ok"}, "", message("x"), now); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody: %v", err)
	}
}

// mailServer takes one mail and returns the dialogue and the text.
func mailServer(t *testing.T, offers string, refuse string) (addr string, result func() (dialogue []string, text string)) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	type all struct {
		lines []string
		text  string
	}
	done := make(chan all, 1)
	go func() {
		var a all
		defer func() { done <- a }()
		c, err := ln.Accept()
		ln.Close()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		r := bufio.NewReader(c)
		fmt.Fprint(c, "220 test ESMTP\r\n")
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSpace(line)
			a.lines = append(a.lines, line)
			switch verb := strings.ToUpper(strings.Fields(line + " x")[0]); {
			case refuse != "" && strings.HasPrefix(line, refuse):
				fmt.Fprint(c, "550 5.7.1 not you\r\n")
			case verb == "EHLO":
				fmt.Fprintf(c, "250-test\r\n%s250 8BITMIME\r\n", offers)
			case verb == "DATA":
				fmt.Fprint(c, "354 go on\r\n")
				for {
					l, err := r.ReadString('\n')
					if err != nil || l == ".\r\n" {
						break
					}
					a.text += l
				}
				fmt.Fprint(c, "250 taken\r\n")
			case verb == "AUTH":
				fmt.Fprint(c, "235 yes\r\n")
			case verb == "QUIT":
				fmt.Fprint(c, "221 bye\r\n")
				return
			default:
				fmt.Fprint(c, "250 ok\r\n")
			}
		}
	}()
	return ln.Addr().String(), func() ([]string, string) { a := <-done; return a.lines, a.text }
}

func mailConfig(server string) EmailConfig {
	return EmailConfig{Enabled: true, Server: server, Security: SecurityNone, From: "pool@example.org", To: []string{"a@example.org", "b@example.org"}}
}

func TestMailArrivesWithoutForgedHeaders(t *testing.T) {
	addr, result := mailServer(t, "250-AUTH PLAIN\r\n", "")
	c := mailConfig(addr)
	c.Username = "pool"
	m := message("id\r\nBcc: x@evil")
	m.Title = "Störung\r\nBcc: evil@example.org"
	m.Text = ".\r\nRCPT TO:<evil@example.org>\n" + strings.Repeat("ö", 400)
	if err := SendMail(t.Context(), c, "pass", m, now); err != nil {
		t.Fatal(err)
	}
	lines, text := result()
	dialogue := strings.Join(lines, "\n")
	if strings.Count(dialogue, "RCPT TO") != 2 || strings.Contains(dialogue, "evil") || !strings.Contains(dialogue, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00pool\x00pass"))) {
		t.Errorf("dialogue:\n%s", dialogue)
	}
	got, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(got.Header.Get("Subject"))
	if err != nil || subject != "Störung Bcc: evil@example.org" || got.Header.Get("Bcc") != "" || got.Header.Get("To") != "a@example.org, b@example.org" {
		t.Errorf("headers %v, subject %q", got.Header, subject)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(got.Body))
	if err != nil || !strings.Contains(string(body), strings.Repeat("ö", 400)) || !strings.Contains(string(body), "Node: m1") {
		t.Errorf("body %q, %v", body, err)
	}
	for _, line := range strings.Split(text, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a line of %d characters", len(line))
		}
	}
}

func TestMailFailuresNameTheirStep(t *testing.T) {
	for _, tt := range []struct {
		name, offers, refuse, want string
		change                     func(*EmailConfig)
	}{
		{"a recipient is refused", "", "RCPT TO:<b@", "recipient b@example.org: 550", nil},
		{"the sender is refused", "", "MAIL", "sender pool@example.org: 550", nil},
		{"the login is refused", "250-AUTH PLAIN\r\n", "AUTH", "login as u: 550", func(c *EmailConfig) { c.Username = "u" }},
		{"no STARTTLS", "", "", "offers no STARTTLS", func(c *EmailConfig) { c.Security = SecurityStartTLS }},
	} {
		addr, result := mailServer(t, tt.offers, tt.refuse)
		c := mailConfig(addr)
		if tt.change != nil {
			tt.change(&c)
		}
		if err := SendMail(t.Context(), c, "pw", message("x"), now); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "pw") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		result()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := SendMail(ctx, mailConfig(ln.Addr().String()), "", message("x"), now); err == nil {
		t.Error("a server that says nothing took the mail")
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := DefaultConfig()
	good.Webhook = WebhookConfig{Enabled: true, URL: "https://a.example/hook"}
	good.Email = mailConfig("mail.example:25")
	for _, tt := range []struct{ key, value, field string }{
		{"webhook.url", "http://a.example", "webhook.url"}, {"webhook.url", "https://u:p@a.example", "webhook.url"}, {"webhook.url", "ftp://x", "webhook.url"},
		{"webhook.url", "", "webhook.url"}, {"webhook.ca", "x", "webhook.ca"}, {"email.server", "mail.example", "email.server"},
		{"email.from", "a@b\r\nBcc: c@d", "email.from"}, {"email.from", "Name <a@b.example>", "email.from"}, {"email.to", "", "email.to"},
		{"email.to", "a@b.example, nobody", "email.to"}, {"email.security", "ssl", "email.security"}, {"kinds", "health,weather", "kinds"},
		{"quiet_minutes", "-1", "quiet_minutes"}, {"quiet_minutes", "x", "quiet_minutes"}, {"what", "x", "what"},
	} {
		c, err := good.Apply(map[string]string{tt.key: tt.value})
		if err == nil {
			err = c.Validate()
		}
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != tt.field || fe.Fix == "" {
			t.Errorf("%s=%q: %v", tt.key, tt.value, err)
		}
	}
	again, err := DefaultConfig().Apply(good.Values())
	if err != nil || again.Validate() != nil || fmt.Sprint(again) != fmt.Sprint(good) {
		t.Errorf("the values lead back to %+v, %v", again, err)
	}
}
