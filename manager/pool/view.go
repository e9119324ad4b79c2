package pool

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"redundancypool/manager/pool/transport"
)

// beat builds this member's next heartbeat.
func (p *Pool) beat(seq uint64) beat {
	term := p.raft.CurrentTerm()
	b := beat{Seq: seq, Term: term, Lease: p.timing.Lease(), Boot: p.boot, Report: p.reportNow()}
	leads := p.raft.State() == raft.Leader
	b.Epoch, b.Lead = p.lease.asking(term)
	b.Lead = b.Lead && leads
	p.mu.Lock()
	defer p.mu.Unlock()
	if leads && !b.Lead && p.laid != nil && p.laid.Term == term {
		b.Laid = p.laid
	}
	if b.Lead && p.reign != nil && p.reign.term == term {
		b.Farewell = p.reign.hash
	}
	if b.Lead && p.view.Term == term {
		v := p.view
		b.View = &v
	}
	return b
}

func (p *Pool) reportNow() report {
	last := p.lastPosition()
	r := report{Last: last, WallMS: time.Now().UnixMilli(), CommitUS: p.watch.commitTime().Microseconds(), Version: p.cfg.Version, Hears: map[MemberID][2]int64{}}
	if err := p.watch.sick(); err != nil {
		r.Disk = err.Error()
	}
	r.Applied = p.raft.AppliedIndex()
	r.ApplyLag = p.backlog.lag(p.raft.CommitIndex(), r.Applied, Now())
	if err := p.fit(); err != nil {
		r.Unfit = err.Error()
	}
	r.Facts = p.facts()
	r.Follows, r.Term = p.leader()
	p.mu.Lock()
	defer p.mu.Unlock()
	r.Status, r.Maintenance, r.Starting = p.statusLocked(), p.maintenance, p.promise.starting()
	if p.sickness != "" && r.Disk == "" {
		r.Disk = p.sickness
	}
	r.Revision, r.RunsOld = p.record.Revision, p.staleRunLocked()
	r.Digest, r.DigestAt = p.digest.sum, p.digest.index
	for id, pr := range p.peers {
		r.Hears[id] = [2]int64{age(pr.heard[0]), age(pr.heard[1])}
	}
	return r
}

// age is how long ago an Instant was, in ms; -1: never.
func age(i Instant) int64 {
	if i == 0 {
		return -1
	}
	return Since(i).Milliseconds()
}

// housekeep keeps the view, the record on disk, the digest comparison and the taking back.
func (p *Pool) housekeep(ctx context.Context) {
	saved := Now()
	for ctx.Err() == nil {
		wake := p.woken()
		p.refresh()
		if Since(saved) > 5*time.Second {
			p.saveRecord()
			saved = Now()
		}
		if !sleepOr(ctx, wake, 100*time.Millisecond) {
			return
		}
		if !sleep(ctx, 5*time.Millisecond) { // many small changes make one refresh
			return
		}
	}
}

func (p *Pool) saveRecord() {
	p.recording.Lock()
	defer p.recording.Unlock()
	last := p.lastPosition()
	p.mu.Lock()
	if p.record.Highest[p.self].Before(last) {
		p.noteHighestLocked(p.self, last)
	}
	rec, dirty := p.record, p.recordDirty
	p.recordDirty = false
	p.mu.Unlock()
	if !dirty {
		return
	}
	if err := WriteRecord(p.cfg.Dir, rec); err != nil {
		p.log.Warn("cannot save pool record", "error", err)
		p.mu.Lock()
		p.recordDirty = true
		p.mu.Unlock()
	}
}

