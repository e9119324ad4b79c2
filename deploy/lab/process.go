package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is what to run in a host.
type Command struct {
	Name string   // of the process in its host, and of its log file NAME.log in the host's folder
	Path string   // of the program
	Args []string // without the program's name
	Env  []string // added to this process's environment
}

// Process is a program that runs in a host. It leads a process group of its own, which its
// children (a Manager's guard) belong to, and is killed when this process ends.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process was reaped
}

// Start runs a command in the host and returns at once. Its output goes to the log file; an
// earlier run's output stays in front.
func (h *Host) Start(c Command) (*Process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ns == nil {
		return nil, fmt.Errorf("start %s on %s: %w", c.Name, h.name, ErrOff)
	}
	if p := h.procs[c.Name]; p != nil && p.Alive() {
		return nil, fmt.Errorf("start %s on %s: it runs already as process %d", c.Name, h.name, p.PID())
	}
	p := &Process{Name: c.Name, log: filepath.Join(h.Dir(), c.Name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", c.Name, err)
	}
	defer out.Close()
	p.cmd = command(c)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := h.ns.do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", c.Name, h.name, err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
		close(p.done)
	}()
	h.procs[c.Name] = p
	return p, nil
}

// Output runs a command in the host, waits for it and returns its standard output. When it
// fails, the error holds the last line of its standard error. It ends with ctx.
func (h *Host) Output(ctx context.Context, c Command) ([]byte, error) {
	ns, err := h.live()
	if err != nil {
		return nil, err
	}
	cmd := command(c)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := ns.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("%s on %s: %w", c.Name, h.name, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	err = cmd.Wait()
	if !stop() {
		return stdout.Bytes(), fmt.Errorf("%s on %s: %w", c.Name, h.name, context.Cause(ctx))
	}
	if err != nil {
		return stdout.Bytes(), &ExitError{Command: c.Name, Host: h.name, Line: lastLine(stderr.String()), Err: err}
	}
	return stdout.Bytes(), nil
}

// ExitError reports a command that ended with an exit code other than 0.
type ExitError struct {
	Command, Host string
	Line          string // the last line of its standard error
	Err           error
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s on %s: %v: %s", e.Command, e.Host, e.Err, e.Line)
}

func (e *ExitError) Unwrap() error { return e.Err }

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func command(c Command) *exec.Cmd {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Process returns the process started last under that name, or an error.
func (h *Host) Process(name string) (*Process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.procs[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no process %q was started on %s", name, h.name)
}

// PID is the process id on this machine.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is the path of the file that holds the process's output.
func (p *Process) Log() string { return p.log }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive says whether the process has not ended; a frozen one is alive.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill sends SIGKILL to the process alone and waits until it is reaped. It returns the moment
// just before the signal.
func (p *Process) Kill() (time.Time, error) {
	at := time.Now()
	if err := p.signal(unix.SIGKILL); err != nil {
		return at, err
	}
	return at, p.wait(10 * time.Second)
}

// Freeze stops the process alone with SIGSTOP; a guard that it started goes on. It returns the
// moment just before the signal.
func (p *Process) Freeze() (time.Time, error) {
	at := time.Now()
	return at, p.signal(unix.SIGSTOP)
}

// Thaw lets the process run again.
func (p *Process) Thaw() error { return p.signal(unix.SIGCONT) }

// Stop asks the process to end with SIGTERM and waits up to the given time for it; then it kills
// it and says so.
func (p *Process) Stop(patience time.Duration) error {
	if !p.Alive() {
		return nil
	}
	if err := p.signal(unix.SIGTERM); err != nil {
		return err
	}
	if err := p.wait(patience); err == nil {
		return nil
	}
	_, err := p.Kill()
	return errors.Join(fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.Name, patience), err)
}

func (p *Process) signal(sig unix.Signal) error {
	if !p.Alive() {
		return fmt.Errorf("signal %s: it has ended: %v", p.Name, p.cmd.ProcessState)
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s (process %d): %w", p.Name, p.PID(), err)
	}
	return nil
}

func (p *Process) wait(patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("%s (process %d) has not ended after %v", p.Name, p.PID(), patience)
	}
}
