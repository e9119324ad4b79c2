package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// Rules is what the pool decides for the Raft messages that pass; the transport asks and obeys.
// All methods are called from many goroutines and must not block on disk or network.
type Rules interface {
	// SelfIsArbiter and IsArbiter tell who carries no data.
	SelfIsArbiter() bool
	IsArbiter(id raft.ServerID) bool
	// MayCampaign is asked before a (pre-)vote request leaves; nil lets it go. With real the
	// request raises terms, and the consent is binding: no older term is granted a lease after it.
	MayCampaign(term uint64, real bool) error
	// MayVote is asked before a (pre-)vote request reaches Raft; nil lets it in, and is binding
	// for a real one.
	MayVote(candidate raft.ServerID, term uint64, real bool) error
	// Linked tells whether there is a connection to the peer; Reach blocks until there is one, or
	// returns ctx's error.
	Linked(peer raft.ServerID) bool
	Reach(ctx context.Context, peer raft.ServerID) error
}

// ErrMute is what every message that an Arbiter tries to send comes back with. Its text must
// never contain "unexpected command", which the Raft library takes for a granted pre-vote.
var ErrMute = errors.New("an Arbiter sends no Raft messages")

// errArbiterSent answers entries, snapshots and candidacies that come from an Arbiter.
var errArbiterSent = errors.New("refused: the sender is an Arbiter, which never leads")

// RaftTransport is a raft.Transport that keeps the rules towards and inside the Arbiter. Build
// it with NewRaftTransport.
type RaftTransport struct {
	inner *raft.NetworkTransport
	rules Rules
	gate  *Gate
	out   chan raft.RPC
	stop  context.CancelFunc
	ctx   context.Context
	wg    sync.WaitGroup

	mu      sync.Mutex
	termCtx context.Context // ends when held entries must go: the term is over
	termEnd context.CancelFunc
}

// NewRaftTransport wraps inner, which it owns. gate may be nil on an Arbiter.
func NewRaftTransport(inner *raft.NetworkTransport, rules Rules, gate *Gate) *RaftTransport {
	ctx, stop := context.WithCancel(context.Background())
	t := &RaftTransport{inner: inner, rules: rules, gate: gate, out: make(chan raft.RPC), ctx: ctx, stop: stop}
	t.termCtx, t.termEnd = context.WithCancel(ctx)
	t.wg.Go(t.receive)
	return t
}

// EndTerm lets go of every entry held at the gate; call it when this node stops leading, and
// before raft.Shutdown, which waits for them.
func (t *RaftTransport) EndTerm() {
	t.mu.Lock()
	t.termEnd()
	t.termCtx, t.termEnd = context.WithCancel(t.ctx)
	t.mu.Unlock()
}

func (t *RaftTransport) term() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.termCtx
}

// Consumer implements raft.Transport.
func (t *RaftTransport) Consumer() <-chan raft.RPC { return t.out }

// LocalAddr implements raft.Transport.
func (t *RaftTransport) LocalAddr() raft.ServerAddress { return t.inner.LocalAddr() }

