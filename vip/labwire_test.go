package vip

import (
	"net"
	"net/netip"
	"time"
)

// listen accepts one connection on a host and delivers what it is sent.
func (l *lab) listen(host, at string) <-chan string {
	l.t.Helper()
	var ln net.Listener
	if err := l.in(host, func() (err error) { ln, err = net.Listen("tcp", at); return err }); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = ln.Close() })
	got := make(chan string, 1)
	go func() {
		defer close(got)
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 100)
		_ = c.SetReadDeadline(time.Now().Add(soon))
		n, _ := c.Read(b)
		got <- string(b[:n])
	}()
	return got
}

// probeFor sends one probe from a host and waits that long.
func (l *lab) probeFor(host string, a netip.Addr, wait time.Duration) (owner string) {
	l.t.Helper()
	err := l.in(host, func() error {
		ifi, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		w, err := openWire(ifi, a)
		if err != nil {
			return err
		}
		defer w.close()
		mac, err := probeOnce(l.t.Context(), w, ifi.HardwareAddr, wait)
		owner = mac.String()
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return owner
}

// announceOnce claims an address from the calling thread's namespace, as a stranger would.
func announceOnce(iface string, a netip.Addr) error {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	w, err := openWire(ifi, a)
	if err != nil {
		return err
	}
	defer w.close()
	return w.announce(ifi.HardwareAddr)
}