// refresh recomputes what this member knows; the leader's result is handed to all.
func (p *Pool) refresh() {
	p.checkDigest()
	p.settle()
	p.probeDisk()
	p.look()
	leads := p.raft.State() == raft.Leader
	p.mu.Lock()
	if p.sickness != "" && Since(p.sickAt) > max(2*time.Second, 2*p.timing.DiskTimeout) && p.watch.sick() == nil {
		p.log.Info("healthy again", "was", p.sickness)
		p.sickness = ""
		defer p.wake()
	}
	p.mu.Unlock()
	if leads {
		v := p.compute()
		p.mu.Lock()
		old, before := p.view.Health, p.lasting
		p.view, p.viewAt = v, Now()
		if v.Health != Failure {
			p.lasting = v.Health
		}
		p.mu.Unlock()
		if v.Health != Failure && v.Health != before { // what hears no Primary tells of a Failure
			p.event(Event{Code: "health", Severity: healthSeverity(v.Health), Term: v.Term, Cause: healthCause(v.Reasons),
				Details: map[string]any{"from": before.String(), "to": v.Health.String(), "reasons": v.Reasons}})
		}
		if v.Health != old {
			p.kicks.wake()
		}
		p.takeBack(v)
		p.leaveDeadPath()
		return
	}
	p.mu.Lock()
	if p.view.Health != Failure {
		p.lasting = p.view.Health
	}
	p.mu.Unlock()
}

// healthCause is the reasons for a pool's health, in words; empty: all is well.
func healthCause(all []Reason) string {
	var texts []string
	for _, r := range all {
		texts = append(texts, r.Text)
	}
	return strings.Join(texts, "; ")
}

func healthSeverity(h Health) string {
	switch h {
	case Failure:
		return "error"
	case Degraded:
		return "warning"
	}
	return "info"
}

// probeDisk tries to write where the last write failed, so that a member whose disk was full for
// a moment becomes healthy again although Raft gives it nothing to write.
func (p *Pool) probeDisk() {
	if p.watch.failing("log") && p.seldom("probe", 500*time.Millisecond) && p.probing.CompareAndSwap(false, true) {
		p.wg.Go(func() {
			defer p.probing.Store(false)
			p.store.probe()
			p.wake()
		})
	}
}

// compute builds the leader's View.
func (p *Pool) compute() View {
	term := p.raft.CurrentTerm()
	voters := map[MemberID]bool{}
	if f := p.raft.GetConfiguration(); f.Error() == nil {
		for _, s := range f.Configuration().Servers {
			voters[MemberID(s.ID)] = s.Suffrage == raft.Voter
		}
	}
	last := p.raft.LastIndex()
	gate := p.gate.View(term)
	obstacles := p.Obstacles()
	p.mu.Lock()
	defer p.mu.Unlock()
	v := View{Term: term, Leader: p.self, Extra: p.extra, Recovery: p.recoveryLocked()}
	if v.Extra == nil {
		v.Extra = p.view.Extra // of the leader before, until this one knows its own
	}
	if p.changeover != nil {
		c := *p.changeover
		v.Changeover = &c
	} else {
		v.Changeover = p.view.Changeover
	}
	if p.status == Primary {
		v.Primary = p.self
	}
	reachable, votersSeen := 0, 0
	for _, m := range p.record.Members {
		row := MemberView{ID: m.ID, InStep: true}
		switch {
		case m.ID == p.self:
			row.Status = p.status
			reachable++
			votersSeen++
		default:
			pr := p.peers[m.ID]
			row.Status = p.peerStatusLocked(pr)
			if pr != nil {
				pr.noteStatusLocked(row.Status)
			}
			if row.Status != Unreachable && row.Status != Unknown {
				reachable++
				if voters[m.ID] {
					votersSeen++
				}
			}
			if m.Role == Arbiter {
				row.InStep = row.Status == Online
				break
			}
			row.InStep = gate.InStep && voters[m.ID] && !p.digest.differs && pr.report.ApplyLag < applyLagLimit
			if at := max(gate.Match, pr.report.Last.Index); at < last {
				row.Behind = last - at
			}
			if gate.InStep {
				row.Behind = last - min(last, gate.Match)
			}
		}
		row.Hears = p.hearsLocked(m.ID)
		v.Members = append(v.Members, row)
	}
	v.Reasons, v.Notes = obstacles, p.notesLocked()
	switch {
	case len(p.record.Members) == 1 && p.record.Phase == PhaseForced && p.status == Primary:
		v.Health = Degraded
	case len(p.record.Members) == 1:
		v.Health = HealthStandalone
	case p.record.Phase != PhaseEffective:
		v.Health = HealthForming
	case p.status != Primary:
		v.Health = Failure
		if len(v.Reasons) == 0 {
			v.Reasons = []Reason{{"no_primary", "no Manager is Primary at this moment"}}
		}
	case reachable == 3 && votersSeen == 3 && len(obstacles) == 0:
		v.Health = Protected
	default:
		v.Health = Degraded
		if len(v.Reasons) == 0 {
			v.Reasons = []Reason{{"voters", "not all three members vote at this moment"}}
		}
	}
	return v
}

