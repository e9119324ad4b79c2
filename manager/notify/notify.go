// Package notify tells people and programs outside what happened: by webhook and by e-mail. It has
// the configuration with its checks, the two ways to send, and the rules of when to send: at once,
// gathered while it flaps, again after a failure.
//
// It keeps nothing itself, knows no pool and starts no goroutine of its own; the composer gives it
// notices and keeps what became of them.
package notify

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds are what can be told of, in the order of the page.
var Kinds = []Kind{
	{"health", "Change of pool health", "Protected, Degraded, Failure, and that no Manager is Primary"},
	{"changeover", "Changeover", "a takeover or a hand over: another Manager is Primary"},
	{"takeback", "Take back", "the Master has taken Primary back"},
	{"drill", "Drill result", "how a failover drill went"},
	{"certificate", "Expiring certificate", "30, 14, 7 and 1 days before a certificate of the pages ends"},
	{"disk", "Disk nearly full", "the data folder of a Manager has little room left"},
}

// Kind is one thing that can be told of.
type Kind struct{ Code, Name, Help string }

// KindTest is the kind of a test message.
const KindTest = "test"

// Config says what is told to whom. It is replicated, so it holds no secret.
type Config struct {
	Kinds        []string      `json:"kinds"`         // of Kinds; others are not told
	QuietMinutes int           `json:"quiet_minutes"` // how long further notices of one kind are gathered; 0: each at once
	Webhook      WebhookConfig `json:"webhook"`
	Email        EmailConfig   `json:"email"`
}

// WebhookConfig is where JSON is posted to.
type WebhookConfig struct {
	Enabled   bool   `json:"enabled"`
	URL       string `json:"url"`
	AllowHTTP bool   `json:"allow_http"` // without encryption
	CA        string `json:"ca"`         // PEM of the certificate authority; empty: the system's
}

// EmailConfig is the mail server and who writes to whom.
type EmailConfig struct {
	Enabled  bool     `json:"enabled"`
	Server   string   `json:"server"`   // host:port
	Security string   `json:"security"` // starttls, tls, none
	Username string   `json:"username"` // empty: no login
	From     string   `json:"from"`
	To       []string `json:"to"`
	CA       string   `json:"ca"` // PEM, as above
}

// Secrets are kept apart from the Config and are never shown.
type Secrets struct {
	Webhook string // signs the posts; empty: they are not signed
	Email   string // password at the mail server
}

// The values of EmailConfig.Security.
const (
	SecurityStartTLS = "starttls"
	SecurityTLS      = "tls"
	SecurityNone     = "none"
)

// DefaultConfig sends nothing yet.
func DefaultConfig() Config {
	c := Config{QuietMinutes: 5, Email: EmailConfig{Security: SecurityStartTLS}}
	for _, k := range Kinds {
		c.Kinds = append(c.Kinds, k.Code)
	}
	return c
}

// Wants reports whether notices of that kind are sent.
func (c Config) Wants(kind string) bool { return slices.Contains(c.Kinds, kind) }

// Quiet is how long notices of one kind are gathered after one was sent.
func (c Config) Quiet() time.Duration { return time.Duration(c.QuietMinutes) * time.Minute }

// The channels.
const (
	ChannelWebhook = "webhook"
	ChannelEmail   = "email"
)

// Channels returns those that are enabled.
func (c Config) Channels() (all []string) {
	if c.Webhook.Enabled {
		all = append(all, ChannelWebhook)
	}
	if c.Email.Enabled {
		all = append(all, ChannelEmail)
	}
	return all
}

// FieldError is what is wrong with one value.
type FieldError struct{ Field, Code, Message, Fix string }

func (e *FieldError) Error() string { return e.Field + ": " + e.Message + ": " + e.Fix }

