package pool

import (
	"context"
	"time"
)

// The virtual IP stands on the first path's network. A Primary that only the second path still
// connects keeps its lease there and would hold an address that nobody reaches.

// hearing is what one member says of whom it hears on the first path.
type hearing struct {
	fresh bool          // it said so lately
	me    time.Duration // since it heard the member in question there; negative: never
	other time.Duration // since it heard the other one there; negative: never
}

// deafened decides whether a member is cut off on the first path: both others say so, and they
// hear each other there, so that it is neither the network as a whole nor one of them.
func deafened(a, b hearing, limit time.Duration) bool {
	lost := func(d time.Duration) bool { return d < 0 || d > limit }
	return a.fresh && b.fresh && lost(a.me) && lost(b.me) && !lost(a.other) && !lost(b.other)
}

// cutOffLocked applies deafened to one member, by the reports of the two others; this node counts
// as a reporter by what it hears itself.
func (p *Pool) cutOffLocked(id MemberID) bool {
	var ids []MemberID
	for _, m := range p.record.Members {
		if m.ID == id {
			if !m.Second.IsValid() {
				return false // with one path, silence on it is silence
			}
			continue
		}
		ids = append(ids, m.ID)
	}
	if len(ids) != 2 {
		return false
	}
	return deafened(p.hearingLocked(ids[0], id, ids[1]), p.hearingLocked(ids[1], id, ids[0]), p.timing.Detect())
}

func (p *Pool) hearingLocked(by, me, other MemberID) hearing {
	if by == p.self {
		ago := func(id MemberID) time.Duration {
			if pr := p.peers[id]; pr != nil && pr.heard[0] != 0 {
				return Since(pr.heard[0])
			}
			return -1
		}
		return hearing{fresh: true, me: ago(me), other: ago(other)}
	}
	pr := p.peers[by]
	if pr == nil || pr.reported == 0 || Since(pr.reported) > p.timing.Detect() {
		return hearing{}
	}
	ago := func(id MemberID) time.Duration {
		h, ok := pr.report.Hears[id]
		if !ok || h[0] < 0 {
			return -1
		}
		return time.Duration(h[0])*time.Millisecond + Since(pr.reported)
	}
	return hearing{fresh: true, me: ago(me), other: ago(other)}
}

// leaveDeadPath hands Primary over once this node has been cut off on the first path for the
// detection time. While the other Manager cannot take it, this one goes on.
func (p *Pool) leaveDeadPath() {
	p.mu.Lock()
	cut := p.status == Primary && !p.handing && p.cutOffLocked(p.self)
	switch {
	case !cut:
		p.cutOff = 0
	case p.cutOff == 0:
		p.cutOff = Now()
	}
	due := cut && Since(p.cutOff) > p.timing.Detect()
	p.mu.Unlock()
	if !due || !p.seldom("first_path", 2*p.timing.Detect()) {
		return
	}
	const why = "both other members hear each other on the first path and not this Manager: its network there is dead"
	if p.seldom("first_path_dead", time.Minute) {
		p.event(Event{Code: "first_path_dead", Severity: "error", Cause: why})
	}
	p.wg.Go(func() {
		ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
		defer cancel()
		if err := p.handOver(ctx, "takeover", why, func(s string) { p.log.Info("leaving the dead path", "step", s) }); err != nil {
			p.log.Warn("cannot leave the dead path", "error", err)
		}
	})
}
