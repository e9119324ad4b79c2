package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is a small file system of its own at HOST/disk, so that it can fail without harming the
// machine's. With root it is an ext4 image on a loop device, else a tmpfs that can only be filled.
type disk struct {
	path   string
	image  string // empty: tmpfs
	frozen bool
}

// DiskPath is where FaultyDisk mounts the host's own disk.
func (h *Host) DiskPath() string { return filepath.Join(h.Dir(), "disk") }

// FaultyDisk gives the host a disk of its own of size bytes (at least 16 MiB) at DiskPath, whose
// faults the other methods cause. It must come before the processes that use it.
func (h *Host) FaultyDisk(size int64) error {
	if size < 16<<20 {
		return fmt.Errorf("disk of %s: %d bytes are too few: use 16 MiB or more", h.name, size)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.disk != nil {
		return fmt.Errorf("host %s has a disk of its own already", h.name)
	}
	d := &disk{path: h.DiskPath()}
	if err := os.MkdirAll(d.path, 0o755); err != nil {
		return fmt.Errorf("create mount point: %w", err)
	}
	if InUserNamespace() {
		if err := unix.Mount("tmpfs", d.path, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
			return fmt.Errorf("mount tmpfs for %s: %w", h.name, err)
		}
		h.disk = d
		return nil
	}
	d.image = d.path + ".img"
	if err := makeImage(d.image, size); err != nil {
		return err
	}
	if err := d.mount(); err != nil {
		return err
	}
	h.disk = d
	return nil
}

func makeImage(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("create disk image: %w", err)
	}
	err = errors.Join(f.Truncate(size), f.Close())
	if err != nil {
		return fmt.Errorf("size disk image: %w", err)
	}
	return run("mkfs.ext4", "-q", "-F", path)
}

func (d *disk) mount() error {
	return run("mount", "-o", "loop,errors=remount-ro", d.image, d.path)
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, lastLine(string(out)))
	}
	return nil
}

// withDisk runs fn on the host's own disk, or says what is missing.
func (h *Host) withDisk(needsRoot bool, fn func(*disk) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.disk == nil {
		return fmt.Errorf("host %s has no disk of its own: start the lab with faulty disks", h.name)
	}
	if needsRoot && h.disk.image == "" {
		return fmt.Errorf("disk of %s: this fault needs a loop device, which only root may mount", h.name)
	}
	return fn(h.disk)
}

// FillDisk writes a file until nothing more fits; FreeDisk removes it.
func (h *Host) FillDisk() error {
	return h.withDisk(false, func(d *disk) error {
		f, err := os.OpenFile(d.filler(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("fill disk of %s: %w", h.name, err)
		}
		defer f.Close()
		for size := 1 << 20; size > 0; { // smaller and smaller, so that not a block stays free
			if _, err := f.Write(make([]byte, size)); errors.Is(err, unix.ENOSPC) {
				size /= 2
			} else if err != nil {
				return fmt.Errorf("fill disk of %s: %w", h.name, err)
			}
		}
		return nil
	})
}

// FreeDisk ends FillDisk.
func (h *Host) FreeDisk() error {
	return h.withDisk(false, func(d *disk) error {
		if err := os.Remove(d.filler()); err != nil {
			return fmt.Errorf("free disk of %s: %w", h.name, err)
		}
		return nil
	})
}

func (d *disk) filler() string { return filepath.Join(d.path, ".filler") }

// HangDisk lets every write and fsync of the host's disk block (FIFREEZE); reads go on.
// Processes that write cannot be killed until ThawDisk.
func (h *Host) HangDisk() error {
	return h.withDisk(true, func(d *disk) error {
		if err := ioctlPath(d.path, fiFreeze); err != nil {
			return fmt.Errorf("hang disk of %s: %w", h.name, err)
		}
		d.frozen = true
		return nil
	})
}

// ThawDisk ends HangDisk; writes that waited are carried out.
func (h *Host) ThawDisk() error { return h.withDisk(true, (*disk).thaw) }

func (d *disk) thaw() error {
	if d == nil || !d.frozen {
		return nil
	}
	d.frozen = false
	return thawIfFrozen(d.path)
}

// FailDisk reports a fault of the medium to the file system, which turns read-only under the
// running processes, as ext4 does on a bad block.
func (h *Host) FailDisk() error {
	return h.withDisk(true, func(d *disk) error {
		var st unix.Stat_t
		if err := unix.Stat(d.path, &st); err != nil {
			return fmt.Errorf("stat disk of %s: %w", h.name, err)
		}
		dev, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
		if err != nil {
			return fmt.Errorf("find block device of %s: %w", h.name, err)
		}
		trigger := filepath.Join("/sys/fs/ext4", filepath.Base(dev), "trigger_fs_error")
		if err := os.WriteFile(trigger, []byte("lab"), 0o200); err != nil {
			return fmt.Errorf("fail disk of %s: %w", h.name, err)
		}
		return nil
	})
}

// RepairDisk checks and mounts a failed disk again. The host's processes must have ended.
func (h *Host) RepairDisk() error {
	return h.withDisk(true, func(d *disk) error {
		if err := unix.Unmount(d.path, 0); err != nil {
			return fmt.Errorf("unmount disk of %s: %w: end its processes first", h.name, err)
		}
		// e2fsck exits 1 when it corrected something, which is what it is here for.
		err := run("e2fsck", "-p", "-f", d.image)
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 1 {
			err = nil
		}
		if err != nil {
			return err
		}
		return d.mount()
	})
}

func (d *disk) close() error {
	if d == nil {
		return nil
	}
	err := unmount(d.path)
	if d.image != "" {
		err = errors.Join(err, os.Remove(d.image))
	}
	return err
}

// ioctls of linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

func ioctlPath(path string, req uint) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetInt(int(f.Fd()), req, 0)
}

// thawIfFrozen thaws the file system at path; one that is not frozen, or cannot be, is left alone.
func thawIfFrozen(path string) error {
	err := ioctlPath(path, fiThaw)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTTY) {
		return nil
	}
	return err
}

// InUserNamespace says whether this process's root is not the machine's root.
func InUserNamespace() bool {
	f, err := os.Open("/proc/self/uid_map")
	if err != nil {
		return true
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return true
	}
	fields := strings.Fields(string(text))
	return len(fields) != 3 || fields[0] != "0" || fields[1] != "0" || fields[2] != "4294967295"
}
