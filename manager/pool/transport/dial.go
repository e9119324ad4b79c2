package transport

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// Dialer opens connections to other members' pool ports.
type Dialer struct {
	// TLS returns the configuration that accepts exactly the peer with that fingerprint.
	TLS func(fingerprint string) *tls.Config
	// Local, if set, returns the local address to dial from for a path.
	Local func(path int) net.Addr
	// Failed, if set, hears of each connection that was made and whose handshake then came to
	// nothing, with the cause. It must not block.
	Failed func(addr, fingerprint string, err error)
}

// Dial connects to addr, proves both identities and says h. Errors: a *Refusal when the peer
// said no, else what the network or TLS reported. ctx bounds all of it.
func (d *Dialer) Dial(ctx context.Context, addr, fingerprint string, h Hello) (*Conn, error) {
	h.Version = Version
	nd := net.Dialer{}
	if d.Local != nil {
		nd.LocalAddr = d.Local(h.Path)
	}
	raw, err := nd.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	tc := tls.Client(raw, d.TLS(fingerprint))
	c, err := d.greet(tc, h)
	if err != nil {
		tc.Close()
		if d.Failed != nil {
			d.Failed(addr, fingerprint, err)
		}
		if ctx.Err() != nil && !isRefusal(err) {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		return nil, err
	}
	if !stop() {
		tc.Close()
		return nil, context.Cause(ctx)
	}
	_ = raw.SetDeadline(time.Time{})
	return c, nil
}

func isRefusal(err error) bool { return errors.As(err, new(*Refusal)) }

func (d *Dialer) greet(tc *tls.Conn, h Hello) (*Conn, error) {
	if err := tc.Handshake(); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if err := WriteFrame(tc, h); err != nil {
		return nil, fmt.Errorf("send hello: %w", err)
	}
	var w welcome
	if err := ReadFrame(tc, &w); err != nil {
		return nil, fmt.Errorf("read welcome: %w", err)
	}
	if w.Code != "" {
		return nil, &Refusal{Code: w.Code, Text: w.Text, Data: w.Data}
	}
	return &Conn{Conn: tc, Hello: h, tls: tc}, nil
}

// reply is the second frame of a call.
type reply struct {
	Refusal *Refusal        `json:"refusal,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
}

// Call asks the member at addr one question and decodes its answer into answer (nil: ignored).
// The question may depend on the connection, for proofs bound to it: ask gets its TLS state.
func (d *Dialer) Call(ctx context.Context, addr, fingerprint string, h Hello, ask func(tls.ConnectionState) (any, error), answer any) error {
	h.Kind = KindCall
	c, err := d.Dial(ctx, addr, fingerprint, h)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q, err := ask(c.TLS())
	if err != nil {
		return err
	}
	if err := WriteFrame(c, q); err != nil {
		return fmt.Errorf("send %s: %w", h.Method, err)
	}
	var r reply
	if err := ReadFrame(c, &r); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", h.Method, context.Cause(ctx))
		}
		return fmt.Errorf("read answer to %s: %w", h.Method, err)
	}
	if r.Refusal != nil {
		return r.Refusal
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(r.Body, answer); err != nil {
		return fmt.Errorf("decode answer to %s: %w", h.Method, err)
	}
	return nil
}

// callTimeout bounds how long the answering side of a call may take.
const callTimeout = 60 * time.Second

func serveCall(c *Conn, answer func(context.Context, *Conn, []byte) (any, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	_ = c.SetDeadline(time.Now().Add(callTimeout))
	var body json.RawMessage
	if err := ReadFrame(c, &body); err != nil {
		return
	}
	v, err := answer(ctx, c, body)
	var r reply
	if err == nil {
		r.Body, err = json.Marshal(v)
	}
	if err != nil {
		r.Refusal = &Refusal{Code: "failed", Text: err.Error()}
		errors.As(err, &r.Refusal)
	}
	_ = WriteFrame(c, r)
}
