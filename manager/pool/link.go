package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"redundancypool/manager/pool/transport"
)

// A link is a standing connection that one member opens to another on one path. It carries the
// opener's heartbeats and questions one way and answers the other. Two members therefore have
// two links per path, and when a process dies its kernel ends all of them.

// paths is how many heartbeat paths a member may have.
const paths = 2

// peer is what this member knows of another one. Guarded by Pool.mu.
type peer struct {
	id       MemberID
	heard    [paths]Instant // last frame from it
	answered [paths]Instant // last answer to a heartbeat of ours
	rtt      time.Duration
	out      [paths]*linkConn
	in       map[*linkConn]int
	report   report
	reported Instant
	lost     Instant // when its last connection in either direction broke; 0: some stand
	refused  Instant // when its port last refused a connection
	failure  string  // what the last attempt to connect came to
	failed   Instant
	farewell string         // hash from its last heartbeat as leader
	lead     tenure         // of that heartbeat
	dead     uint64         // term in which its death is proven by a farewell
	laid     release        // what it laid down itself last
	deadAt   Instant        // when that farewell came
	laidAt   Instant        // when it said so
	broke    string         // how its last connection ended
	was      Status         // as the leader saw it last
	drops    []Instant      // when it went away, of late
	boot     string         // of its present process
	home     string         // boot of the process that answers at the member's address; empty: none does
	homeAt   Instant        // last answer of that process
	mark     Position       // where its log ended when that process was first heard
	beaten   [paths]Instant // last heartbeat of its own, to tell it from mere answers
	asked    map[uint64]chan verdict
	wallOff  time.Duration // its wall clock minus ours
}

// linkConn is one link with a lock for its writers.
type linkConn struct {
	*transport.Conn
	path  int
	write sync.Mutex
	sent  map[uint64]Instant // heartbeats without an answer; guarded by Pool.mu
	how   string             // it ended; set before linkDown
}

func (c *linkConn) send(m linkMessage, within time.Duration) error {
	c.write.Lock()
	defer c.write.Unlock()
	_ = c.SetWriteDeadline(time.Now().Add(within))
	return transport.WriteFrame(c, m)
}

// lastHeard returns the latest moment on any path.
func (pr *peer) lastHeard() Instant { return max(pr.heard[0], pr.heard[1]) }

// gone reports that every connection broke and that the port refuses a new one since.
func (pr *peer) gone() bool { return pr.lost != 0 && pr.refused > pr.lost }

// keepLink opens the link to a peer on one path again and again until ctx ends.
func (p *Pool) keepLink(ctx context.Context, id MemberID, path int) {
	quick := 0 // tries left in quick succession after a break, to learn whether the port refuses
	for ctx.Err() == nil {
		c, err := p.dialLink(ctx, id, path)
		if err != nil {
			p.linkFailed(id, err)
			wait := 4 * p.timing.HeartbeatPeriod
			if quick > 0 {
				quick, wait = quick-1, 2*time.Millisecond
			}
			if !sleep(ctx, wait) {
				return
			}
			continue
		}
		p.linkUp(id, c)
		err = p.runLink(ctx, id, c)
		c.Close()
		c.how = howBroken(err)
		p.linkDown(id, c)
		if ctx.Err() == nil {
			p.log.Debug("link ended", "member", id, "path", path, "error", err)
		}
		quick = 10
	}
}

func (p *Pool) dialLink(ctx context.Context, id MemberID, path int) (*linkConn, error) {
	m, ok := p.Record().Member(id)
	if !ok {
		return nil, errors.New("no longer a member")
	}
	// A short limit, so that a healed network is noticed at once; TCP itself would try again
	// after 1, 3, 7 s only.
	ctx, cancel := context.WithTimeout(ctx, min(p.timing.ConnectTimeout, 500*time.Millisecond))
	defer cancel()
	rec := p.Record()
	c, err := p.cfg.Dialer.Dial(ctx, m.addr(path).String(), m.Fingerprint, transport.Hello{
		Kind: transport.KindLink, Pool: rec.Pool, Incarnation: rec.Incarnation,
		From: string(rec.Self), To: string(id), Path: path, Boot: p.boot,
	})
	if err != nil {
		return nil, err
	}
	return &linkConn{Conn: c, path: path, sent: map[uint64]Instant{}}, nil
}

