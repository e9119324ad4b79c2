package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Forwarder carries TCP connections from a listener of this machine to an address of the LAN.
type Forwarder struct {
	ln     net.Listener
	from   *Host
	target string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// Forward accepts on ln, dials target from inside the host for each connection, and copies both
// ways until Close. It owns ln from now on.
func (h *Host) Forward(ln net.Listener, target string) *Forwarder {
	ctx, cancel := context.WithCancel(context.Background())
	f := &Forwarder{ln: ln, from: h, target: target, ctx: ctx, cancel: cancel}
	f.wg.Add(1)
	go f.accept()
	return f
}

// Addr is where the forwarder listens.
func (f *Forwarder) Addr() net.Addr { return f.ln.Addr() }

// Close stops listening, cuts all connections and waits for them.
func (f *Forwarder) Close() error {
	f.cancel()
	err := f.ln.Close()
	f.wg.Wait()
	return err
}

func (f *Forwarder) accept() {
	defer f.wg.Done()
	for {
		conn, err := f.ln.Accept()
		if f.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			if conn != nil {
				conn.Close()
			}
			return
		}
		if err != nil { // out of descriptors, for example: it passes
			select {
			case <-f.ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			f.carry(conn)
		}()
	}
}

// carry joins one connection to the target. A target that cannot be reached resets the
// connection, so that a browser learns it at once.
func (f *Forwarder) carry(in net.Conn) {
	defer in.Close()
	ctx, cancel := context.WithTimeout(f.ctx, 5*time.Second)
	out, err := f.from.Dial(ctx, "tcp", f.target)
	cancel()
	if err != nil {
		if t, ok := in.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		return
	}
	defer out.Close()
	stop := context.AfterFunc(f.ctx, func() { in.Close(); out.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		_, _ = io.Copy(out, in) // either end may go away at any time
		closeWrite(out)
	}()
	_, _ = io.Copy(in, out)
	closeWrite(in)
	wg.Wait()
}

func closeWrite(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
}

// ListenLoopback listens on a loopback address of this machine; when the port is taken there, on
// any free one.
func ListenLoopback(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err == nil {
		return ln, nil
	}
	host, _, splitErr := net.SplitHostPort(addr)
	if splitErr != nil {
		return nil, fmt.Errorf("listen on %q: %w", addr, splitErr)
	}
	ln, anyErr := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if anyErr != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, errors.Join(err, anyErr))
	}
	return ln, nil
}
