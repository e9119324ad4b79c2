package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"strings"
	"time"
)

// SendMail sends m to all of c.To in one mail. Nil: the server took it for every one of them.
func SendMail(ctx context.Context, c EmailConfig, password string, m Message, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, SendTime)
	defer cancel()
	host, _, err := net.SplitHostPort(c.Server)
	if err != nil {
		return fmt.Errorf("mail server %s: %w", c.Server, err)
	}
	trust, err := trusting(c.CA)
	if err != nil {
		return err
	}
	trust.ServerName = host
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.Server)
	if err != nil {
		return err
	}
	defer conn.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if c.Security == SecurityTLS {
		tc := tls.Client(conn, trust)
		if err := tc.HandshakeContext(ctx); err != nil {
			return fmt.Errorf("TLS with %s: %w", c.Server, err)
		}
		conn = tc
	}
	err = converse(conn, host, c, password, trust, mailText(c, m, now))
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer within %v: %w", SendTime, err)
	}
	return err
}

// converse is the dialogue of RFC 5321; each error names its step.
func converse(conn net.Conn, host string, c EmailConfig, password string, trust *tls.Config, text []byte) error {
	s, err := smtp.NewClient(conn, host)
	if err != nil {
		return fmt.Errorf("greeting of the mail server: %w", err)
	}
	defer s.Close()
	if err := s.Hello("localhost"); err != nil {
		return fmt.Errorf("EHLO: %w", err)
	}
	if c.Security == SecurityStartTLS {
		if ok, _ := s.Extension("STARTTLS"); !ok {
			return errors.New("the mail server offers no STARTTLS: choose tls, or none if the network is trusted")
		}
		if err := s.StartTLS(trust); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
	}
	if c.Username != "" {
		// PlainAuth itself refuses to send a password without TLS, except to this machine.
		if err := s.Auth(smtp.PlainAuth("", c.Username, password, host)); err != nil {
			return fmt.Errorf("login as %s: %w", c.Username, err)
		}
	}
	if err := s.Mail(c.From); err != nil {
		return fmt.Errorf("sender %s: %w", c.From, err)
	}
	for _, to := range c.To {
		if err := s.Rcpt(to); err != nil {
			return fmt.Errorf("recipient %s: %w", to, err)
		}
	}
	w, err := s.Data()
	if err != nil {
		return fmt.Errorf("DATA: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("send the text: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("the mail server did not take the mail: %w", err)
	}
	_ = s.Quit() // it has been taken
	return nil
}

// mailText is the mail as RFC 5322 wants it. Nothing in m can begin a header: the subject is one
// encoded line, everything else is body.
func mailText(c EmailConfig, m Message, now time.Time) []byte {
	var b bytes.Buffer
	subject := strings.Join(strings.Fields(m.Title), " ")
	domain := "localhost"
	if _, d, ok := strings.Cut(c.From, "@"); ok {
		domain = d
	}
	for _, h := range [][2]string{
		{"From", c.From}, {"To", strings.Join(c.To, ",\r\n ")}, {"Subject", mime.QEncoding.Encode("utf-8", subject)},
		{"Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700")}, {"Message-ID", "<" + safeID(m.ID) + "@" + domain + ">"},
		{"Auto-Submitted", "auto-generated"}, {"MIME-Version", "1.0"},
		{"Content-Type", "text/plain; charset=utf-8"}, {"Content-Transfer-Encoding", "quoted-printable"},
	} {
		b.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	b.WriteString("\r\n")
	q := quotedprintable.NewWriter(&b)
	_, _ = q.Write([]byte(body(m)))
	_ = q.Close()
	return b.Bytes()
}

func body(m Message) string {
	var b strings.Builder
	b.WriteString(m.Text + "\n\n")
	for _, f := range [][2]string{{"Time", m.Time}, {"Node", m.Node}, {"Severity", m.Severity}, {"Kind", m.Kind}, {"Pool", m.Pool}, {"Sent by", m.Reporter}, {"Notice", m.ID}} {
		if f[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", f[0], f[1])
		}
	}
	return b.String()
}

// safeID is an id fit for a header.
func safeID(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, id)
}
