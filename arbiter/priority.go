package arbiter

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"syscall"
)

// niceness is what members of a pool run with where that is permitted (root, CAP_SYS_NICE or
// LimitNICE): a heartbeat or its answer that waits behind a busy machine's other work looks like a
// silent member.
const niceness = -10

// RaisePriority puts this process ahead of a busy machine's other work, where that is permitted;
// without the right it changes nothing and says so once. Priority belongs to threads: the present
// ones get it, later ones inherit it (setpriority(2), NOTES). Managers and Arbiter call it first.
func RaisePriority(log *slog.Logger) {
	tasks, err := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		id, aerr := strconv.Atoi(t.Name())
		if aerr != nil {
			continue
		}
		if perr := syscall.Setpriority(syscall.PRIO_PROCESS, id, niceness); perr != nil && !errors.Is(perr, syscall.ESRCH) { // ESRCH: it has just ended
			err = perr
		}
	}
	if err != nil {
		log.Info("runs at normal priority; on a busy machine allow more, as with systemd's LimitNICE=-10", "error", err)
	}
}
