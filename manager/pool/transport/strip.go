package transport

import (
	"bytes"
	"fmt"

	"github.com/hashicorp/raft"
)

// strip returns copies of entries as the Arbiter may see them: index, term and type, never the
// payload. Membership entries go whole, because a voter must know who votes. Types that this
// release does not know are an error: better no progress than a payload on the Arbiter.
func strip(entries []*raft.Log) ([]*raft.Log, error) {
	out := make([]*raft.Log, len(entries))
	for i, e := range entries {
		c := &raft.Log{Index: e.Index, Term: e.Term, Type: e.Type}
		switch e.Type {
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		case raft.LogConfiguration:
			c.Data = e.Data
		default:
			return nil, fmt.Errorf("entry %d has type %v, which must not go to the Arbiter", e.Index, e.Type)
		}
		out[i] = c
	}
	return out, nil
}

// checkStripped refuses a request that carries payload; it is the Arbiter's own check.
func checkStripped(entries []*raft.Log) error {
	for _, e := range entries {
		payload := len(e.Data) + len(e.Extensions)
		switch e.Type {
		case raft.LogConfiguration:
			payload = len(e.Extensions)
		case raft.LogCommand, raft.LogNoop, raft.LogBarrier:
		default:
			return fmt.Errorf("entry %d has type %v, which this Arbiter does not know", e.Index, e.Type)
		}
		if payload > 0 {
			return fmt.Errorf("entry %d carries %d bytes of payload: an Arbiter takes none", e.Index, payload)
		}
	}
	return nil
}

// emptySnapshot returns req as the Arbiter may see it, with nothing behind it.
func emptySnapshot(req *raft.InstallSnapshotRequest) (*raft.InstallSnapshotRequest, *bytes.Reader) {
	c := *req
	c.Size = 0
	return &c, bytes.NewReader(nil)
}
