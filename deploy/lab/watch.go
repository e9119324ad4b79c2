package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// AddressWatch notes when an address is added to and removed from hosts, as their kernels
// report it.
type AddressWatch struct {
	lab  *Lab
	addr netip.Addr

	mu    sync.Mutex
	spans map[string][]Span // a span that is still open has a zero To
	stop  map[string]func()
	wake  chan struct{} // closed and replaced at every change
}

// WatchAddress starts watching addr on all hosts, through power off and power on. The caller
// pairs it with Close.
func (l *Lab) WatchAddress(addr netip.Addr) (*AddressWatch, error) {
	w := &AddressWatch{lab: l, addr: addr, spans: map[string][]Span{}, stop: map[string]func(){}, wake: make(chan struct{})}
	for _, h := range l.order {
		h.mu.Lock()
		h.watches = append(h.watches, w)
		var err error
		if h.ns != nil {
			err = w.attach(h.name, h.ns)
		}
		h.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("watch addresses of %s: %w", h.name, err)
		}
	}
	return w, nil
}

// Close stops watching; the spans stay readable.
func (w *AddressWatch) Close() {
	for _, h := range w.lab.order {
		h.mu.Lock()
		h.watches = slices.DeleteFunc(h.watches, func(x *AddressWatch) bool { return x == w })
		w.detach(h.name, time.Time{})
		h.mu.Unlock()
	}
}

// Spans returns since when until when each host had the address, since the given moment. A span
// that has not ended goes up to now.
func (w *AddressWatch) Spans(since time.Time) []Span {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	closed := make(map[string][]Span, len(w.spans))
	for host, spans := range w.spans {
		for _, s := range spans {
			if s.To.IsZero() {
				s.To = now
			}
			closed[host] = append(closed[host], s)
		}
	}
	return sortedSpans(closed, since)
}

// Holders returns the hosts that have the address now.
func (w *AddressWatch) Holders() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for host, spans := range w.spans {
		if n := len(spans); n > 0 && spans[n-1].To.IsZero() {
			found = append(found, host)
		}
	}
	slices.Sort(found)
	return found
}

// Changed returns a channel that is closed at the next change.
func (w *AddressWatch) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wake
}

// attach subscribes to a host's namespace. The caller holds the host's lock.
func (w *AddressWatch) attach(host string, ns *namespace) error {
	updates := make(chan netlink.AddrUpdate, 256)
	done := make(chan struct{})
	err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{
		Namespace: &ns.handle, ListExisting: true,
	})
	if err != nil {
		close(done)
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for u := range updates {
			if a, ok := netip.AddrFromSlice(u.LinkAddress.IP); ok && a.Unmap() == w.addr {
				w.note(host, u.NewAddr, time.Now())
			}
		}
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop[host] = func() { close(done); <-ended }
	return nil
}

// detach ends the subscription; a time other than zero ends an open span.
func (w *AddressWatch) detach(host string, at time.Time) {
	w.mu.Lock()
	stop := w.stop[host]
	delete(w.stop, host)
	w.mu.Unlock()
	if stop != nil {
		stop()
	}
	if !at.IsZero() {
		w.note(host, false, at)
	}
}

func (w *AddressWatch) note(host string, has bool, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	spans := w.spans[host]
	open := len(spans) > 0 && spans[len(spans)-1].To.IsZero()
	switch {
	case has && !open:
		w.spans[host] = append(spans, Span{Host: host, From: at})
	case !has && open:
		spans[len(spans)-1].To = at
	default:
		return // a lifetime was renewed
	}
	close(w.wake)
	w.wake = make(chan struct{})
}
