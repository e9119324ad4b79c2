package pool

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// suspicion is why a member takes the leader for gone. The zero value: it does not.
type suspicion string

// The suspicions, from proof to inference.
const (
	trusted    suspicion = ""
	suspectBye suspicion = "farewell" // its guard says: the process is dead and the VIP gone
	suspectOut suspicion = "released" // it laid Primary down itself
	suspectRST suspicion = "refused"  // every connection broke and its port refuses new ones
	suspectSil suspicion = "silent"   // nothing heard for the detection time
)

// words says to people what made a suspicion.
func (s suspicion) words() string {
	switch s {
	case suspectBye:
		return "its process died (farewell of its guard)"
	case suspectRST:
		return "its process died (its port refused connections)"
	case suspectOut:
		return "it laid Primary down"
	case suspectSil:
		return "it fell silent"
	}
	return "it is trusted"
}

// sight is what suspect judges on.
type sight struct {
	term     uint64 // in which it leads
	dead     uint64 // term in which its death is proven
	released uint64 // term that it laid down
	gone     bool
	silence  time.Duration
	detect   time.Duration
}

func suspect(s sight) suspicion {
	switch {
	case s.dead != 0 && s.dead >= s.term:
		return suspectBye
	case s.released != 0 && s.released >= s.term:
		return suspectOut
	case s.gone:
		return suspectRST
	case s.silence > s.detect:
		return suspectSil
	}
	return trusted
}

// suspectPeer judges the leader of term by what this member itself has seen.
func (p *Pool) suspectPeer(id MemberID, term uint64) (suspicion, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[id]
	if pr == nil {
		return trusted, 0
	}
	silence := Since(max(pr.lastHeard(), p.started))
	return suspect(sight{
		term: term, dead: pr.dead, released: pr.laid.Term, gone: pr.gone(),
		silence: silence, detect: p.timing.Detect(),
	}), silence
}

// judge answers another Manager's question about a leader. "Dead" also means that this member's
// vote is free: what it promised has run out, was released, or its holder is proven dead.
func (p *Pool) judge(q ask) verdict {
	v := verdict{Seq: q.Seq, Last: p.lastPosition()}
	why, silence := p.suspectPeer(q.Leader, q.Term)
	if why == trusted {
		v.Why = fmt.Sprintf("heard it %v ago", silence.Round(time.Millisecond))
		return v
	}
	if to, until := p.promise.owed(); to == q.Leader {
		v.Why = fmt.Sprintf("%s, but the vote is promised for another %v", why, until.Sub(Now()).Round(time.Millisecond))
		return v
	}
	saw := p.sighting(q.Leader, q.Term, why)
	v.Dead, v.Why, v.Saw = true, string(why), &saw
	return v
}

// onRelease notes that a leader laid Primary down of itself.
func (p *Pool) onRelease(from MemberID, r release) {
	p.promise.release(from, r.at())
	p.mu.Lock()
	pr := p.peers[from]
	// A release that a later heartbeat of the same leader has overtaken is history.
	fresh := pr != nil && !r.at().before(pr.lead) && pr.laid.at().before(r.at())
	if fresh {
		pr.laid, pr.laidAt = r, Now()
	}
	p.mu.Unlock()
	if fresh {
		p.wake()
	}
}

// onFarewell takes the secret that a dead process' guard sent. Only the hash that the process
// itself announced while it led makes it proof.
func (p *Pool) onFarewell(secret []byte) {
	sum := sha256.Sum256(secret)
	hash := hex.EncodeToString(sum[:])
	p.mu.Lock()
	for _, pr := range p.peers {
		if pr.farewell != hash || pr.farewell == "" {
			continue
		}
		pr.dead, pr.deadAt = pr.lead.term, Now()
		p.promise.release(pr.id, wholeTerm(pr.lead.term))
		p.peerGoneLocked(pr)
		p.log.Warn("member's process is dead", "member", pr.id, "term", pr.lead.term)
	}
	p.mu.Unlock()
	p.wake()
}

// peerGoneLocked acts on the proof or the strong sign that a peer's process has ended: what it
// would have stored must not be waited for.
func (p *Pool) peerGoneLocked(pr *peer) {
	if m, ok := p.record.Member(pr.id); ok && m.Role != Arbiter && p.gate != nil {
		p.gate.PeerDown()
	}
	p.wake()
}

// peerBack notes a fresh connection from or to a peer's living process.
func (p *Pool) peerBack(id MemberID) {
	if p.gate != nil && !p.isArbiter(id) {
		p.gate.PeerUp()
	}
	p.event(Event{Code: "member_connected", Severity: "info", Member: id})
	p.wake()
}

// detect is a Manager's loop: when its leader looks dead and the third member agrees, it stands
// for election at once instead of waiting for the library's timers.
func (p *Pool) detect(ctx context.Context) {
	var quiet Instant // no further candidacy against of in term before
	var of MemberID
	var in uint64
	for {
		wake := p.woken()
		leader, term := p.leader()
		if leader != "" && leader != p.self && (Now() >= quiet || leader != of || term != in) && p.electable() == nil {
			if why, silence := p.suspectPeer(leader, term); why != trusted {
				if p.takeOver(ctx, leader, term, why, silence) {
					quiet, of, in = Now().Add(p.timing.managerElection()), leader, term
				}
			}
		}
		if !sleepOr(ctx, wake, detectTick) {
			return
		}
	}
}