// statusLocked is this node's status as it holds at this instant: a right that has run out is none,
// even before anyone was awake to notice.
func (p *Pool) statusLocked() Status {
	if p.status == Primary && Now() >= p.lease.until() {
		return Online
	}
	return p.status
}

// peerStatusLocked is the peer's status as this member sees it.
func (p *Pool) peerStatusLocked(pr *peer) Status {
	switch {
	case pr == nil || pr.lastHeard() == 0:
		return Unknown
	case Since(pr.lastHeard()) > p.timing.Detect() || pr.gone():
		return Unreachable
	case pr.reported == 0:
		return Unknown
	}
	return pr.report.Status
}

// Obstacles are the reasons why a failover to the other Manager would not succeed now; none: it
// would. Only the leader can know.
func (p *Pool) Obstacles() []Reason {
	other, ok := p.otherManager()
	if !ok {
		if p.Record().Phase == PhaseEffective {
			return []Reason{{"manager_missing", "this pool has no second Manager: its place is to be filled (replace)"}}
		}
		return []Reason{{"standalone", "no redundancy is configured: there is no other Manager"}}
	}
	if p.raft.State() != raft.Leader {
		return []Reason{{"not_leading", "this Manager does not lead, so it cannot tell"}}
	}
	term := p.raft.CurrentTerm()
	gate := p.gate.View(term)
	last := p.raft.LastIndex()
	var out []Reason
	add := func(code, format string, args ...any) { out = append(out, Reason{code, fmt.Sprintf(format, args...)}) }
	p.mu.Lock()
	defer p.mu.Unlock()
	pr, role := p.peers[other.ID], other.Role.String()
	st := p.peerStatusLocked(pr)
	heard := st != Unreachable && st != Unknown
	addIf := func(yes bool, code, format string, args ...any) {
		if yes {
			add(code, format, args...)
		}
	}
	switch {
	case p.record.Phase != PhaseEffective:
		add("forming", "the pool is still being formed")
	case !heard:
		add(role+"_unreachable", "%s is not reachable at %v", other.Name, other.Address)
	default:
		r := pr.report
		addIf(r.Disk != "", role+"_disk", "%s cannot write: %s", other.Name, r.Disk)
		addIf(r.Unfit != "", role+"_unfit", "%s could not serve: %s", other.Name, r.Unfit)
		addIf(p.cutOffLocked(other.ID), role+"_first_path", "%s is cut off on the first path, where the virtual IP is", other.Name)
		addIf(r.Maintenance, role+"_maintenance", "%s is in maintenance and takes no Primary", other.Name)
		addIf(r.Starting, role+"_starting", "%s has just started and cannot vote yet", other.Name)
		addIf(!gate.InStep, role+"_behind", "%s is not in step (%d entries behind, copies: %s)", other.Name, last-min(last, gate.Match), copies(gate))
		addIf(gate.InStep && r.ApplyLag >= applyLagLimit, role+"_applying", "%s has everything in its log, but its database is %.1f s late", other.Name, r.ApplyLag.Seconds())
	}
	if p.digest.differs {
		add("digest_differs", "the databases of the two Managers differ at entry %d: re-synchronise %s", p.digest.at, other.Name)
	}
	if m, ok := p.record.ByRole(Arbiter); ok {
		if st := p.peerStatusLocked(p.peers[m.ID]); m.Deactivated && (st == Unreachable || st == Unknown) {
			add("arbiter_maintenance", "%s is away for maintenance: nobody could confirm the takeover", m.Name)
		} else if st == Unreachable || st == Unknown {
			add("arbiter_unreachable", "%s is not reachable at %v: nobody could confirm the takeover", m.Name, m.Address)
		} else if disk := p.peers[m.ID].report.Disk; disk != "" {
			add("arbiter_disk", "%s cannot write, so it cannot vote: %s", m.Name, disk)
		} else if m.Deactivated {
			add("arbiter_maintenance", "%s is deactivated for maintenance: it may go away at any time", m.Name)
		} else if p.record.Phase == PhaseEffective && heard && (p.deafLocked(other.ID, m.ID) || p.deafLocked(m.ID, other.ID)) {
			add(role+"_arbiter_link", "%s and %s do not hear each other: %s could not get the vote that a takeover needs", other.Name, m.Name, other.Name)
		}
	} else if p.record.Phase == PhaseEffective {
		add("arbiter_missing", "this pool has no Arbiter: its place is to be filled (replace)")
	}
	return out
}