// Validate returns a FieldError for each value that cannot be used, joined; nil: all can.
func (c Config) Validate() error {
	var all []error
	wrong := func(field, code, message, fix string) {
		all = append(all, &FieldError{field, code, message, fix})
	}
	for _, k := range c.Kinds {
		if !slices.ContainsFunc(Kinds, func(known Kind) bool { return known.Code == k }) {
			wrong("kinds", "unknown", fmt.Sprintf("there is no kind %.40q", k), "use those of the list")
		}
	}
	if c.QuietMinutes < 0 || c.QuietMinutes > 24*60 {
		wrong("quiet_minutes", "range", fmt.Sprintf("%d minutes", c.QuietMinutes), "use 0 to 1440")
	}
	c.Webhook.validate(wrong)
	c.Email.validate(wrong)
	return errors.Join(all...)
}

func (w WebhookConfig) validate(wrong func(field, code, message, fix string)) {
	if w.CA != "" && !validCA(w.CA) {
		wrong("webhook.ca", "pem", "this is no certificate", "paste it as PEM, from BEGIN CERTIFICATE to END CERTIFICATE")
	}
	if w.URL == "" {
		if w.Enabled {
			wrong("webhook.url", "required", "the address is missing", "give the address that the posts go to")
		}
		return
	}
	u, err := url.Parse(w.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || len(w.URL) > 1000:
		wrong("webhook.url", "invalid", "this is no web address", "use one like https://alarms.example/hook")
	case u.User != nil:
		wrong("webhook.url", "password", "a password in the address would be shown", "take it out; the secret signs the posts")
	case u.Scheme == "http" && !w.AllowHTTP:
		wrong("webhook.url", "plain", "posts would not be encrypted", "use https, or allow http explicitly")
	}
}

func (e EmailConfig) validate(wrong func(field, code, message, fix string)) {
	if !slices.Contains([]string{SecurityStartTLS, SecurityTLS, SecurityNone}, e.Security) {
		wrong("email.security", "invalid", fmt.Sprintf("%.20q is not known", e.Security), "use starttls, tls or none")
	}
	if e.CA != "" && !validCA(e.CA) {
		wrong("email.ca", "pem", "this is no certificate", "paste it as PEM, from BEGIN CERTIFICATE to END CERTIFICATE")
	}
	if e.Server != "" || e.Enabled {
		host, port, err := net.SplitHostPort(e.Server)
		n, perr := strconv.Atoi(port)
		if err != nil || perr != nil || host == "" || n < 1 || n > 65535 || strings.ContainsAny(e.Server, " \t\r\n") {
			wrong("email.server", "invalid", "the mail server needs a name and a port", "use one like mail.example:587")
		}
	}
	if e.From != "" || e.Enabled {
		if !validAddress(e.From) {
			wrong("email.from", "invalid", "this is no mail address", "use one like pool@example.org")
		}
	}
	if e.Enabled && len(e.To) == 0 {
		wrong("email.to", "required", "nobody gets the mail", "give at least one address")
	}
	if len(e.To) > 50 {
		wrong("email.to", "range", fmt.Sprintf("%d addresses", len(e.To)), "use a mailing list for more than 50")
	}
	for _, to := range e.To {
		if !validAddress(to) {
			wrong("email.to", "invalid", fmt.Sprintf("%.60q is no mail address", to), "use addresses like operator@example.org")
		}
	}
	if len(e.Username) > 256 || strings.ContainsAny(e.Username, "\r\n\x00") {
		wrong("email.username", "invalid", "the user name cannot be sent", "use up to 256 characters on one line")
	}
}

// validAddress: an address alone, which nobody can smuggle a header in with.
func validAddress(text string) bool {
	a, err := mail.ParseAddress(text)
	return err == nil && a.Address == text && len(text) <= 254 && !strings.ContainsAny(text, "\r\n<>\"")
}

// Message is what is told. Its JSON is the body of the webhook.
type Message struct {
	ID       string         `json:"id"` // the same when it comes again
	Kind     string         `json:"kind"`
	TimeMS   int64          `json:"time_ms"`
	Time     string         `json:"time"` // RFC 3339
	Severity string         `json:"severity"`
	Pool     string         `json:"pool"`
	Node     string         `json:"node"`     // that it happened on
	Reporter string         `json:"reporter"` // that sends it
	Title    string         `json:"title"`
	Text     string         `json:"text"`
	Count    int            `json:"count,omitempty"` // of gathered ones: how many
	Event    map[string]any `json:"event,omitempty"`
}
