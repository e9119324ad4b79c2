package vip

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// checkPermission returns an error that wraps ErrNotPermitted unless this process may bind
// addresses and send raw frames.
func checkPermission() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	return missingCapabilities(data[0].Effective)
}

func missingCapabilities(effective uint32) error {
	for _, c := range []struct {
		bit  uint
		name string
	}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}} {
		if effective&(1<<c.bit) == 0 {
			return fmt.Errorf("%w: %s is missing: run as root, or give it (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW)",
				ErrNotPermitted, c.name)
		}
	}
	return nil
}

// Permitted returns nil when this process may hold an address, else an error that wraps
// ErrNotPermitted and names the capability that is missing.
func Permitted() error { return checkPermission() }