func copies(g transport.GateView) string {
	if g.State == transport.GateOpen {
		return "one"
	}
	return "two, catching up"
}

// takeBack hands Primary back to the Master once it has been up and in step for long enough.
func (p *Pool) takeBack(v View) {
	p.mu.Lock()
	due := false
	if p.record.Active && p.record.me().Role == Backup && v.Health == Protected && p.status == Primary && !p.handing {
		if p.stable == 0 {
			p.stable = Now()
		}
		due = Since(p.stable) > p.takeBackWaitLocked()
	} else {
		if p.stable != 0 && p.status == Primary && v.Health != Protected {
			p.backOffLocked()
		}
		p.stable = 0
	}
	if due {
		p.stable = 0
		p.backOffLocked()
	}
	p.mu.Unlock()
	if due {
		p.wg.Go(func() {
			ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
			defer cancel()
			if err := p.handOver(ctx, "take_back", "the Master takes Primary back", func(s string) { p.log.Info("take back", "step", s) }); err != nil {
				p.log.Warn("take back failed", "error", err)
			}
		})
	}
}

// digestCheck compares the two databases, at an index that both have a digest of.
type digestCheck struct {
	index   uint64
	sum     string
	differs bool
	at      uint64
}

func (p *Pool) checkDigest() {
	if p.cfg.Machine == nil {
		return
	}
	index, sum := p.cfg.Machine.Digest()
	other, ok := p.otherManager()
	p.mu.Lock()
	p.digest.index, p.digest.sum = index, sum
	var theirs report
	if pr := p.peers[other.ID]; ok && pr != nil {
		theirs = pr.report
	}
	p.mu.Unlock()
	if theirs.Digest == "" {
		return
	}
	mine, known := p.cfg.Machine.DigestAt(theirs.DigestAt)
	if !known {
		return
	}
	p.mu.Lock()
	was := p.digest.differs
	p.digest.differs, p.digest.at = mine != theirs.Digest, theirs.DigestAt
	differs := p.digest.differs
	p.mu.Unlock()
	if differs && !was {
		p.event(Event{Code: "digest_differs", Severity: "error", Member: other.ID, Cause: fmt.Sprintf("databases differ at entry %d: %s here, %s there", theirs.DigestAt, short(mine), short(theirs.Digest))})
	}
}

// State is what a member knows, for pages, the API and the command line.
type State struct {
	Role     Role
	Status   Status
	Health   Health
	Term     uint64
	Record   Record
	Primary  MemberID
	Members  []MemberState
	Reasons  []Reason
	Notes    []Reason // hinder no failover
	Change   *Changeover
	Last     Position
	Applied  uint64
	Sick     string
	Extra    map[string]any
	ViewAge  time.Duration // of the leader's picture; negative: none yet
	Handing  bool
	Archived bool
	Leader   MemberID // whose picture it is; empty: none that is fresh
	Recovery Recovery
	// Verified is the entry at which the databases of both Managers were compared last; 0: not yet.
	Verified uint64
	Differs  bool // they did then
}

// MemberState is one row of a State.
type MemberState struct {
	Member
	Status   Status
	Heard    time.Duration // ago; negative: never
	InStep   bool
	Behind   uint64
	RTT      time.Duration
	Failure  string // what the last attempt to connect came to; empty: connected
	ClockOff time.Duration
	Commit   time.Duration
	Hears    map[MemberID][2]int64
	HearsAge time.Duration // of Hears; negative: nothing is known of it
	Disk     string
	Version  string
	Revision uint64 // of the agreement that it has
	RunsOld  bool   // it must be opened anew to work by it
	Unfit    string // why it could not serve although its disk is well
	Starting bool   // has just started and votes for nobody yet
	Term     uint64
	Last     Position // the end of its log
	Applied  uint64   // stored in its database
	Follows  MemberID // whom it takes for the leader
	Facts    Facts
	// Maintenance: it votes, but takes no Primary.
	Maintenance bool
	Reported    time.Duration // how old that is; negative: it has said nothing yet
}

