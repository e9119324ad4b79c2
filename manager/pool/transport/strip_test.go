package transport

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestStripLeavesNothingButTheShape(t *testing.T) {
	in := []*raft.Log{
		{Index: 1, Term: 2, Type: raft.LogCommand, Data: []byte("secret"), Extensions: []byte("secret"), AppendedAt: time.Now()},
		{Index: 2, Term: 2, Type: raft.LogNoop},
		{Index: 3, Term: 2, Type: raft.LogBarrier, Data: []byte("secret")},
		{Index: 4, Term: 2, Type: raft.LogConfiguration, Data: []byte("who votes"), Extensions: []byte("secret")},
	}
	out, err := strip(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkStripped(out); err != nil {
		t.Errorf("the Arbiter would refuse it: %v", err)
	}
	for i, e := range out {
		if e.Index != in[i].Index || e.Term != in[i].Term || e.Type != in[i].Type {
			t.Errorf("entry %d changed its place or type: %+v", i, e)
		}
		if bytes.Contains(append(e.Data, e.Extensions...), []byte("secret")) || !e.AppendedAt.IsZero() {
			t.Errorf("entry %d carries more than it should: %+v", i, e)
		}
	}
	if string(out[3].Data) != "who votes" {
		t.Error("the membership entry must go whole")
	}
	if string(in[0].Data) != "secret" {
		t.Error("the leader's own entry was changed")
	}
}

func TestUnknownTypesDoNotPass(t *testing.T) {
	for _, typ := range []raft.LogType{raft.LogAddPeerDeprecated, raft.LogRemovePeerDeprecated, raft.LogType(77)} {
		e := []*raft.Log{{Index: 7, Type: typ}}
		if _, err := strip(e); err == nil {
			t.Errorf("type %v is sent", typ)
		}
		if err := checkStripped(e); err == nil {
			t.Errorf("type %v is taken", typ)
		}
	}
}

func TestTheArbiterRefusesPayload(t *testing.T) {
	for name, e := range map[string]*raft.Log{
		"data of a command":          {Type: raft.LogCommand, Data: []byte("x")},
		"extensions of a command":    {Type: raft.LogCommand, Extensions: []byte("x")},
		"data of a barrier":          {Type: raft.LogBarrier, Data: []byte("x")},
		"extensions of a membership": {Type: raft.LogConfiguration, Data: []byte("c"), Extensions: []byte("x")},
	} {
		if err := checkStripped([]*raft.Log{e}); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

// asArbiter are the rules of an Arbiter whose peers are the Managers m and b.
type asArbiter struct {
	Rules
	self bool
}

func (r asArbiter) SelfIsArbiter() bool                       { return r.self }
func (r asArbiter) IsArbiter(id raft.ServerID) bool           { return id == "a" }
func (r asArbiter) MayVote(raft.ServerID, uint64, bool) error { return nil }

func TestWhatIsRefusedBeforeRaftSeesIt(t *testing.T) {
	from := func(id string) raft.RPCHeader { return raft.RPCHeader{ProtocolVersion: 3, ID: []byte(id)} }
	command := []*raft.Log{{Index: 1, Type: raft.LogCommand, Data: []byte("x")}}
	for _, c := range []struct {
		name    string
		arbiter bool
		cmd     any
		refused bool
	}{
		{"a Manager takes entries of a Manager", false, &raft.AppendEntriesRequest{RPCHeader: from("m"), Entries: command}, false},
		{"a Manager refuses entries of the Arbiter", false, &raft.AppendEntriesRequest{RPCHeader: from("a")}, true},
		{"a Manager refuses a snapshot of the Arbiter", false, &raft.InstallSnapshotRequest{RPCHeader: from("a")}, true},
		{"a Manager refuses the Arbiter's candidacy", false, &raft.RequestVoteRequest{RPCHeader: from("a")}, true},
		{"a Manager refuses the Arbiter's pre-candidacy", false, &raft.RequestPreVoteRequest{RPCHeader: from("a")}, true},
		{"a Manager refuses the Arbiter's call to stand", false, &raft.TimeoutNowRequest{RPCHeader: from("a")}, true},
		{"the Arbiter refuses payload", true, &raft.AppendEntriesRequest{RPCHeader: from("m"), Entries: command}, true},
		{"the Arbiter takes an empty append", true, &raft.AppendEntriesRequest{RPCHeader: from("m")}, false},
		{"the Arbiter refuses a snapshot with content", true, &raft.InstallSnapshotRequest{RPCHeader: from("m"), Size: 1}, true},
		{"the Arbiter takes an empty snapshot", true, &raft.InstallSnapshotRequest{RPCHeader: from("m")}, false},
		{"the Arbiter refuses to stand", true, &raft.TimeoutNowRequest{RPCHeader: from("m")}, true},
		{"the Arbiter votes", true, &raft.RequestVoteRequest{RPCHeader: from("m")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rt := &RaftTransport{rules: asArbiter{self: c.arbiter}}
			_, err, refused := rt.refuse(c.cmd)
			if refused != c.refused || refused != (err != nil) {
				t.Errorf("refused %v: %v", refused, err)
			}
			if err != nil && strings.Contains(err.Error(), "unexpected command") {
				t.Error("the library would count this as a granted pre-vote")
			}
		})
	}
}

func TestAnArbiterSendsNothing(t *testing.T) {
	rt := &RaftTransport{rules: asArbiter{self: true}}
	for name, err := range map[string]error{
		"entries":    rt.AppendEntries("m", "m", &raft.AppendEntriesRequest{}, nil),
		"snapshot":   rt.InstallSnapshot("m", "m", &raft.InstallSnapshotRequest{}, nil, nil),
		"candidacy":  rt.RequestVote("m", "m", &raft.RequestVoteRequest{}, nil),
		"pre-vote":   rt.RequestPreVote("m", "m", &raft.RequestPreVoteRequest{}, nil),
		"timeoutNow": rt.TimeoutNow("m", "m", &raft.TimeoutNowRequest{}, nil),
	} {
		if err == nil || strings.Contains(err.Error(), "unexpected command") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyTheLibrarysHeartbeatsCountAsSuch(t *testing.T) {
	for _, c := range []struct {
		name string
		req  raft.AppendEntriesRequest
		want bool
	}{
		{"heartbeat", raft.AppendEntriesRequest{Term: 4}, true},
		{"entries", raft.AppendEntriesRequest{Entries: []*raft.Log{{}}}, false},
		{"probe for a place in the log", raft.AppendEntriesRequest{PrevLogEntry: 5}, false},
		{"commit index", raft.AppendEntriesRequest{LeaderCommitIndex: 5}, false},
	} {
		if got := isHeartbeat(&c.req); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
