package vip

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// orderTimeout bounds the writing of one order: a guard that is stopped does not read, and its
// pipe is full some hundred orders later.
const orderTimeout = 20 * time.Millisecond

// guardProcess is the guard as seen by its parent.
type guardProcess struct {
	cmd   *exec.Cmd
	in    *os.File
	ready chan struct{} // closed at the first report
	dead  chan struct{} // closed when the process has ended and been waited for
}

// startGuard starts argv in this process's group and returns without waiting for it to be
// ready. deliver is called with each report, by one goroutine that ends with the process; it
// must not block. The environment is inherited, standard error too.
func startGuard(argv []string, deliver func(*guardProcess, report)) (*guardProcess, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		_, _ = inR.Close(), inW.Close()
		return nil, fmt.Errorf("start guard: %w", err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, os.Stderr
	err = cmd.Start()
	_, _ = inR.Close(), outW.Close()
	if err != nil {
		_, _ = inW.Close(), outR.Close()
		return nil, fmt.Errorf("start guard %q: %w", argv, err)
	}
	g := &guardProcess{cmd: cmd, in: inW, ready: make(chan struct{}), dead: make(chan struct{})}
	go g.read(outR, deliver)
	return g, nil
}

func (g *guardProcess) read(out *os.File, deliver func(*guardProcess, report)) {
	defer close(g.dead)
	first := true
	s := bufio.NewScanner(out)
	for s.Scan() {
		r, err := decodeReport(s.Bytes())
		if err != nil {
			continue // something else wrote to its standard output
		}
		if first {
			close(g.ready)
			first = false
		}
		deliver(g, r)
	}
	g.kill() // end-of-file: it has ended, or closed its output, which is as good as dead
	_ = g.cmd.Wait()
	_, _ = out.Close(), g.in.Close()
}

func (g *guardProcess) pid() int { return g.cmd.Process.Pid }

// order sends one order; an error means that the guard is dead or hangs.
func (g *guardProcess) order(o order) error {
	if err := g.in.SetWriteDeadline(time.Now().Add(orderTimeout)); err != nil {
		return fmt.Errorf("order the guard: %w", err)
	}
	if _, err := g.in.Write(encodeLine(o)); err != nil {
		return fmt.Errorf("order the guard: %w", err)
	}
	return nil
}

// kill ends the process without asking; dead is closed soon after.
func (g *guardProcess) kill() { _ = g.cmd.Process.Kill() }

// quit ends the process in order, or without asking after the timeout, and waits for it.
func (g *guardProcess) quit(timeout time.Duration) error {
	err := g.order(order{Op: orderQuit})
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-g.dead:
		return nil
	case <-t.C:
	}
	g.kill()
	<-g.dead
	return errors.Join(err, fmt.Errorf("guard did not end within %v and was killed", timeout))
}