// SetHeartbeatHandler implements raft.Transport and does nothing: a heartbeat handled beside
// the main loop can change the term under a running append (hashicorp/raft issue 695).
func (t *RaftTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntriesPipeline implements raft.Transport. Pipelines are off: a failed answer in one
// renews the library's leader lease.
func (t *RaftTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// AppendEntries implements raft.Transport. Towards the Arbiter it waits at the gate, shortens
// req.Entries in place to what may go (the library takes the match index from there) and sends
// a stripped copy.
func (t *RaftTransport) AppendEntries(id raft.ServerID, addr raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.rules.SelfIsArbiter() {
		return ErrMute
	}
	if !isHeartbeat(req) {
		// The library waits up to 10 s between tries once a peer has been away for some seconds.
		// To try only when there is somebody to try it on keeps its failures from adding up.
		if err := t.rules.Reach(t.term(), id); err != nil {
			return err
		}
	}
	if !t.rules.IsArbiter(id) {
		if err := t.inner.AppendEntries(id, addr, req, resp); err != nil {
			return err
		}
		if resp.Success && t.gate != nil {
			index := req.PrevLogEntry
			if n := len(req.Entries); n > 0 {
				index = req.Entries[n-1].Index
			}
			t.gate.Ack(req.Term, index)
		}
		return nil
	}
	if n := len(req.Entries); n > 0 {
		first := req.Entries[0].Index
		upTo := t.gate.Wait(t.term(), req.Term, first, req.Entries[n-1].Index)
		if upTo == 0 {
			return fmt.Errorf("entries from %d for the Arbiter: term %d ended while they were held", first, req.Term)
		}
		req.Entries = req.Entries[:upTo-first+1]
	}
	c := *req
	var err error
	if c.Entries, err = strip(req.Entries); err != nil {
		return err
	}
	return t.inner.AppendEntries(id, addr, &c, resp)
}

// isHeartbeat tells the library's heartbeats, which say nothing about the log, from replication.
func isHeartbeat(req *raft.AppendEntriesRequest) bool {
	return len(req.Entries) == 0 && req.PrevLogEntry == 0 && req.LeaderCommitIndex == 0
}

// InstallSnapshot implements raft.Transport. The Arbiter gets an empty one, and only once the
// other Manager has that much.
func (t *RaftTransport) InstallSnapshot(id raft.ServerID, addr raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if t.rules.SelfIsArbiter() {
		return ErrMute
	}
	if !t.rules.Linked(id) { // not held: data is an open read transaction on the database
		return fmt.Errorf("send snapshot: no connection to %s", id)
	}
	if t.rules.IsArbiter(id) {
		if t.gate.Wait(t.term(), req.Term, req.LastLogIndex, req.LastLogIndex) == 0 {
			return fmt.Errorf("snapshot at %d for the Arbiter: term %d ended while it was held", req.LastLogIndex, req.Term)
		}
		c, none := emptySnapshot(req)
		return t.inner.InstallSnapshot(id, addr, c, resp, none)
	}
	if err := t.inner.InstallSnapshot(id, addr, req, resp, data); err != nil {
		return err
	}
	if resp.Success && t.gate != nil {
		t.gate.Ack(req.Term, req.LastLogIndex)
	}
	return nil
}

// RequestVote implements raft.Transport.
func (t *RaftTransport) RequestVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.rules.SelfIsArbiter() {
		return ErrMute
	}
	if err := t.rules.MayCampaign(req.Term, true); err != nil {
		return err
	}
	return t.inner.RequestVote(id, addr, req, resp)
}

// RequestPreVote implements raft.WithPreVote.
func (t *RaftTransport) RequestPreVote(id raft.ServerID, addr raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.rules.SelfIsArbiter() {
		return ErrMute
	}
	if err := t.rules.MayCampaign(req.Term, false); err != nil {
		return err
	}
	return t.inner.RequestPreVote(id, addr, req, resp)
}

// TimeoutNow implements raft.Transport. An Arbiter is never the target.
func (t *RaftTransport) TimeoutNow(id raft.ServerID, addr raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if t.rules.SelfIsArbiter() {
		return ErrMute
	}
	if t.rules.IsArbiter(id) {
		return errors.New("an Arbiter cannot lead")
	}
	return t.inner.TimeoutNow(id, addr, req, resp)
}

// EncodePeer implements raft.Transport.
func (t *RaftTransport) EncodePeer(id raft.ServerID, addr raft.ServerAddress) []byte {
	return t.inner.EncodePeer(id, addr)
}

// DecodePeer implements raft.Transport.
func (t *RaftTransport) DecodePeer(b []byte) raft.ServerAddress { return t.inner.DecodePeer(b) }

// Close implements raft.WithClose: it ends the inner transport and every connection of it.
func (t *RaftTransport) Close() error {
	t.stop()
	err := t.inner.Close()
	t.inner.CloseStreams()
	t.wg.Wait()
	return err
}

// Campaign makes Raft stand for election at once, as if the leader had named this node its
// successor. It returns when Raft has taken it up, or with ctx's error.
func (t *RaftTransport) Campaign(ctx context.Context) error {
	return t.inject(ctx, &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}})
}

