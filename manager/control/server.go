package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Handler does one operation. in is the request's JSON (empty: none); step sends an intermediate
// result to the caller at once and fails when the caller is gone. ctx ends when the caller is
// gone or the Server closes. The result is encoded as JSON; nil is null.
type Handler func(ctx context.Context, in json.RawMessage, step func(any) error) (any, error)

// RunningError reports that another process works in the same data folder.
type RunningError struct {
	Dir string
	PID int // 0: not known
}

func (e *RunningError) Error() string {
	return fmt.Sprintf("data folder %s is in use by the running process %d: stop that one, or give each process a folder of its own", e.Dir, e.PID)
}

// Server answers commands until Close.
type Server struct {
	http   *http.Server
	lock   *os.File
	path   string
	cancel context.CancelFunc
	done   chan struct{}
}

// Open claims dir for this process and starts to answer: ops maps an operation's name to its
// Handler. The socket of a process that has died is replaced.
//
// Errors: RunningError when a living process has dir; otherwise the folder cannot be written.
func Open(dir string, ops map[string]Handler, log *slog.Logger) (*Server, error) {
	lock, err := claim(dir)
	if err != nil {
		return nil, err
	}
	ln, err := listen(dir)
	if err != nil {
		lock.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{lock: lock, path: filepath.Join(dir, SocketName), cancel: cancel, done: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.handler(ops, log),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second, // a password typed on standard input is sent when complete
		IdleTimeout:       30 * time.Second, // no WriteTimeout: a hand over or a long query streams
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("control socket ended", "error", err)
		}
	}()
	return s, nil
}

// Close ends all operations through their contexts, waits for them for at most two seconds (one
// may hang on a disk), and removes the socket.
func (s *Server) Close() error {
	s.cancel()
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	err := s.http.Shutdown(ctx) // removes the socket with its listener
	if err != nil {
		err = errors.Join(fmt.Errorf("control: an operation did not end: %w", err), s.http.Close())
	}
	<-s.done
	if rerr := os.Remove(s.path); rerr != nil && !errors.Is(rerr, os.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, s.lock.Close())
}

// claim takes the lock of dir. The kernel drops it when the process dies or starts itself anew,
// so that nothing stale is ever in the way.
func claim(dir string) (*os.File, error) {
	path := filepath.Join(dir, LockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("control: lock the data folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		text, _ := io.ReadAll(io.LimitReader(f, 32))
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			pid, _ := strconv.Atoi(strings.TrimSpace(string(text))) // 0 when the other one is just writing it
			return nil, &RunningError{Dir: dir, PID: pid}
		}
		return nil, fmt.Errorf("control: lock %s: %w", path, err)
	}
	// The number only helps people: a full disk must not keep a node from starting.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

// listen makes the socket with mode 0600 from its first moment. The lock is held, so a socket
// that is there belongs to nobody.
func listen(dir string) (net.Listener, error) {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control: remove the old socket: %w", err)
	}
	short, release, err := shortPath(dir)
	if err != nil {
		return nil, err
	}
	defer release()
	// The name appears by rename, after the mode is set.
	fresh := SocketName + ".new"
	if err := os.Remove(filepath.Join(dir, fresh)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control: remove the old socket: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, fresh), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control: listen in %s: %w", dir, err)
	}
	ln.SetUnlinkOnClose(false) // the path may be a short form that is gone by then
	err = os.Chmod(filepath.Join(dir, fresh), 0o600)
	if err == nil {
		err = os.Rename(filepath.Join(dir, fresh), path)
	}
	if err != nil {
		ln.Close()
		return nil, fmt.Errorf("control: prepare %s: %w", path, err)
	}
	return ln, nil
}

// shortPath returns a name for dir that fits a socket address, which has room for 107 bytes
// (unix(7)): a long one is reached through a descriptor of the folder.
func shortPath(dir string) (short string, release func(), err error) {
	if len(dir)+len(SocketName)+len(".new")+1 < 107 {
		return dir, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, fmt.Errorf("control: open the data folder: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", d.Fd()), func() { d.Close() }, nil
}

func (s *Server) handler(ops map[string]Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/v1/")
		op, known := ops[name]
		if r.Method != http.MethodPost || !known {
			reply(w, http.StatusNotFound, frame{Error: &Error{Code: "unknown_operation",
				Message: fmt.Sprintf("the running process knows no operation %.40q", name),
				Fix:     "use commands of the same version, on the data folder of the right kind of process"}})
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			reply(w, http.StatusRequestEntityTooLarge, frame{Error: &Error{Code: "bad_request",
				Message: fmt.Sprintf("the request is larger than %d bytes", maxRequest), Fix: "send less"}})
			return
		}
		run(r.Context(), w, name, op, body, log)
	})
}

// run calls the handler and writes its frames, one JSON object a line.
func run(ctx context.Context, w http.ResponseWriter, name string, op Handler, body []byte, log *slog.Logger) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := http.NewResponseController(w)
	step := func(v any) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("control: encode a step of %s: %w", name, err)
		}
		if err := json.NewEncoder(w).Encode(frame{Step: text}); err != nil {
			return err
		}
		return out.Flush()
	}
	last := finish(ctx, name, op, body, step, log)
	if err := json.NewEncoder(w).Encode(last); err != nil {
		log.Debug("control caller left before the answer", "operation", name, "error", err)
	}
}

// finish runs op to its end; a panic in it ends the operation alone, and is logged.
func finish(ctx context.Context, name string, op Handler, body []byte, step func(any) error, log *slog.Logger) (last frame) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("control operation panicked", "operation", name, "panic", p)
			last = frame{Error: &Error{Code: "internal", Message: name + " failed inside the running process", Fix: "look into its log"}}
		}
	}()
	result, err := op(ctx, body, step)
	if err != nil {
		return frame{Error: asError(err)}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return frame{Error: &Error{Code: "internal", Message: fmt.Sprintf("the result of %s cannot be written: %v", name, err)}}
	}
	return frame{Result: text}
}

func reply(w http.ResponseWriter, code int, f frame) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(f) // the caller may be gone
}
