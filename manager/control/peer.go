package control

import (
	"context"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Peer is who sent a command: the credentials of its process as the kernel gives them
// (SO_PEERCRED, unix(7)), which nobody can forge.
type Peer struct {
	UID uint32
	PID int32
}

func (p Peer) String() string { return fmt.Sprintf("local command by uid %d", p.UID) }

type peerKey struct{}

// PeerOf returns who sent the command that ctx belongs to; false: it is of no command, or the
// kernel did not say.
func PeerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

// withPeer gives a connection's context the credentials of its other end.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, Peer{UID: cred.Uid, PID: cred.Pid})
}
