package pool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"redundancypool/manager/pool/transport"
)

// rules answers the transport's questions for this member.
type rules struct{ p *Pool }

func (r rules) SelfIsArbiter() bool             { return r.p.arbiter() }
func (r rules) IsArbiter(id raft.ServerID) bool { return r.p.isArbiter(MemberID(id)) }

// Linked implements transport.Rules.
func (r rules) Linked(id raft.ServerID) bool { return r.p.linked(MemberID(id)) }

// Reach implements transport.Rules.
func (r rules) Reach(ctx context.Context, id raft.ServerID) error {
	for {
		wake := r.p.links.wait()
		if r.p.linked(MemberID(id)) {
			return nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *Pool) linked(id MemberID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[id]
	return pr != nil && (pr.out[0] != nil || pr.out[1] != nil)
}

// MayCampaign implements transport.Rules. A member whose own vote is promised to another does
// not stand: its own vote would be half of a majority.
func (r rules) MayCampaign(term uint64, real bool) error {
	p := r.p
	if err := p.electable(); err != nil {
		return err
	}
	if err := p.courtesy(); err != nil {
		return err
	}
	return p.promise.vote(p.self, term, real)
}

// MayVote implements transport.Rules.
func (r rules) MayVote(candidate raft.ServerID, term uint64, real bool) error {
	if err := r.p.remembers(); err != nil {
		return err
	}
	if MemberID(candidate) != r.p.self && Now() < r.p.lease.until() {
		return errors.New("this member is Primary with a valid lease")
	}
	return r.p.promise.vote(MemberID(candidate), term, real)
}

// electable returns why this Manager must not become Primary now, or nil.
func (p *Pool) electable() error {
	if err := p.watch.sick(); err != nil {
		return err
	}
	if err := p.fit(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.maintenance:
		return errors.New("this Manager is in maintenance: it votes but takes no Primary")
	case p.sickness != "":
		return errors.New(p.sickness)
	case p.handing:
		return errors.New("this Manager is handing Primary over")
	}
	return nil
}

// fit returns why this Manager could not serve although its disk is well, or nil.
func (p *Pool) fit() error {
	if err := p.remembers(); err != nil {
		return err
	}
	if p.cfg.Fit != nil {
		return p.cfg.Fit()
	}
	return nil
}

// remembers returns an error while another member knows this one's log to have been longer.
func (p *Pool) remembers() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, s := range p.stale {
		if _, member := p.record.Member(id); s && member {
			return fmt.Errorf("this member's log ends before where %s has seen it: its store was lost or rolled back, and it does not vote until it has caught up", p.name(id))
		}
	}
	return nil
}

// staleLocked compares what a member says its log is with where it ended before that member's
// present process started. Within one process a log only grows in this order, whatever Raft cuts
// off, while its heartbeats may overtake one another on two paths.
func (p *Pool) staleLocked(pr *peer, boot string, now Position) bool {
	high := p.record.Highest[pr.id]
	if pr.boot != boot {
		pr.boot, pr.mark = boot, high
	}
	if high.Before(now) {
		p.noteHighestLocked(pr.id, now)
	}
	return now.Before(pr.mark)
}

func (p *Pool) noteHighestLocked(id MemberID, at Position) {
	next := make(map[MemberID]Position, len(p.record.Highest)+1) // others may be reading the old map
	maps.Copy(next, p.record.Highest)
	next[id] = at
	p.record.Highest, p.recordDirty = next, true
}

func (p *Pool) noteStaleLocked(by MemberID, stale bool) {
	if p.stale[by] != stale {
		p.stale[by] = stale
		p.log.Warn("another member compared this one's log with what it knows of it", "by", p.name(by), "rolled back", stale)
	}
}

// courtesy lets the Master stand first after a cold start of both: until ConnectionWait is over
// the Backup does not stand while its Master is alive, knows as much and nobody leads yet.
func (p *Pool) courtesy() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.heardLead || p.record.me().Role != Backup || Since(p.started) > p.timing.ConnectionWait {
		return nil
	}
	m, ok := p.record.ByRole(Master)
	if !ok {
		return nil
	}
	pr := p.peers[m.ID]
	if pr == nil || Since(pr.lastHeard()) > p.timing.Detect() || pr.report.Disk != "" || pr.report.Maintenance {
		return nil
	}
	return fmt.Errorf("connection wait time: leaving the first candidacy to %s", m.Name)
}

// admit decides who may open a Raft connection or a link to this member.
func (p *Pool) admit(h transport.Hello, fingerprint string) error {
	err := p.examine(h, fingerprint)
	var no *transport.Refusal
	if errors.As(err, &no) && no.Code == codeCloned && p.seldom("cloned "+h.From, time.Minute) {
		p.event(Event{Code: "member_cloned", Severity: "error", Member: MemberID(h.From), Cause: no.Text})
	}
	return err
}

// codeCloned is the refusal of a process that has the identity of a member which is alive elsewhere.
const codeCloned = "cloned"

