package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Timing holds the agent's clocks. A zero value takes the default named beside it.
type Timing struct {
	Stagger   time.Duration // 15 ms: a further attempt starts when the last has not connected by then; the next by half more, up to 120 ms
	Patience  time.Duration // 1 s: the same once one has connected and TLS is under way, which takes long when all units come at once
	Attempt   time.Duration // 3 s: one attempt, TLS included
	Connack   time.Duration // 1 s: for the CONNACK, then the connection is given up
	FastRetry time.Duration // 25 ms: what the pause after a failure grows to, for FastFor after a loss
	FastFor   time.Duration // 10 s
	SlowRetry time.Duration // 2 s: what it grows to afterwards, doubling
	PingBusy  time.Duration // 100 ms: ask for a sign of life when acknowledgements are due
	PingIdle  time.Duration // 1 s: the same when nothing is due
	Silence   time.Duration // 3 s without a sign of life, though asked: the connection is given up
	// SilenceBusy is the same when acknowledgements are due: 300 ms. A Manager that only commits
	// slowly still answers pings; one that froze or lost its power does not, and the kernel's
	// retransmissions would take longer to find the new Primary than a new connection does.
	SilenceBusy time.Duration
	Unsent      time.Duration // 1 s: TCP_USER_TIMEOUT, sent but not confirmed by the other side's kernel
}

func (t *Timing) normalise() {
	for _, d := range []struct {
		v         *time.Duration
		otherwise time.Duration
	}{
		{&t.Stagger, 15 * time.Millisecond}, {&t.Patience, time.Second}, {&t.Attempt, 3 * time.Second}, {&t.Connack, time.Second},
		{&t.FastRetry, 25 * time.Millisecond}, {&t.FastFor, 10 * time.Second}, {&t.SlowRetry, 2 * time.Second},
		{&t.PingBusy, 100 * time.Millisecond}, {&t.PingIdle, time.Second}, {&t.Silence, 3 * time.Second}, {&t.SilenceBusy, 300 * time.Millisecond}, {&t.Unsent, time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.otherwise
		}
	}
}

// Dialer opens one connection; net.Dialer's DialContext is one.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

const (
	maxAttempts = 24 // side by side
	maxStagger  = 120 * time.Millisecond
)

// race connects to the Manager, TLS included. A lost SYN is repeated by the kernel only after a
// second, so further attempts start while none has connected. Once one has, the Manager is there and busy with TLS:
// another attempt then starts only after Patience, since it may have frozen. The first that is
// through wins, the others are closed. Race returns as soon as all attempts under way have failed.
func (a *Agent) race(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.t.Attempt)
	type result struct {
		c   net.Conn
		err error
	}
	results := make(chan result, maxAttempts)
	connected := make(chan struct{}, maxAttempts)
	started, ended := 0, 0
	defer func() {
		cancel() // ends the others; each answers, so that its connection can be closed
		for ; ended < started; ended++ {
			if r := <-results; r.c != nil {
				_ = r.c.Close()
			}
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	stagger := a.t.Stagger
	for {
		select {
		case <-connected:
			stagger = a.t.Patience
			next.Reset(stagger)
		case <-next.C:
			if started == maxAttempts {
				continue
			}
			started++
			go func() {
				c, err := a.attempt(ctx, connected)
				results <- result{c, err}
			}()
			next.Reset(stagger)
			if stagger < maxStagger {
				stagger = min(stagger*3/2, maxStagger)
			}
		case r := <-results:
			ended++
			if r.err == nil || ended == started {
				return r.c, r.err
			}
		}
	}
}

func (a *Agent) attempt(ctx context.Context, connected chan<- struct{}) (net.Conn, error) {
	address := net.JoinHostPort(a.cfg.Profile.Host, strconv.Itoa(a.cfg.Profile.Port))
	c, err := a.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	connected <- struct{}{}
	if a.tls == nil {
		return c, nil
	}
	s := tls.Client(c, a.tls)
	if err := s.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, &handshakeError{err}
	}
	return s, nil
}

// handshakeError is a TLS failure.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// lasting reports whether err will not go away by itself: wrong certificate, refused access.
func lasting(err error) bool {
	var cert *tls.CertificateVerificationError
	var denied *DeniedError
	return errors.As(err, &cert) || errors.As(err, &denied)
}

// defaultDialer lets the kernel give up early on a peer that does not confirm what is sent.
func defaultDialer(unsent time.Duration) Dialer {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}}
	d.Control = func(_, _ string, raw syscall.RawConn) error {
		var opt error
		err := raw.Control(func(fd uintptr) {
			opt = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(unsent.Milliseconds()))
		})
		if err != nil || opt != nil {
			return fmt.Errorf("set TCP_USER_TIMEOUT: %w", errors.Join(err, os.NewSyscallError("setsockopt", opt)))
		}
		return nil
	}
	return d.DialContext
}

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h; package syscall lacks it.
const tcpUserTimeout = 18
