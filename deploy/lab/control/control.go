// Package control lets a second terminal steer a running lab: the process that owns the lab
// serves a Unix socket in the lab's folder, other processes send it orders and print its answer.
//
// It only carries orders; what they mean is the owner's affair. cmd/poollab calls it on both
// sides. The folder's permissions say who may send.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Order is one thing to do.
type Order struct {
	Verb    string            `json:"verb"`
	Host    string            `json:"host,omitempty"`
	Peer    string            `json:"peer,omitempty"`
	Options map[string]string `json:"options,omitempty"`
}

// reply is one line of an answer; the last one has Done set.
type reply struct {
	Line  string `json:"line,omitempty"`
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}

// Handler carries out an order and says what it did, line by line. It is called concurrently.
type Handler func(ctx context.Context, o Order, say func(string)) error

// ErrNoLab is returned by Send when no lab runs in the folder.
var ErrNoLab = errors.New("no lab is running here: start one with 'poollab up' or 'poollab demo', or name its folder with --dir")

// maxOrder bounds what a client may send, in bytes.
const maxOrder = 64 << 10

// Serve answers orders on a Unix socket at path until ctx ends, and waits for those in work.
// A socket that an ended owner left there is replaced.
func Serve(ctx context.Context, path string, handle Handler) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old control socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen on control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("restrict control socket: %w", err), ln.Close())
	}
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := ln.Accept()
		if ctx.Err() != nil {
			if conn != nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on control socket: %w", err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			answer(ctx, conn, handle)
		}()
	}
}

func answer(ctx context.Context, conn net.Conn, handle Handler) {
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return
	}
	var mu sync.Mutex
	out := json.NewEncoder(conn)
	write := func(r reply) {
		mu.Lock()
		defer mu.Unlock()
		_ = out.Encode(r) // a client that has gone away misses its answer, nothing else
	}
	var o Order
	d := json.NewDecoder(io.LimitReader(conn, maxOrder))
	d.DisallowUnknownFields()
	if err := d.Decode(&o); err != nil {
		write(reply{Done: true, Error: fmt.Sprintf("order is not understood: %v: use the same version of poollab in both terminals", err)})
		return
	}
	err := handle(ctx, o, func(line string) { write(reply{Line: line}) })
	last := reply{Done: true}
	if err != nil {
		last.Error = err.Error()
	}
	write(last)
}

// Send gives an order to the lab whose socket is at path, writes the lines of its answer to out,
// and returns the order's own error. ctx ends the waiting, not the order.
func Send(ctx context.Context, path string, o Order, out io.Writer) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNoLab
	}
	if err != nil {
		return fmt.Errorf("reach the lab: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(o); err != nil {
		return fmt.Errorf("send order: %w", err)
	}
	in := json.NewDecoder(conn)
	for {
		var r reply
		if err := in.Decode(&r); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("the lab ended before it answered: %w", err)
		}
		if r.Line != "" {
			fmt.Fprintln(out, r.Line)
		}
		if r.Done && r.Error != "" {
			return errors.New(r.Error)
		}
		if r.Done {
			return nil
		}
	}
}
