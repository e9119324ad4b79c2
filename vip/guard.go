package vip

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// farewellTimeout bounds one farewell, connecting included.
const farewellTimeout = time.Second

// RunGuard is the main function of the guard process, which a Keeper starts with its
// GuardCommand: orders on standard input, reports on standard output. It returns after the
// order to quit, or after its parent died (end-of-file), the address was taken down and the
// farewells were sent. The caller ends the process then, with exit code 1 on an error.
//
// It does no disk I/O. It ignores the signals that a terminal or a service manager sends to
// the whole group, because its parent lays down in order first; SIGKILL and the death of its
// parent end it. It raises its own priority where that is allowed.
func RunGuard() error {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	runtime.LockOSThread()
	raisePriority()
	kernel, err := openHost(true)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	defer kernel.close()
	// A report that finds the pipe full is dropped: a frozen parent must not freeze the guard.
	if err := unix.SetNonblock(int(os.Stdout.Fd()), true); err != nil {
		return fmt.Errorf("guard: prepare standard output: %w", err)
	}
	h := &holder{kernel: kernel, now: Now, report: func(r report) { _, _ = unix.Write(unix.Stdout, encodeLine(r)) }}
	h.report(report{Op: reportReady})
	farewells, err := serveOrders(unix.Stdin, h)
	sendFarewells(farewells)
	return err
}

// serveOrders drives h from the pipe fd until the order to quit or end-of-file.
func serveOrders(fd int, h *holder) ([]Farewell, error) {
	var pending []byte
	chunk := make([]byte, 16<<10)
	for {
		ready, err := waitReadable(fd, h.wake())
		if err != nil {
			return h.orphaned(), fmt.Errorf("guard: wait for orders: %w", err)
		}
		if ready {
			n, err := unix.Read(fd, chunk)
			switch {
			case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
				continue
			case err != nil:
				return h.orphaned(), fmt.Errorf("guard: read orders: %w", err)
			case n == 0:
				return h.orphaned(), nil
			}
			pending = append(pending, chunk[:n]...)
			for {
				line, rest, whole := bytes.Cut(pending, []byte{'\n'})
				if !whole {
					break
				}
				pending = rest
				o, err := decodeOrder(line)
				if err != nil || !h.order(o) {
					return h.orphaned(), err // after quit nothing is held any more
				}
			}
			if len(pending) > orderLimit {
				return h.orphaned(), fmt.Errorf("guard: an order exceeds %d bytes", orderLimit)
			}
		}
		h.tick()
	}
}

// waitReadable waits until fd has something to read or the moment until has come.
func waitReadable(fd int, until Instant) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	var timeout *unix.Timespec
	if until != forever {
		ts := unix.NsecToTimespec(max(0, int64(until.Sub(Now()))))
		timeout = &ts
	}
	n, err := unix.Ppoll(fds, timeout, nil)
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, err
}

func sendFarewells(farewells []Farewell) {
	var wg sync.WaitGroup
	for _, f := range farewells {
		wg.Go(func() {
			end := time.Now().Add(farewellTimeout)
			c, err := (&net.Dialer{Deadline: end}).Dial("tcp", f.To.String())
			if err != nil {
				return // that host is unreachable: it finds out by itself
			}
			_ = c.SetDeadline(end)
			_, _ = c.Write(f.Message)
			_ = c.Close()
		})
	}
	wg.Wait()
}

// raisePriority asks for the real-time scheduler, else for the best nice value. Neither is
// needed for correctness; both shorten the take-down on a busy machine.
func raisePriority() {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}
	if unix.SchedSetAttr(0, &attr, 0) == nil {
		return
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, -20)
}