// State returns the present picture. It never blocks on disk or network.
func (p *Pool) State() State {
	last, facts := p.lastPosition(), p.facts()
	sick := p.electable()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := State{
		Role: p.record.me().Role, Status: p.statusLocked(), Term: p.raft.CurrentTerm(), Record: p.record,
		Last: last, Applied: p.raft.AppliedIndex(), Handing: p.handing, ViewAge: -1,
	}
	if sick != nil {
		s.Sick = sick.Error()
	}
	switch {
	case s.Status == Primary && len(p.record.Members) == 1 && p.record.Phase != PhaseForced:
		s.Status = Alone
	case s.Status == Primary:
	case p.record.Phase == PhaseForming:
		s.Status = Configuring
	}
	fresh := p.viewAt != 0 && Since(p.viewAt) < 4*p.timing.Detect()
	s.Health, s.Change = p.view.Health, p.view.Changeover
	if p.viewAt != 0 {
		s.ViewAge = Since(p.viewAt)
	}
	if fresh {
		s.Reasons, s.Primary, s.Extra = p.view.Reasons, p.view.Primary, p.view.Extra
		s.Leader = p.view.Leader
		s.Notes = p.view.Notes
	} else {
		s.Health = Failure
		s.Reasons = []Reason{{"no_primary", "this member hears no Primary"}}
		switch {
		case len(p.record.Members) == 1:
			s.Health = HealthStandalone
		case p.record.Phase != PhaseEffective:
			s.Health = HealthForming
		}
	}
	if p.expelled != nil && !fresh {
		s.Reasons = []Reason{{"refused_" + p.expelled.Code, p.expelled.Text}}
	}
	rows := map[MemberID]MemberView{}
	for _, r := range p.view.Members {
		rows[r.ID] = r
	}
	for _, m := range p.record.Members {
		row := MemberState{Member: m, InStep: rows[m.ID].InStep && fresh, Behind: rows[m.ID].Behind}
		if m.ID == p.self {
			row.Status, row.Heard, row.Commit, row.Version = s.Status, 0, p.watch.commitTime(), p.cfg.Version
			row.Revision, row.RunsOld = p.record.Revision, p.staleRunLocked()
		} else if pr := p.peers[m.ID]; pr != nil {
			row.Status = p.peerStatusLocked(pr)
			row.Heard, row.RTT, row.Failure, row.ClockOff = -1, pr.rtt, pr.failure, pr.wallOff
			if h := pr.lastHeard(); h != 0 {
				row.Heard = Since(h)
			}
			row.Commit, row.Hears = time.Duration(pr.report.CommitUS)*time.Microsecond, pr.report.Hears
			row.Disk, row.Version = pr.report.Disk, pr.report.Version
			row.Revision, row.RunsOld = pr.report.Revision, pr.report.RunsOld
		}
		p.completeLocked(&row, last, facts)
		if told := rows[m.ID].Hears; fresh && told != nil && (row.Reported < 0 || row.Reported > p.timing.Detect()) {
			row.Hears, row.HearsAge = told, Since(p.viewAt) // the leader hears it, this one does not
		}
		s.Members = append(s.Members, row)
	}
	agree(s.Members, p.view, fresh, p.self, p.timing.Detect())
	s.Recovery, s.Verified, s.Differs = p.view.Recovery, p.digest.at, p.digest.differs
	if !fresh {
		s.Recovery = Recovery{Active: p.record.Active, Waits: p.timing.StabilityDelay, Left: -1}
	}
	return s
}

// Changed returns a channel that is closed at the next change of anything in State; take it
// before State, so that no change is missed.
func (p *Pool) Changed() <-chan struct{} { return p.woken() }

// SetExtra gives facts of the composer's to every member's pages; only the leader's are spread.
func (p *Pool) SetExtra(extra map[string]any) {
	p.mu.Lock()
	p.extra = extra
	p.mu.Unlock()
}
