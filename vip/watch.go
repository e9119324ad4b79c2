package vip

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// watcher tells that something about interfaces or addresses of this host changed. It does not
// say what: the reader looks at the kernel, so that a lost message loses nothing.
type watcher struct {
	socket *nl.NetlinkSocket
	done   chan struct{}
}

// watchKernel calls changed, from one goroutine, after each change of an interface and each
// removal of an address. changed must not block.
func watchKernel(changed func()) (*watcher, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, fmt.Errorf("watch interfaces: %w", err)
	}
	w := &watcher{socket: s, done: make(chan struct{})}
	go w.run(changed)
	return w, nil
}

func (w *watcher) run(changed func()) {
	defer close(w.done)
	for {
		messages, _, err := w.socket.Receive()
		if errors.Is(err, unix.ENOBUFS) { // messages were lost
			changed()
			continue
		}
		if err != nil {
			return
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.RTM_DELADDR, unix.RTM_NEWLINK, unix.RTM_DELLINK:
				changed()
			}
		}
	}
}

func (w *watcher) close() {
	w.socket.Close()
	<-w.done
}

// linkState is what a lease wants to know of its interface.
type linkState struct {
	up   bool
	name string // interfaces can be renamed
	mac  net.HardwareAddr
}

// lookAtLink reads the state of the interface; gone counts as not up.
func lookAtLink(index int) linkState {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return linkState{}
	}
	return linkState{up: linkUp(l.Attrs()), name: l.Attrs().Name, mac: l.Attrs().HardwareAddr}
}
