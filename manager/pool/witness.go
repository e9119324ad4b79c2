package pool

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// The codes of why Primary changed. They are documented in the API document; append only.
const (
	CauseOperator    = "operator"     // somebody asked for the hand over
	CauseDrill       = "drill"        // a failover drill
	CauseTakeBack    = "take_back"    // the Master takes Primary back by itself
	CauseStopped     = "stopped"      // the old Primary's process was being stopped, in order
	CauseMaintenance = "maintenance"  // redundancy was deactivated on the old Primary
	CauseProcessDied = "process_died" // its process ended without a word: killed, crashed
	CauseSilent      = "silent"       // nothing was heard any more: frozen, powered off, cut off
	CauseSick        = "sick"         // it could not write, or not hold the virtual IP
	CauseLeaseOver   = "lease_over"   // it heard too few others and laid Primary down
	CauseFirstPath   = "first_path"   // its network on the first path, where the virtual IP is, was dead
	CauseReleased    = "released"     // it laid Primary down for another reason, which stands beside
	CauseElection    = "election"     // a vote was held by Raft's own timers: nobody had seen more
	CauseStart       = "start"        // nobody was Primary before
)

// Sighting is what one member saw of a Primary, or what that Primary itself noted. Times are Unix
// ms of the member's clock; 0: it did not see that.
type Sighting struct {
	Member      string `json:"member"`
	Role        Role   `json:"role"`
	Primary     string `json:"primary"` // of whom
	Term        uint64 `json:"term"`    // in which that one was Primary
	LastHeardMS int64  `json:"last_heard_ms,omitempty"`
	BrokenMS    int64  `json:"broken_ms,omitempty"` // the last connection broke
	Broken      string `json:"broken,omitempty"`    // how: reset, closed, silent
	RefusedMS   int64  `json:"refused_ms,omitempty"`
	FarewellMS  int64  `json:"farewell_ms,omitempty"` // its guard said that the process is dead
	ReleasedMS  int64  `json:"released_ms,omitempty"` // it said that it laid Primary down
	Released    string `json:"released,omitempty"`    // why, in its own words
	// Verdict is what the member concluded: farewell, released, refused, silent, or empty: nothing.
	Verdict string `json:"verdict,omitempty"`
	// Of the old Primary itself.
	Self        bool   `json:"self,omitempty"`
	LastWriteMS int64  `json:"last_write_ms,omitempty"`
	GaveUpMS    int64  `json:"gave_up_ms,omitempty"`
	GaveUp      string `json:"gave_up,omitempty"` // why; empty with Self: it ended without laying Primary down
}

// mostSightings are kept by each member.
const mostSightings = 32

const witnessFile = "witness.json"

// witness is what this member remembers of Primaries that ended, beyond its own process' end.
type witness struct {
	Reigning  uint64     `json:"reigning,omitempty"` // the term in which this member is Primary now
	Sightings []Sighting `json:"sightings"`          // oldest first
}

// causeOf is the code for a release: by whom it was asked for, else what the Primary said.
func causeOf(asked, kind, why string) string {
	switch {
	case asked != "":
		return asked
	case kind == "take_back":
		return CauseTakeBack
	case kind == "hand_over":
		return CauseOperator
	case kind == "takeover":
		return CauseFirstPath
	}
	for _, c := range []struct {
		text error
		code string
	}{{ErrSick, CauseSick}, {ErrLeaseOver, CauseLeaseOver}, {ErrClosed, CauseStopped}, {ErrDeposed, CauseElection}} {
		if strings.HasPrefix(why, c.text.Error()) {
			return c.code
		}
	}
	if strings.HasPrefix(why, "shutting down") {
		return CauseStopped
	}
	return CauseReleased
}

// wall turns an Instant into Unix ms of this member's clock; 0 for none.
func wall(i Instant) int64 {
	if i == 0 {
		return 0
	}
	return time.Now().Add(-Since(i)).UnixMilli()
}

// sighting is what this member has seen so far of a Primary.
func (p *Pool) sighting(of MemberID, term uint64, verdict suspicion) Sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Sighting{Member: p.name(p.self), Role: p.record.me().Role, Primary: p.name(of), Term: term, Verdict: string(verdict)}
	pr := p.peers[of]
	if pr == nil {
		return s
	}
	s.LastHeardMS, s.BrokenMS, s.Broken = wall(pr.lastHeard()), wall(pr.lost), pr.broke
	if pr.lost == 0 {
		s.Broken = ""
	}
	if pr.gone() {
		s.RefusedMS = wall(pr.refused)
	}
	if pr.dead >= term {
		s.FarewellMS = wall(pr.deadAt)
	}
	if pr.laid.Term >= term {
		s.ReleasedMS, s.Released = wall(pr.laidAt), pr.laid.Why
	}
	return s
}

// howBroken tells in a word how a connection ended.
func howBroken(err error) string {
	text := fmt.Sprint(err)
	switch {
	case strings.Contains(text, "reset") || strings.Contains(text, "broken pipe"):
		return "reset"
	case strings.Contains(text, "silent") || strings.Contains(text, "timeout"):
		return "silent"
	}
	return "closed"
}

