package vip

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// DefaultProbeRounds, at probeSpacing, make a full probe of about one second: on a link
	// that loses one packet in ten both ways it misses an owner once in some 1000 times.
	DefaultProbeRounds = 4
	probeSpacing       = 250 * time.Millisecond
)

// Probe asks on the interface, rounds times a quarter of a second apart, who has address a. It
// returns at the first answer of another host, or when the last round was silent. After each
// silent round progress, unless nil, is called with the number of rounds done. This host's own
// claim does not count.
//
// It needs CAP_NET_RAW and ends early with ctx's error.
func Probe(ctx context.Context, iface string, a netip.Addr, rounds int, progress func(done int)) (owner net.HardwareAddr, found bool, err error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, false, fmt.Errorf("probe %v: interface %q: %w", a, iface, err)
	}
	w, err := openWire(ifi, a.Unmap())
	if err != nil {
		return nil, false, fmt.Errorf("probe %v: %w", a, err)
	}
	defer func() { _ = w.close() }()
	for i := range rounds {
		owner, err = probeOnce(ctx, w, ifi.HardwareAddr, probeSpacing)
		if err != nil {
			return nil, false, fmt.Errorf("probe %v on %s: %w", a, iface, err)
		}
		if owner != nil {
			return owner, true, nil
		}
		if progress != nil {
			progress(i + 1)
		}
	}
	return nil, false, nil
}

// probeOnce sends one probe and waits for a claim of another host than own; nil is silence.
func probeOnce(ctx context.Context, w wire, own net.HardwareAddr, wait time.Duration) (net.HardwareAddr, error) {
	if err := w.probe(); err != nil {
		return nil, err
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	for {
		select {
		case mac := <-w.claims():
			if !bytes.Equal(mac, own) {
				return mac, nil
			}
		case <-t.C:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
