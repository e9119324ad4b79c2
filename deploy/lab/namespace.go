package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// switchName is the namespace that holds the bridges.
const switchName = "switch"

// PrivilegeError reports that this process may not build namespaces.
type PrivilegeError struct{ Err error }

func (e *PrivilegeError) Error() string {
	return fmt.Sprintf("create a network namespace: %v: run as root, or allow user namespaces "+
		"(sysctl user.max_user_namespaces > 0, kernel.unprivileged_userns_clone=1 or "+
		"kernel.apparmor_restrict_unprivileged_userns=0 where these exist)", e.Err)
}

func (e *PrivilegeError) Unwrap() error { return e.Err }

// namespace is one network namespace, kept alive by a bind mount at path and by a thread that
// lives in it. The thread starts the processes: they ask the kernel to be killed when it ends,
// so that nothing of a lab outlives its owner.
type namespace struct {
	path   string
	handle netns.NsHandle
	nl     *netlink.Handle
	work   chan func()
	quit   chan struct{} // closed by close
	wg     sync.WaitGroup
	once   sync.Once
	mu     sync.RWMutex // held for reading while handle is in use, for writing to close it
}

func newNamespace(path string) (*namespace, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("create namespace directory: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create namespace file: %w", err)
	}
	f.Close()
	n := &namespace{path: path, handle: netns.None(), work: make(chan func()), quit: make(chan struct{})}
	ready := make(chan error)
	n.wg.Add(1)
	go n.live(ready)
	if err := <-ready; err != nil {
		n.wg.Wait()
		return nil, errors.Join(err, os.Remove(path))
	}
	n.nl, err = netlink.NewHandleAt(n.handle)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink in %s: %w", path, err), n.close())
	}
	lo, err := n.nl.LinkByName("lo")
	if err == nil {
		err = n.nl.LinkSetUp(lo)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("raise lo in %s: %w", path, err), n.close())
	}
	return n, nil
}

// live is the namespace's own thread. It never unlocks, so the thread ends with it and no other
// goroutine is ever run in the wrong namespace.
func (n *namespace) live(ready chan<- error) {
	defer n.wg.Done()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		ready <- &PrivilegeError{err}
		return
	}
	h, err := netns.Get()
	if err != nil {
		ready <- fmt.Errorf("open the new namespace: %w", err)
		return
	}
	if err := unix.Mount("/proc/thread-self/ns/net", n.path, "", unix.MS_BIND, ""); err != nil {
		h.Close()
		ready <- &PrivilegeError{fmt.Errorf("mount namespace at %s: %w", n.path, err)}
		return
	}
	n.handle = h
	ready <- nil
	for {
		select {
		case fn := <-n.work:
			fn()
		case <-n.quit:
			return
		}
	}
}

// do runs fn on the namespace's own thread and waits for it. fn must be short. Errors: ErrOff
// once the namespace is closed.
func (n *namespace) do(fn func() error) error {
	done := make(chan error, 1)
	select {
	case n.work <- func() { done <- fn() }:
		return <-done
	case <-n.quit:
		return ErrOff
	}
}

// visit runs fn on a fresh thread in the namespace and waits for it; fn may block.
func (n *namespace) visit(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends here
		if err := n.enter(); err != nil {
			done <- fmt.Errorf("enter namespace %s: %w", n.path, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// enter moves the calling, locked thread into the namespace.
func (n *namespace) enter() error {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.handle.IsOpen() {
		return ErrOff
	}
	return netns.Set(n.handle)
}

// close ends the thread, the mount and the handles. Processes in the namespace must be dead.
func (n *namespace) close() error {
	var err error
	n.once.Do(func() {
		close(n.quit)
		n.wg.Wait()
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.nl != nil {
			n.nl.Close()
		}
		err = errors.Join(n.handle.Close(), unmount(n.path), os.Remove(n.path))
	})
	return err
}

// pids returns the processes that live in the network namespace mounted at path.
func pids(path string) ([]int, error) {
	var want unix.Stat_t
	if err := unix.Stat(path, &want); err != nil {
		return nil, fmt.Errorf("stat namespace %s: %w", path, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		var st unix.Stat_t
		// An error means: ended meanwhile, or not ours; neither is in our namespace.
		if unix.Stat("/proc/"+e.Name()+"/ns/net", &st) == nil && st.Ino == want.Ino && st.Dev == want.Dev {
			found = append(found, pid)
		}
	}
	return found, nil
}

// killAll sends SIGKILL to everything in the namespace at path until nothing is left.
func killAll(path string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		found, err := pids(path)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, pid := range found {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill process %d: %w", pid, err)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v in %s do not die within 10 s: a hung disk holds them, thaw it first", found, path)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func unmount(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", path, err)
	}
	return nil
}