// Depose makes Raft, which leads in term, a follower in the next one, as if peer, another voter,
// stood for election there with an empty log. It returns when that is done, or with ctx's error.
func (t *RaftTransport) Depose(ctx context.Context, peer raft.ServerID, term uint64) error {
	return t.inject(ctx, &raft.RequestVoteRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(peer), Addr: []byte(peer)},
		Term:      term + 1, LeadershipTransfer: true,
	})
}

// inject hands a message to Raft as if it had come over the network.
func (t *RaftTransport) inject(ctx context.Context, command any) error {
	answer := make(chan raft.RPCResponse, 1)
	select {
	case t.out <- raft.RPC{Command: command, RespChan: answer}:
	case <-ctx.Done():
		return fmt.Errorf("hand %T to Raft: %w", command, context.Cause(ctx))
	case <-t.ctx.Done():
		return raft.ErrTransportShutdown
	}
	select {
	case r := <-answer:
		return r.Error
	case <-ctx.Done():
		return fmt.Errorf("wait for Raft to take up %T: %w", command, context.Cause(ctx))
	case <-t.ctx.Done():
		return raft.ErrTransportShutdown
	}
}

// receive passes what came in to Raft, after the rules have been asked.
func (t *RaftTransport) receive() {
	for {
		select {
		case rpc := <-t.inner.Consumer():
			if resp, err, refused := t.refuse(rpc.Command); refused {
				if rpc.Reader != nil {
					_, _ = io.Copy(io.Discard, rpc.Reader)
				}
				rpc.Respond(resp, err)
				continue
			}
			select {
			case t.out <- rpc:
			case <-t.ctx.Done():
				return
			}
		case <-t.ctx.Done():
			return
		}
	}
}

func (t *RaftTransport) refuse(cmd any) (resp any, err error, refused bool) {
	self := t.rules.SelfIsArbiter()
	switch c := cmd.(type) {
	case *raft.AppendEntriesRequest:
		if t.rules.IsArbiter(raft.ServerID(c.ID)) {
			return &raft.AppendEntriesResponse{}, errArbiterSent, true
		}
		if self {
			if err := checkStripped(c.Entries); err != nil {
				return &raft.AppendEntriesResponse{}, err, true
			}
		}
	case *raft.InstallSnapshotRequest:
		if t.rules.IsArbiter(raft.ServerID(c.ID)) {
			return &raft.InstallSnapshotResponse{}, errArbiterSent, true
		}
		if self && c.Size != 0 {
			return &raft.InstallSnapshotResponse{}, fmt.Errorf("snapshot carries %d bytes of payload: an Arbiter takes none", c.Size), true
		}
	case *raft.RequestVoteRequest:
		if t.rules.IsArbiter(raft.ServerID(c.ID)) {
			return &raft.RequestVoteResponse{}, errArbiterSent, true
		}
		if err := t.rules.MayVote(raft.ServerID(c.ID), c.Term, true); err != nil {
			return &raft.RequestVoteResponse{}, err, true
		}
	case *raft.RequestPreVoteRequest:
		if t.rules.IsArbiter(raft.ServerID(c.ID)) {
			return &raft.RequestPreVoteResponse{}, errArbiterSent, true
		}
		if err := t.rules.MayVote(raft.ServerID(c.ID), c.Term, false); err != nil {
			return &raft.RequestPreVoteResponse{}, err, true
		}
	case *raft.TimeoutNowRequest:
		if self || t.rules.IsArbiter(raft.ServerID(c.ID)) {
			return &raft.TimeoutNowResponse{}, errArbiterSent, true
		}
	}
	return nil, nil, false
}
