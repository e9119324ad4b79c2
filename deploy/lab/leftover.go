package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Sweep removes what a lab left in dir when it was killed: processes, namespaces, mounts. The
// hosts' files stay. Errors: ErrBusy while a lab runs there.
func Sweep(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(sweep(dir), lock.Close())
}

// sweep does the work of Sweep; the caller owns the directory.
func sweep(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	var errs []error
	nsDir := filepath.Join(dir, "ns") + "/"
	for _, m := range mounts { // a frozen disk holds its processes: thaw first
		if !strings.HasPrefix(m, nsDir) {
			errs = append(errs, thawIfFrozen(m))
		}
	}
	for _, m := range mounts {
		if strings.HasPrefix(m, nsDir) {
			errs = append(errs, killAll(m))
		}
	}
	for i := len(mounts) - 1; i >= 0; i-- { // the innermost mount first
		errs = append(errs, unmount(mounts[i]))
	}
	return errors.Join(append(errs, os.RemoveAll(filepath.Join(dir, "ns")))...)
}

// mountsBelow lists the mount points below dir in the order they were made.
func mountsBelow(dir string) ([]string, error) {
	f, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mounts: %w", err)
	}
	defer f.Close()
	var found []string
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		fields := strings.Fields(sc.Text())
		if len(fields) < 5 {
			continue
		}
		if p := unescapeMount(fields[4]); strings.HasPrefix(p, dir+"/") {
			found = append(found, p)
		}
	}
	return found, sc.Err()
}

// unescapeMount undoes the octal escapes of /proc/self/mountinfo (proc(5): space, tab, newline
// and backslash are written as \040 and so on).
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