func (p *Pool) linkFailed(id MemberID, err error) {
	if no, ok := expulsion(err); ok {
		p.expel(no)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[id]
	pr.failure, pr.failed = err.Error(), Now()
	if errors.Is(err, syscall.ECONNREFUSED) {
		pr.refused = Now()
		if pr.gone() {
			p.peerGoneLocked(pr)
		}
	}
}

func (p *Pool) linkUp(id MemberID, c *linkConn) {
	p.mu.Lock()
	pr := p.peers[id]
	pr.out[c.path] = c
	pr.lost, pr.failure = 0, ""
	p.expelled = nil
	p.mu.Unlock()
	p.links.wake()
	p.log.Info("link up", "member", id, "path", c.path)
	p.peerBack(id)
}

func (p *Pool) linkDown(id MemberID, c *linkConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pr := p.peers[id]
	if pr.out[c.path] == c {
		pr.out[c.path], pr.home = nil, ""
		p.stream.cut(id, c.path)
	}
	delete(pr.in, c)
	if pr.out[0] == nil && pr.out[1] == nil && len(pr.in) == 0 && pr.lost == 0 {
		pr.lost, pr.broke = Now(), c.how
	}
	p.wake()
}

// runLink sends heartbeats and reads answers until the link breaks or has been silent for so
// long that a fresh connection is the better bet.
func (p *Pool) runLink(ctx context.Context, id MemberID, c *linkConn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	wg.Go(func() {
		for {
			var m linkMessage
			if err := transport.ReadFrame(c, &m); err != nil {
				cancel(err)
				return
			}
			p.onReply(id, c, m)
		}
	})
	tick := time.NewTicker(p.timing.HeartbeatPeriod)
	defer tick.Stop()
	limit := 2 * p.timing.Detect()
	began := Now()
	for seq := uint64(1); ; seq++ {
		kick := p.beatKick()
		b := p.beat(seq)
		p.mu.Lock()
		pr := p.peers[id]
		last, silence := max(pr.heard[c.path], began), limit
		if pr.out[1-c.path] != nil && Since(pr.heard[1-c.path]) < p.timing.Detect()/2 {
			silence = p.timing.Detect() // the other path lives: Raft moves there before it loses its leader
		}
		c.sent[seq] = Now()
		delete(c.sent, seq-256)
		p.mu.Unlock()
		if Since(last) > silence {
			return fmt.Errorf("silent for %v", silence)
		}
		if err := c.send(linkMessage{Beat: &b}, limit); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		case <-kick:
		}
	}
}

// onReply takes what came back on a link that this member opened.
func (p *Pool) onReply(id MemberID, c *linkConn, m linkMessage) {
	now := Now()
	p.mu.Lock()
	pr := p.peers[id]
	pr.heard[c.path] = now
	var consent Instant
	var at tenure
	has, behind := uint64(0), false
	switch {
	case m.Answer != nil:
		if sent, ok := c.sent[m.Answer.Seq]; ok {
			p.atHomeLocked(pr, m.Answer.Boot, now)
			delete(c.sent, m.Answer.Seq)
			has, behind = m.Answer.Revision, m.Answer.Revision < p.record.Revision
			pr.rtt += (now.Sub(sent) - pr.rtt) / 8
			if pr.answered[c.path] == 0 {
				pr.rtt = now.Sub(sent)
			}
			pr.answered[c.path] = now
			p.noteStaleLocked(id, m.Answer.Stale)
			if m.Answer.Granted {
				consent, at = sent, tenure{m.Answer.Term, m.Answer.Epoch}
			}
		}
	case m.Verdict != nil:
		if ch := pr.asked[m.Verdict.Seq]; ch != nil {
			select {
			case ch <- *m.Verdict:
			default:
			}
		}
	}
	p.mu.Unlock()
	if consent != 0 {
		p.lease.consent(id, at, consent)
	}
	if behind {
		p.spread(id, has)
	}
}

