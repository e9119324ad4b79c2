package pool

import "time"

// Facts are what the composer knows of this member and every other one shows of it.
type Facts struct {
	StartedMS  int64 `json:"s,omitempty"` // when its process began, Unix ms by its own clock
	Bytes      int64 `json:"b,omitempty"` // in its data folder
	FieldUnits int   `json:"u,omitempty"` // connected to it
	Browsers   int   `json:"w,omitempty"` // pages with live updates that it serves
}

// Recovery is how Primary returns to the Master after a takeover.
type Recovery struct {
	Active bool `json:"active,omitempty"` // it takes Primary back by itself
	// Waits is for how long the pool must have been Protected before that; it grows by the back-off.
	Waits  time.Duration `json:"waits,omitempty"`
	Longer bool          `json:"longer,omitempty"` // than the stability delay: the back-off is at work
	// Left is how much of it is still to pass; negative: it has not begun.
	Left time.Duration `json:"left,omitempty"`
}

// recoveryLocked describes the present course of taking back, on the leader.
func (p *Pool) recoveryLocked() Recovery {
	r := Recovery{Active: p.record.Active, Waits: p.takeBackWaitLocked(), Left: -1}
	r.Longer = r.Waits > p.timing.StabilityDelay
	if p.stable != 0 {
		r.Left = max(0, r.Waits-Since(p.stable))
	}
	return r
}

// facts are the composer's, or none.
func (p *Pool) facts() Facts {
	if p.cfg.Facts == nil {
		return Facts{}
	}
	return p.cfg.Facts()
}

// hearsLocked is whom a member hears, in ms ago by path, -1 never: what it said, aged until now; nil:
// it has said nothing of late.
func (p *Pool) hearsLocked(id MemberID) map[MemberID][2]int64 {
	out := map[MemberID][2]int64{}
	if id == p.self {
		for other, pr := range p.peers {
			out[other] = [2]int64{age(pr.heard[0]), age(pr.heard[1])}
		}
		return out
	}
	pr := p.peers[id]
	if pr == nil || pr.reported == 0 || Since(pr.reported) > p.timing.Detect() {
		return nil
	}
	for other, ms := range pr.report.Hears {
		for path := range ms {
			if ms[path] >= 0 {
				ms[path] += Since(pr.reported).Milliseconds()
			}
		}
		out[other] = ms
	}
	return out
}

// deafLocked reports that a member that speaks to us says it hears nothing of another one: a
// takeover needs both directions of that link.
func (p *Pool) deafLocked(by, of MemberID) bool {
	pr := p.peers[by]
	if pr == nil || pr.reported == 0 || Since(pr.reported) > p.timing.Detect() {
		return false // it is judged by its own silence
	}
	for _, ms := range pr.report.Hears[of] {
		if ms >= 0 && time.Duration(ms)*time.Millisecond <= p.timing.Detect() {
			return false
		}
	}
	return true
}

// completeLocked adds to a row what the member says of itself, or what this one knows of itself.
func (p *Pool) completeLocked(row *MemberState, last Position, facts Facts) {
	if row.ID == p.self {
		row.Last, row.Maintenance, row.Facts, row.Starting = last, p.maintenance, facts, p.promise.starting()
		row.Term = p.raft.CurrentTerm()
		row.Applied = p.raft.AppliedIndex()
		row.Follows, _ = p.leader()
		row.Hears = p.hearsLocked(p.self)
		if err := p.watch.sick(); err != nil {
			row.Disk = err.Error()
		}
		return
	}
	pr := p.peers[row.ID]
	row.Reported, row.HearsAge = -1, -1
	if pr == nil || pr.reported == 0 {
		return
	}
	row.Reported = Since(pr.reported)
	row.HearsAge = row.Reported
	row.Last, row.Applied, row.Maintenance, row.Starting = pr.report.Last, pr.report.Applied, pr.report.Maintenance, pr.report.Starting
	row.Term, row.Follows, row.Facts, row.Unfit = pr.report.Term, pr.report.Follows, pr.report.Facts, pr.report.Unfit
}

// agree puts the leader's view of the members over what this one sees of them, so that the pool
// reads the same everywhere. Of the leader itself, and when it is silent, only own sight counts:
// whoever it names as Primary may be dead.
func agree(rows []MemberState, v View, fresh bool, self MemberID, limit time.Duration) {
	seen := map[MemberID]Status{}
	for _, r := range v.Members {
		seen[r.ID] = r.Status
	}
	leader := v.Leader == self
	for _, r := range rows {
		if r.ID == v.Leader && r.Heard >= 0 && r.Heard <= limit && r.Status != Unreachable {
			leader = true
		}
	}
	selfRules := false
	for _, r := range rows {
		selfRules = selfRules || r.ID == self && r.Status == Primary
	}
	for i := range rows {
		r := &rows[i]
		if r.ID == self {
			continue
		}
		if st, ok := seen[r.ID]; ok && fresh && leader && r.ID != v.Leader {
			r.Status = st
		}
		if r.Status == Primary && (selfRules || fresh && leader && v.Leader != r.ID) {
			r.Status = Online // its last word is older than the present Primary's right
		}
	}
}
