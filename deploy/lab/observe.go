package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Observer asks each host again and again, by ARP on its own cable, whether it answers for an
// address. It asks behind the bridge's port, so it also sees a host whose link is cut in silence,
// and two hosts that answer at one moment cannot hide behind each other. Its requests come from
// the bridge's own address: to an address probe (RFC 5227) they are not a conflict.
type Observer struct {
	addr  netip.Addr
	every time.Duration
	quit  chan struct{}
	wg    sync.WaitGroup

	mu    sync.Mutex
	spans map[string][]Span
}

// Span is a stretch of time in which a host answered every request, or had an address. From and
// To are the first and the last answer, as the kernel stamped their arrival.
type Span struct {
	Host     string
	From, To time.Time
}

// Overlap is a stretch of time in which two hosts had the same address.
type Overlap struct {
	Hosts    [2]string
	From, To time.Time
}

// Observe starts asking the named hosts for addr, each every so often (1 ms to 1 s). The caller
// pairs it with Close.
func (l *Lab) Observe(addr netip.Addr, every time.Duration, hosts ...string) (*Observer, error) {
	if !addr.Is4() {
		return nil, fmt.Errorf("observe %v: ARP knows IPv4 addresses only", addr)
	}
	if every < time.Millisecond || every > time.Second {
		return nil, fmt.Errorf("observe every %v: use 1 ms to 1 s", every)
	}
	o := &Observer{addr: addr, every: every, quit: make(chan struct{}), spans: map[string][]Span{}}
	for _, name := range hosts {
		h, err := l.Host(name)
		if err != nil {
			return nil, errors.Join(err, o.Close())
		}
		o.wg.Add(1)
		go func() { defer o.wg.Done(); o.ask(h) }()
	}
	return o, nil
}

// Close stops asking; the spans stay readable.
func (o *Observer) Close() error {
	close(o.quit)
	o.wg.Wait()
	return nil
}

// Spans returns what was seen since the given moment, ordered by From.
func (o *Observer) Spans(since time.Time) []Span {
	o.mu.Lock()
	defer o.mu.Unlock()
	return sortedSpans(o.spans, since)
}

func sortedSpans(byHost map[string][]Span, since time.Time) []Span {
	var all []Span
	for _, spans := range byHost {
		for _, s := range spans {
			if s.To.After(since) {
				all = append(all, s)
			}
		}
	}
	slices.SortFunc(all, func(a, b Span) int { return a.From.Compare(b.From) })
	return all
}

// Overlaps finds the stretches in which two different hosts' spans coincide.
func Overlaps(spans []Span) []Overlap {
	var found []Overlap
	for i, a := range spans {
		for _, b := range spans[i+1:] {
			from, to := later(a.From, b.From), earlier(a.To, b.To)
			if a.Host != b.Host && from.Before(to) {
				found = append(found, Overlap{Hosts: [2]string{a.Host, b.Host}, From: from, To: to})
			}
		}
	}
	return found
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// ask sends a request per tick until quit, and notes what came back before the next one.
func (o *Observer) ask(h *Host) {
	var sock *os.File
	defer func() {
		if sock != nil {
			sock.Close()
		}
	}()
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	frame := arpRequest(o.addr)
	open := false // the last request was answered: the current span goes on
	for {
		select {
		case <-o.quit:
			return
		case <-tick.C:
		}
		if sock == nil {
			sock = o.open(h)
		}
		if sock == nil {
			open = false // powered off, or being powered on
			continue
		}
		at, err := o.exchange(sock, frame)
		if err != nil { // the cable is gone or unplugged: open anew at the next tick
			sock.Close()
			sock, open = nil, false
			continue
		}
		if at.IsZero() {
			open = false
			continue
		}
		o.note(h.name, at, open)
		open = true
	}
}

func (o *Observer) open(h *Host) *os.File {
	var sock *os.File
	err := h.lab.swtch.do(func() error {
		var err error
		sock, err = openPacket(h.links[0].cable(), onlyARP(), false)
		return err
	})
	if err != nil {
		return nil
	}
	raw, err := sock.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		})
	}
	if err != nil {
		sock.Close()
		return nil
	}
	return sock
}

func (o *Observer) note(host string, at time.Time, goesOn bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	spans := o.spans[host]
	if goesOn && len(spans) > 0 {
		spans[len(spans)-1].To = at
		return
	}
	o.spans[host] = append(spans, Span{Host: host, From: at, To: at})
}

// exchange sends one request and returns when its answer arrived, or the zero time when none
// came before the next tick is due.
func (o *Observer) exchange(sock *os.File, request []byte) (time.Time, error) {
	if _, err := sock.Write(request); err != nil {
		return time.Time{}, err
	}
	if err := sock.SetReadDeadline(time.Now().Add(o.every)); err != nil {
		return time.Time{}, err
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return time.Time{}, err
	}
	for {
		var at time.Time
		var got bool
		var rerr error
		err := raw.Read(func(fd uintptr) bool {
			at, got, rerr = o.receive(int(fd))
			return !errors.Is(rerr, unix.EAGAIN)
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// This thread may have been late itself: look once more without waiting.
			_ = raw.Control(func(fd uintptr) { at, got, rerr = o.receive(int(fd)) })
			if !got {
				return time.Time{}, nil
			}
			return at, nil
		}
		if err != nil {
			return time.Time{}, err
		}
		if rerr != nil {
			return time.Time{}, rerr
		}
		if got {
			return at, nil
		}
	}
}

// receive reads one frame; got says whether it is an answer for our address.
func (o *Observer) receive(fd int) (at time.Time, got bool, err error) {
	var frame, control [128]byte
	n, cn, _, _, err := unix.Recvmsg(fd, frame[:], control[:], unix.MSG_DONTWAIT)
	if err != nil {
		return time.Time{}, false, err
	}
	if !isReplyFor(frame[:n], o.addr) {
		return time.Time{}, false, nil
	}
	return kernelTime(control[:cn]), true, nil
}

// kernelTime reads the arrival time of a message (SO_TIMESTAMPNS), or takes the present.
func kernelTime(control []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(control)
	if err == nil {
		for _, m := range msgs {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
				return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
			}
		}
	}
	return time.Now()
}

// arpRequest is a broadcast "who has addr" of the bridge's own address (RFC 826).
func arpRequest(addr netip.Addr) []byte {
	mac := hardwareAddr(observerAddr.Addr())
	f := make([]byte, 0, 42)
	f = append(f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
	f = append(f, mac...)
	f = append(f, 0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1)
	f = append(f, mac...)
	f = append(f, observerAddr.Addr().AsSlice()...)
	f = append(f, make(net.HardwareAddr, 6)...)
	return append(f, addr.AsSlice()...)
}

// isReplyFor says whether an Ethernet frame is an ARP reply to the observer whose sender is addr.
// A gratuitous reply is addressed to the VIP itself and does not count.
func isReplyFor(f []byte, addr netip.Addr) bool {
	if len(f) < 42 || f[12] != 0x08 || f[13] != 0x06 || f[20] != 0 || f[21] != 2 {
		return false
	}
	return netip.AddrFrom4([4]byte(f[28:32])) == addr && netip.AddrFrom4([4]byte(f[38:42])) == observerAddr.Addr()
}
