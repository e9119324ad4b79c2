package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// diag speaks NETLINK_SOCK_DIAG (sock_diag(7)): it lists TCP sockets and destroys them, which
// sends a reset to the peer. It works on sockets of processes that are stopped. Not safe for
// concurrent use.
type diag struct {
	fd   int
	buf  []byte
	kill []byte
}

const (
	sockDiagByFamily = 20 // linux/sock_diag.h
	sockDestroy      = 21
	diagRequestLen   = unix.NLMSG_HDRLEN + 56 // struct inet_diag_req_v2, linux/inet_diag.h
	diagSockIDLen    = 48                     // struct inet_diag_sockid
	diagSockIDAt     = 4                      // its place in struct inet_diag_msg
	// All states but LISTEN, CLOSE and TIME_WAIT: those with a peer that would wait.
	diagStates = 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11
	// destroyBudget bounds one round of destroying; the address is removed afterwards anyway.
	destroyBudget = 200 * time.Millisecond
)

func openDiag() (*diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open socket diagnosis: %w", err)
	}
	tv := unix.NsecToTimeval(int64(destroyBudget))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("set timeout of socket diagnosis: %w", err)
	}
	return &diag{fd: fd, buf: make([]byte, 64<<10), kill: make([]byte, 0, 64<<10)}, nil
}

func (d *diag) close() { _ = unix.Close(d.fd) }

// destroy ends every connection whose local address is a, within destroyBudget, and returns
// their number. IPv4 connections of a dual-stack listener are IPv6 sockets with a mapped
// address, so both families are searched.
func (d *diag) destroy(a netip.Addr) (int, error) {
	end := time.Now().Add(destroyBudget)
	families := []byte{unix.AF_INET6}
	if a.Is4() {
		families = []byte{unix.AF_INET, unix.AF_INET6}
	}
	n := 0
	for _, family := range families {
		d.kill = d.kill[:0]
		if err := d.list(family, a); err != nil {
			return n, err
		}
		for at := 0; at < len(d.kill); at += diagRequestLen {
			// Without NLM_F_ACK the kernel answers only a failure; a socket that is gone by now is none.
			if err := unix.Sendto(d.fd, d.kill[at:at+diagRequestLen], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
				return n, fmt.Errorf("destroy connection: %w", err)
			}
			n++
			if n%64 == 0 {
				d.drain()
				if time.Now().After(end) {
					return n, errors.New("destroy connections: out of time, the rest stays")
				}
			}
		}
		d.drain()
	}
	return n, nil
}

// list appends to d.kill one destroy request for each connection with local address a.
func (d *diag) list(family byte, a netip.Addr) error {
	req := diagRequest(sockDiagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, family, make([]byte, diagSockIDLen))
	if err := unix.Sendto(d.fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("list connections: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("list connections: %w", err)
		}
		var done bool
		d.kill, done, err = collect(d.kill, d.buf[:n], a)
		if err != nil || done {
			return err
		}
	}
}

// drain reads the answers that wait, so that the socket's buffer never fills.
func (d *diag) drain() {
	for {
		if _, _, err := unix.Recvfrom(d.fd, d.buf, unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// collect reads one datagram of a socket dump and appends destroy requests for the sockets
// whose local address is a; done reports the end of the dump.
func collect(kill, datagram []byte, a netip.Addr) (_ []byte, done bool, _ error) {
	for len(datagram) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(datagram))
		kind := binary.NativeEndian.Uint16(datagram[4:])
		if size < unix.NLMSG_HDRLEN || size > len(datagram) {
			return kill, false, fmt.Errorf("list connections: message of %d bytes in a datagram of %d", size, len(datagram))
		}
		body := datagram[unix.NLMSG_HDRLEN:size]
		datagram = datagram[min((size+3)&^3, len(datagram)):]
		switch kind {
		case unix.NLMSG_DONE:
			return kill, true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return kill, false, errors.New("list connections: short error message")
			}
			return kill, true, fmt.Errorf("list connections: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(body))))
		case sockDiagByFamily:
			if len(body) < diagSockIDAt+diagSockIDLen {
				return kill, false, errors.New("list connections: short socket message")
			}
			id := body[diagSockIDAt : diagSockIDAt+diagSockIDLen]
			if localAddress(body[0], id) == a {
				kill = append(kill, diagRequest(sockDestroy, unix.NLM_F_REQUEST, body[0], id)...)
			}
		}
	}
	return kill, false, nil
}

// localAddress reads idiag_src: after two 16-bit ports, 16 bytes, of which IPv4 uses four.
func localAddress(family byte, id []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(id[4:8]))
	}
	return netip.AddrFrom16([16]byte(id[4:20])).Unmap()
}

func diagRequest(kind, flags uint16, family byte, id []byte) []byte {
	b := make([]byte, diagRequestLen)
	binary.NativeEndian.PutUint32(b, diagRequestLen)
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	b[unix.NLMSG_HDRLEN] = family
	b[unix.NLMSG_HDRLEN+1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[unix.NLMSG_HDRLEN+4:], diagStates)
	copy(b[unix.NLMSG_HDRLEN+8:], id)
	return b
}