func (p *Pool) examine(h transport.Hello, fingerprint string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, ok := p.record.Member(MemberID(h.From))
	for _, g := range p.record.Gone {
		if g.ID == MemberID(h.From) && g.Fingerprint == fingerprint {
			return g.refusal(h.Pool)
		}
	}
	switch {
	case h.Incarnation != p.record.Incarnation:
		return transport.Refuse("incarnation", "pool %s has been formed anew since: this member belongs to an earlier forming; reset it and let it join", short(h.Pool))
	case !ok:
		return transport.Refuse("not_a_member", "%s is not a member of pool %s", short(h.From), short(h.Pool))
	case m.Fingerprint != fingerprint:
		return transport.Refuse("fingerprint", "the certificate of %s changed: its fingerprint is %s, approved is %s; approve it again if that is right", m.Name, short(fingerprint), short(m.Fingerprint))
	case h.To != string(p.self):
		return transport.Refuse("wrong_member", "this is member %s, not %s: an address is used twice", short(string(p.self)), short(h.To))
	case h.Kind == transport.KindRaft && m.Role == Arbiter:
		return transport.Refuse("arbiter", "an Arbiter sends no Raft messages")
	case p.clonedLocked(p.peers[m.ID], h.Boot):
		return transport.Refuse(codeCloned, "%s is alive at %v already: this process has a copy of its data folder and key; stop it and start it on an empty folder", m.Name, m.Address)
	}
	return nil
}

// clonedLocked reports that a process with the identity of a member is not the one that answers at
// the member's address: a copied machine or data folder. Two of them would vote twice.
func (p *Pool) clonedLocked(pr *peer, boot string) bool {
	if pr == nil || boot == "" || pr.home == "" || pr.home == boot || Since(pr.homeAt) > p.timing.Detect() {
		return false
	}
	return true
}

// atHomeLocked notes which process answers at a member's address, and ends the links of any other.
func (p *Pool) atHomeLocked(pr *peer, boot string, now Instant) {
	pr.homeAt = now
	if pr.home == boot {
		return
	}
	pr.home = boot
	for c := range pr.in {
		if boot != "" && c.Hello.Boot != "" && c.Hello.Boot != boot {
			c.Conn.Close()
		}
	}
}

func short(s string) string { return s[:min(12, len(s))] }

// linkStop ends the links to a member, which were opened to these addresses.
type linkStop struct {
	stop context.CancelFunc
	at   [paths]netip.AddrPort
}

// syncPeers starts and stops links so that there is one per member and path of the record.
func (p *Pool) syncPeers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, l := range p.linkStops {
		if m, ok := p.record.Member(id); !ok || m.Address != l.at[0] || m.Second != l.at[1] {
			l.stop()
			delete(p.linkStops, id)
		}
	}
	for _, m := range p.record.Members {
		if m.ID == p.self || p.linkStops[m.ID].stop != nil {
			continue
		}
		if p.peers[m.ID] == nil {
			p.peers[m.ID] = &peer{id: m.ID, in: map[*linkConn]int{}, asked: map[uint64]chan verdict{}}
		}
		ctx, stop := context.WithCancel(p.ctx)
		p.linkStops[m.ID] = linkStop{stop, [paths]netip.AddrPort{m.Address, m.Second}}
		for path := range paths {
			if m.addr(path).IsValid() {
				p.wg.Go(func() { p.keepLink(ctx, m.ID, path) })
			}
		}
	}
	if p.gate != nil {
		p.gate.NoPeer(!p.hasOtherManagerLocked())
	}
}

func (p *Pool) hasOtherManagerLocked() bool {
	for _, m := range p.record.Members {
		if m.ID != p.self && m.Role != Arbiter {
			return true
		}
	}
	return false
}

// logWriter turns the Raft library's lines into records of our own log.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	level := slog.LevelInfo
	if strings.HasPrefix(line, "[ERROR]") {
		level = slog.LevelWarn // the library's errors are mostly a peer that is away
	}
	w.log.Log(context.Background(), level, "raft: "+line)
	return len(b), nil
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// nowhere is the transport of a member that is only being founded: it has a name and no network.
type nowhere MemberID

func (nowhere) Consumer() <-chan raft.RPC       { return nil }
func (n nowhere) LocalAddr() raft.ServerAddress { return raft.ServerAddress(n) }
func (nowhere) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}
func (nowhere) AppendEntries(raft.ServerID, raft.ServerAddress, *raft.AppendEntriesRequest, *raft.AppendEntriesResponse) error {
	return raft.ErrTransportShutdown
}
func (nowhere) RequestVote(raft.ServerID, raft.ServerAddress, *raft.RequestVoteRequest, *raft.RequestVoteResponse) error {
	return raft.ErrTransportShutdown
}
func (nowhere) InstallSnapshot(raft.ServerID, raft.ServerAddress, *raft.InstallSnapshotRequest, *raft.InstallSnapshotResponse, io.Reader) error {
	return raft.ErrTransportShutdown
}
func (nowhere) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (nowhere) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }
func (nowhere) SetHeartbeatHandler(func(raft.RPC))                      {}
func (nowhere) TimeoutNow(raft.ServerID, raft.ServerAddress, *raft.TimeoutNowRequest, *raft.TimeoutNowResponse) error {
	return raft.ErrTransportShutdown
}

// await waits for a Raft future no longer than ctx: some futures of the library never resolve.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ms returns a duration in milliseconds for people.
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
