package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// insideEnv tells a re-executed process that it stands in its user namespace.
const insideEnv = "POOLLAB_INSIDE"

// init keeps the main goroutine on the process's first thread: that thread can never end, so it
// must not be the one that moves into a host's namespace.
func init() { runtime.LockOSThread() }

// MayBuild says whether this process may create network namespaces and mounts as it is.
func MayBuild() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	const need = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_RAW
	return data[0].Effective&need == need
}

// EnterUserNamespace runs this program again, with the same arguments, as root of a user
// namespace of its own, waits for it and returns its exit code. extra become the files 3, 4 and
// so on of the new process: listeners of the machine's own network, which it cannot open itself.
// Signals that end a program are passed on.
//
// It must be called only when MayBuild says no. Errors: a PrivilegeError when the kernel does
// not allow it, also in the new process itself.
func EnterUserNamespace(extra []*os.File) (int, error) {
	if os.Getenv(insideEnv) != "" {
		return 1, &PrivilegeError{errors.New("root of a user namespace may not either")}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.ExtraFiles = extra
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	runtime.LockOSThread() // the child is signalled when the thread that made it ends
	defer runtime.UnlockOSThread()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, &PrivilegeError{err}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // a terminal sent it to both already; twice does no harm
		case err := <-ended:
			var exit *exec.ExitError
			if errors.As(err, &exit) && exit.ExitCode() >= 0 {
				return exit.ExitCode(), nil
			}
			if err != nil {
				return 1, fmt.Errorf("in the user namespace: %w", err)
			}
			return 0, nil
		}
	}
}

// InsideUserNamespace says whether EnterUserNamespace started this process. It then makes mounts
// private, so that they vanish with the process, and returns true.
func InsideUserNamespace() (bool, error) {
	if os.Getenv(insideEnv) == "" {
		return false, nil
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return true, fmt.Errorf("make mounts private: %w", err)
	}
	return true, nil
}

// EnterCommand returns the arguments of an nsenter(1) that runs a shell in the host from another
// terminal of the same user.
func (h *Host) EnterCommand() string {
	if InUserNamespace() {
		return strings.Join([]string{"nsenter", "--preserve-credentials", "-U", "-m", "-t", fmt.Sprint(os.Getpid()),
			"nsenter", "--net=" + h.Namespace()}, " ")
	}
	return "nsenter --net=" + h.Namespace()
}
