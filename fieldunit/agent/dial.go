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
	Stagger   time.Duration // 120 ms: a further attempt starts when the last has not connected by then
	Attempt   time.Duration // 1.5 s: one attempt, TLS included
	Connack   time.Duration // 500 ms: for the CONNACK, then the connection is given up
	FastRetry time.Duration // 25 ms: between attempts that failed at once, for FastFor after a loss
	FastFor   time.Duration // 10 s
	SlowRetry time.Duration // 2 s: what the pause grows to afterwards, doubling, ±25 %
	PingBusy  time.Duration // 150 ms: ask for a sign of life when acknowledgements are due
	PingIdle  time.Duration // 1 s: the same when nothing is due
	Silence   time.Duration // 3 s without a sign of life, though asked: the connection is given up
	// SilenceBusy is the same when acknowledgements are due: 400 ms. A Manager that only commits
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
		{&t.Stagger, 120 * time.Millisecond}, {&t.Attempt, 1500 * time.Millisecond}, {&t.Connack, 500 * time.Millisecond},
		{&t.FastRetry, 25 * time.Millisecond}, {&t.FastFor, 10 * time.Second}, {&t.SlowRetry, 2 * time.Second},
		{&t.PingBusy, 150 * time.Millisecond}, {&t.PingIdle, time.Second}, {&t.Silence, 3 * time.Second}, {&t.SilenceBusy, 400 * time.Millisecond}, {&t.Unsent, time.Second},
	} {
		if *d.v <= 0 {
			*d.v = d.otherwise
		}
	}
}

// Dialer opens one connection; net.Dialer's DialContext is one.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// maxAttempts bounds how many attempts run side by side: Attempt divided by Stagger, rounded up.
const maxAttempts = 16

// race connects to the Manager, TLS included. A lost SYN is repeated by the kernel only after a
// second, so a further attempt starts each Stagger; the first that is through wins and the others are
// closed. It returns as soon as all running attempts have failed, without waiting for the rest.
func (a *Agent) race(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, a.t.Attempt)
	type result struct {
		c   net.Conn
		err error
	}
	results := make(chan result, maxAttempts)
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
	var last error
	for {
		select {
		case <-next.C:
			if started < maxAttempts {
				started++
				go func() {
					c, err := a.attempt(ctx)
					results <- result{c, err}
				}()
				next.Reset(a.t.Stagger)
			}
		case r := <-results:
			ended++
			if r.err == nil {
				return r.c, nil
			}
			last = r.err
			if ended == started {
				return nil, last
			}
		}
	}
}

func (a *Agent) attempt(ctx context.Context) (net.Conn, error) {
	address := net.JoinHostPort(a.cfg.Profile.Host, strconv.Itoa(a.cfg.Profile.Port))
	c, err := a.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
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

// handshakeError is a TLS failure. Unless the connection merely ended, trying fast is no use.
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