// keepSighting keeps a sighting; a later one of the same member and term replaces it. It is written
// soon, not now.
func (p *Pool) keepSighting(s Sighting) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.witness.put(s)
	p.noteWitnessLocked()
}

func (w *witness) put(s Sighting) {
	w.Sightings = slices.DeleteFunc(w.Sightings, func(o Sighting) bool { return o.Term == s.Term && o.Primary == s.Primary && o.Self == s.Self })
	w.Sightings = append(w.Sightings, s)
	if n := len(w.Sightings) - mostSightings; n > 0 {
		w.Sightings = slices.Delete(w.Sightings, 0, n)
	}
}

// noteWitnessLocked has the witness written by a goroutine of its own: a disk that hangs must not
// hold anything up.
func (p *Pool) noteWitnessLocked() {
	p.witnessDirty = true
	if p.witnessing || p.ctx.Err() != nil {
		return
	}
	p.witnessing = true
	p.wg.Go(func() {
		for {
			p.mu.Lock()
			if !p.witnessDirty || p.ctx.Err() != nil {
				p.witnessing = false
				p.mu.Unlock()
				return
			}
			p.witnessDirty = false
			b, err := json.Marshal(p.witness)
			p.mu.Unlock()
			if err == nil {
				err = replaceFile(filepath.Join(p.cfg.Dir, witnessFile), b)
			}
			if err != nil {
				p.log.Warn("what was seen of a Primary is kept in memory only", "error", err)
			}
		}
	})
}

// recall reads what an earlier process of this member has seen. If that process was Primary and
// did not lay it down, the log says when it wrote last.
func (p *Pool) recall() {
	b, err := os.ReadFile(filepath.Join(p.cfg.Dir, witnessFile))
	if err == nil {
		err = json.Unmarshal(b, &p.witness)
	}
	if err != nil && !os.IsNotExist(err) {
		p.log.Warn("what was seen of earlier Primaries is lost", "error", err)
		p.witness = witness{}
	}
	term := p.witness.Reigning
	if p.witness.Reigning = 0; term == 0 {
		return
	}
	s := Sighting{Member: p.record.me().Name, Role: p.record.me().Role, Primary: p.record.me().Name, Term: term, Self: true}
	if at := p.store.lastAt; p.store.last.Term == term && !at.IsZero() {
		s.LastWriteMS = at.UnixMilli()
	}
	p.witness.put(s)
}

// beginsReign and endsReign note this member's own time as Primary.
func (p *Pool) beginsReign(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.witness.Reigning = term
	p.committed.Store(0)
	p.noteWitnessLocked()
}

func (p *Pool) endsReign(term uint64, why error) {
	p.mu.Lock()
	p.witness.Reigning = 0
	me := p.record.me()
	p.mu.Unlock()
	p.keepSighting(Sighting{
		Member: me.Name, Role: me.Role, Primary: me.Name, Term: term, Self: true,
		LastWriteMS: p.committed.Load(), GaveUpMS: time.Now().UnixMilli(), GaveUp: why.Error(),
	})
}

// Sightings returns what this member has seen of the Primary of a term.
func (p *Pool) Sightings(term uint64) []Sighting {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Sighting{}
	for _, s := range p.witness.Sightings {
		if s.Term == term {
			out = append(out, s)
		}
	}
	return out
}

// MethodSightings asks a member, on the pool port, what it has seen of the Primary of a term.
const MethodSightings = "sightings"

// SightingsRequest is its body.
type SightingsRequest struct {
	Pool string `json:"pool"`
	Term uint64 `json:"term"`
}

// MergeSightings puts what is new into the evidence of a changeover and reports whether anything
// was. One member has one sighting of others and, if it was the Primary, one of its own; the
// first one of others counts, because it was made before anyone acted.
func MergeSightings(have, more []Sighting) (all []Sighting, grown bool) {
	all = slices.Clone(have)
	for _, s := range more {
		if !slices.ContainsFunc(all, func(o Sighting) bool { return o.Member == s.Member && o.Self == s.Self && o.Term == s.Term }) {
			all, grown = append(all, s), true
		}
	}
	slices.SortStableFunc(all, func(a, b Sighting) int { return cmp.Compare(a.Role, b.Role) })
	return all, grown
}

// look notes what this member sees of a Primary that has come to look dead. It costs nothing while
// there is no doubt.
func (p *Pool) look() {
	p.mu.Lock()
	var id MemberID
	var term uint64
	for _, pr := range p.peers {
		if pr.lead.term > term {
			id, term = pr.id, pr.lead.term
		}
	}
	p.mu.Unlock()
	if term == 0 || p.isArbiter(id) {
		return
	}
	why, _ := p.suspectPeer(id, term)
	p.mu.Lock()
	told := p.looked == fmt.Sprint(id, term, why)
	p.looked = fmt.Sprint(id, term, why)
	p.mu.Unlock()
	if why != trusted && !told {
		p.keepSighting(p.sighting(id, term, why))
	}
}