// detectTick is how often silence is looked at; evidence wakes the loop at once.
const detectTick = 10 * time.Millisecond

// takeOver asks the third member until it agrees or the leader is trusted again, then stands. It
// reports whether it stood.
func (p *Pool) takeOver(ctx context.Context, leader MemberID, term uint64, why suspicion, silence time.Duration) bool {
	detected := Now()
	third, ok := p.third(leader)
	if !ok {
		return false
	}
	if doubt := fmt.Sprint(leader, term, why); doubt != p.doubt {
		p.doubt = doubt // once per doubt: a lost link between two members can last for days
		p.log.Warn("leader looks dead", "leader", leader, "term", term, "why", string(why), "silent", silence.Round(time.Millisecond))
	}
	ctx, cancel := context.WithTimeout(ctx, 4*p.timing.Detect())
	defer cancel()
	for wait := 3 * time.Millisecond; ; wait = min(wait*5/4, p.timing.HeartbeatPeriod) {
		if now, t := p.leader(); now != leader || t != term {
			return false
		}
		w, _ := p.suspectPeer(leader, term)
		if w == trusted {
			p.log.Info("leader is back", "leader", leader)
			return false
		}
		if to, _ := p.promise.owed(); to != leader {
			v, err := p.ask(ctx, third, ask{Leader: leader, Term: term})
			if err == nil && v.Dead {
				return p.stand(ctx, leader, term, w, v, silence, detected)
			}
		}
		if !sleep(ctx, wait) {
			return false
		}
	}
}

// stand makes Raft a candidate, provided the third member's log does not already forbid it: a
// candidacy that must fail would only raise the term.
func (p *Pool) stand(ctx context.Context, leader MemberID, term uint64, why suspicion, v verdict, silence time.Duration, detected Instant) bool {
	mine := p.lastPosition()
	if mine.Before(v.Last) {
		if !p.seldom("not_electable", time.Minute) {
			return true
		}
		p.event(Event{Code: "not_electable", Severity: "error", Member: leader, Cause: fmt.Sprintf(
			"this Manager's log ends at term %d index %d, the third member knows of term %d index %d: acknowledged records are on the other Manager only",
			mine.Term, mine.Index, v.Last.Term, v.Last.Index)})
		return true
	}
	if p.raft.State() != raft.Follower {
		return false
	}
	saw := []Sighting{p.sighting(leader, term, why)}
	if v.Saw != nil {
		saw = append(saw, *v.Saw)
	}
	p.keepSighting(saw[0])
	p.mu.Lock()
	p.cause = takeoverCause{
		code: map[suspicion]string{suspectBye: CauseProcessDied, suspectRST: CauseProcessDied, suspectSil: CauseSilent}[why], saw: saw,
		kind: "takeover", from: leader, why: fmt.Sprintf("%s, confirmed by %s", why.words(), p.name(p.thirdLocked(leader))),
		began: detected.Add(-silence), detected: detected, term: term,
		vacant: why == suspectBye || why == suspectOut,
	}
	if pr := p.peers[leader]; why == suspectOut && pr != nil {
		p.cause.why, p.cause.began = "the Primary laid it down: "+pr.laid.Why, detected
		if p.cause.code = pr.laid.Code; p.cause.code == "" {
			p.cause.code = CauseReleased
		}
		if pr.laid.To == p.self && pr.laid.Kind != "" {
			p.cause.kind, p.cause.why = pr.laid.Kind, pr.laid.Why
		}
	}
	p.mu.Unlock()
	if err := p.trans.Campaign(ctx); err != nil {
		p.log.Warn("cannot stand for election", "error", err)
		return false
	}
	return true
}

// seldom reports whether what is called code may be told again, at most once per d.
func (p *Pool) seldom(code string, d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at, ok := p.noteworthy[code]; ok && Since(at) < d {
		return false
	}
	p.noteworthy[code] = Now()
	return true
}

// ask puts a question to a member and waits for its verdict.
func (p *Pool) ask(ctx context.Context, to MemberID, q ask) (verdict, error) {
	ch := make(chan verdict, 1)
	p.mu.Lock()
	p.askSeq++
	q.Seq = p.askSeq
	pr := p.peers[to]
	pr.asked[q.Seq] = ch
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(pr.asked, q.Seq)
		p.mu.Unlock()
	}()
	if !p.tell(to, linkMessage{Ask: &q}) {
		return verdict{}, fmt.Errorf("no link to %s", to)
	}
	select {
	case v := <-ch:
		return v, nil
	case <-ctx.Done():
		return verdict{}, context.Cause(ctx)
	case <-time.After(p.timing.HeartbeatTimeout):
		return verdict{}, fmt.Errorf("no answer from %s within %v", to, p.timing.HeartbeatTimeout)
	}
}

// takeoverCause is what this node knows of the change of Primary that it is about to make.
type takeoverCause struct {
	kind     string
	from     MemberID
	why      string
	code     string
	saw      []Sighting // by this member and the third one
	term     uint64     // of the old Primary
	vacant   bool       // it has let go of the VIP: its guard or it said so itself
	began    Instant
	detected Instant
}

func sleepOr(ctx context.Context, wake <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-wake:
	case <-t.C:
	}
	return true
}
