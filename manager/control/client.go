package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// StatusTimeout is how long a client waits for the operation "status": with the start of the
// command itself it stays below two seconds, whatever hangs in the other process.
const StatusTimeout = 1700 * time.Millisecond

// Client calls the process that runs in a data folder. It is safe for concurrent use.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient returns a client for the process that runs in dir. It connects at each call.
func NewClient(dir string) *Client {
	c := &Client{dir: dir}
	c.http = &http.Client{Transport: &http.Transport{DialContext: c.dial, DisableKeepAlives: true}}
	return c
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	short, release, err := shortPath(c.dir)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", filepath.Join(short, SocketName))
}

// Call runs one operation: in is its request (nil: none), each (may be nil) gets every step as it
// comes, out (may be nil) takes the result. It blocks until the operation has ended, ctx ends,
// or each returns an error, which it then returns.
//
// Errors: *Error as the operation gave it, or why the process cannot be reached, with the fix.
func (c *Client) Call(ctx context.Context, op string, in any, each func(json.RawMessage) error, out any) error {
	body := []byte("{}")
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode the request of %s: %w", op, err)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://control/v1/"+op, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request of %s: %w", op, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	return c.read(resp.Body, op, each, out)
}

// Status runs the operation "status" within StatusTimeout.
func (c *Client) Status(ctx context.Context, out any) error {
	ctx, cancel := context.WithTimeout(ctx, StatusTimeout)
	defer cancel()
	return c.Call(ctx, "status", nil, nil, out)
}

// read takes the frames of an answer one after another.
func (c *Client) read(r io.Reader, op string, each func(json.RawMessage) error, out any) error {
	d := json.NewDecoder(r)
	for {
		var f frame
		if err := d.Decode(&f); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
				return &Error{Code: "cut_off", Message: fmt.Sprintf("the process in %s ended before %s was answered", c.dir, op),
					Fix: "look at its status: the operation may or may not have been done"}
			}
			return c.unreachable(err)
		}
		switch {
		case f.Error != nil:
			return f.Error
		case f.Step != nil:
			if each == nil {
				continue
			}
			if err := each(f.Step); err != nil {
				return err
			}
		default:
			if out == nil || f.Result == nil {
				return nil
			}
			if err := json.Unmarshal(f.Result, out); err != nil {
				return fmt.Errorf("read the result of %s: %w", op, err)
			}
			return nil
		}
	}
}

// unreachable says why no answer came, for people.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		if _, serr := os.Stat(c.dir); errors.Is(serr, os.ErrNotExist) {
			return &Error{Code: "no_folder", Message: fmt.Sprintf("data folder %s does not exist", c.dir), Fix: "correct --data"}
		}
		return &Error{Code: "not_running", Message: fmt.Sprintf("no process is running in %s", c.dir), Fix: "start it with: serve --data " + c.dir}
	case errors.Is(err, os.ErrPermission):
		return &Error{Code: "forbidden", Message: fmt.Sprintf("the control socket in %s may not be opened by this user", c.dir), Fix: "run the command as the user of the running process"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: "no_answer", Message: fmt.Sprintf("process %s in %s does not answer: it is frozen or overloaded", c.pid(), c.dir), Fix: "look into its log; stop it if it does not recover"}
	case errors.Is(err, context.Canceled):
		return &Error{Code: "interrupted", Message: "interrupted before the answer", Fix: "look at the status: the operation may or may not have been done"}
	}
	return fmt.Errorf("ask the process in %s: %w", c.dir, err)
}

// pid returns the number of the process that has claimed the folder.
func (c *Client) pid() string {
	text, err := os.ReadFile(filepath.Join(c.dir, LockName))
	if err != nil {
		return "(number unknown)"
	}
	return strings.TrimSpace(string(text))
}
