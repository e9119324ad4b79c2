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

// ask calls heard with the answer to each of its probes, 5 ms apart, until heard says no.
func (l *lab) ask(host string, a netip.Addr, heard func(owner string) bool) {
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
		for {
			mac, err := probeOnce(l.t.Context(), w, ifi.HardwareAddr, 5*time.Millisecond)
			if err != nil {
				return err
			}
			if !heard(mac.String()) {
				return nil
			}
			if mac != nil {
				time.Sleep(5 * time.Millisecond) // the distance of the samples
			}
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
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
