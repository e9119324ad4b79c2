package pool

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"redundancypool/manager/pool/transport"
)

// stream is the Raft library's way to the network: connections on the pool port, by member id
// instead of address, over the path that is alive.
type stream struct {
	p        *Pool
	incoming chan net.Conn
	done     chan struct{}
	once     sync.Once

	mu    sync.Mutex
	conns map[*raftConn]struct{}
}

// raftConn knows which member and path it belongs to, so that it can be cut with the path.
type raftConn struct {
	net.Conn
	s    *stream
	peer MemberID
	path int
}

func newStream(p *Pool) *stream {
	return &stream{p: p, incoming: make(chan net.Conn), done: make(chan struct{}), conns: map[*raftConn]struct{}{}}
}

// Dial implements raft.StreamLayer; addr is a member id.
func (s *stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id := MemberID(addr)
	rec := s.p.Record()
	m, ok := rec.Member(id)
	if !ok {
		return nil, fmt.Errorf("dial %s: not a member of this pool", id)
	}
	path := s.p.livePath(id)
	ctx, cancel := context.WithTimeout(s.p.ctx, min(timeout, s.p.timing.ConnectTimeout))
	defer cancel()
	c, err := s.p.cfg.Dialer.Dial(ctx, m.addr(path).String(), m.Fingerprint, transport.Hello{
		Kind: transport.KindRaft, Pool: rec.Pool, Incarnation: rec.Incarnation,
		From: string(rec.Self), To: string(id), Path: path, Boot: s.p.boot,
	})
	if err != nil {
		return nil, err
	}
	return s.track(c, id, path), nil
}

func (s *stream) track(c net.Conn, id MemberID, path int) net.Conn {
	rc := &raftConn{Conn: c, s: s, peer: id, path: path}
	s.mu.Lock()
	s.conns[rc] = struct{}{}
	s.mu.Unlock()
	return rc
}

// Close implements net.Conn.
func (c *raftConn) Close() error {
	c.s.mu.Lock()
	delete(c.s.conns, c)
	c.s.mu.Unlock()
	return c.Conn.Close()
}

// cut ends every Raft connection with a member on one path; Raft dials anew, over the other.
func (s *stream) cut(id MemberID, path int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.peer == id && c.path == path {
			_ = c.SetDeadline(time.Unix(1, 0)) // its user closes it
		}
	}
}

// serve takes over an incoming Raft connection; it is the Port's handler.
func (s *stream) serve(c *transport.Conn) {
	rc := s.track(c, MemberID(c.Hello.From), c.Hello.Path&1)
	select {
	case s.incoming <- rc:
	case <-s.done:
		rc.Close()
	}
}

// Accept implements net.Listener.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener and ends every connection.
func (s *stream) Close() error {
	s.once.Do(func() { close(s.done) })
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.SetDeadline(time.Unix(1, 0))
		_ = c.Conn.Close()
	}
	clear(s.conns)
	return nil
}

// Addr implements net.Listener.
func (s *stream) Addr() net.Addr { return memberAddr(s.p.self) }

type memberAddr MemberID

func (memberAddr) Network() string  { return "pool" }
func (a memberAddr) String() string { return string(a) }