// serveLink answers a link that another member opened; it is the Port's handler.
func (p *Pool) serveLink(conn *transport.Conn) {
	c := &linkConn{Conn: conn, path: conn.Hello.Path & 1}
	id := MemberID(conn.Hello.From)
	defer c.Close()
	if !p.enter() {
		return
	}
	defer p.leave()
	stop := context.AfterFunc(p.ctx, func() { c.Close() })
	defer stop()
	p.mu.Lock()
	pr := p.peers[id]
	if pr == nil {
		p.mu.Unlock()
		return
	}
	pr.in[c] = c.path
	pr.lost = 0
	p.mu.Unlock()
	defer p.linkDown(id, c)
	p.peerBack(id)
	limit := 2 * p.timing.Detect()
	for {
		// A silent link is the opener's business to renew; its end must be noticed here too.
		_ = c.SetReadDeadline(time.Now().Add(2 * limit))
		var m linkMessage
		if err := transport.ReadFrame(c, &m); err != nil {
			c.how = howBroken(err)
			return
		}
		var reply linkMessage
		switch {
		case m.Beat != nil:
			a := p.onBeat(id, c.path, *m.Beat)
			reply.Answer = &a
		case m.Ask != nil:
			p.touch(id, c.path)
			v := p.judge(*m.Ask)
			reply.Verdict = &v
		case m.Release != nil:
			p.touch(id, c.path)
			p.onRelease(id, *m.Release)
			continue
		case m.Bye:
			p.mu.Lock()
			p.peerGoneLocked(pr)
			p.mu.Unlock()
			continue
		case m.Record != nil:
			p.touch(id, c.path)
			p.onRecord(id, *m.Record)
			continue
		default:
			continue
		}
		if err := c.send(reply, limit); err != nil {
			return
		}
	}
}

func (p *Pool) touch(id MemberID, path int) {
	p.mu.Lock()
	p.peers[id].heard[path] = Now()
	p.mu.Unlock()
}

// onBeat takes a heartbeat and decides on the lease it asks for.
func (p *Pool) onBeat(from MemberID, path int, b beat) answer {
	now := Now()
	p.mu.Lock()
	pr := p.peers[from]
	pr.heard[path], pr.beaten[path] = now, now
	if pr.reported == 0 || pr.report.Status != b.Report.Status {
		defer p.wake()
	}
	pr.report, pr.reported = b.Report, now
	if b.Report.WallMS != 0 {
		pr.wallOff = time.Until(time.UnixMilli(b.Report.WallMS))
	}
	at := tenure{b.Term, b.Epoch}
	if b.Lead && !at.before(pr.lead) {
		pr.farewell, pr.lead = b.Farewell, at
		if pr.laid.at().before(at) {
			pr.laid = release{} // it leads again
		}
		p.heardLead = true
	}
	stale := p.staleLocked(pr, b.Boot, b.Report.Last)
	revision := p.record.Revision
	if b.View != nil && b.View.Term >= p.view.Term {
		p.view, p.viewAt = *b.View, now
	}
	p.mu.Unlock()
	if b.Laid != nil {
		p.onRelease(from, *b.Laid)
	}
	a := answer{Seq: b.Seq, Term: b.Term, Epoch: b.Epoch, Boot: p.boot, Stale: stale, Revision: revision}
	// Whoever holds the right itself supports nobody else's.
	if b.Lead && !p.isArbiter(from) && p.ctx.Err() == nil && Now() >= p.lease.until() {
		length := p.timing.Lease()
		if b.Lease > 0 && b.Lease <= time.Minute {
			length = b.Lease
		}
		a.Granted = p.promise.grant(from, at, length)
	}
	return a
}

// tell sends m on every link to a peer and reports whether one took it.
func (p *Pool) tell(id MemberID, m linkMessage) bool {
	p.mu.Lock()
	var out [paths]*linkConn
	if pr := p.peers[id]; pr != nil {
		out = pr.out
	}
	p.mu.Unlock()
	ok := false
	for _, c := range out {
		if c != nil && c.send(m, p.timing.HeartbeatTimeout) == nil {
			ok = true
		}
	}
	return ok
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
