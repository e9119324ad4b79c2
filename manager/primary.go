package manager

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"redundancypool/fieldunit/broker"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/vip"
)

// duty is what this node holds while it is Primary.
type duty struct {
	term     uint64
	began    pool.Instant
	broker   *broker.Broker
	recorder *recorder
	lease    *vip.Lease
	back     back // units that have connected in this term
	expect   int64
	boundMS  float64   // when the virtual IP was bound, before it was announced
	first    sync.Once // first write
}

// serve is being Primary, from the top down: the writer, the broker, the virtual IP last; and
// laid down in the opposite order when ctx ends. It is the pool's Serve.
func (e *engine) serve(ctx context.Context, r pool.Reign) {
	select {
	case <-e.ready:
	case <-ctx.Done():
		return
	}
	// What was accepted may still be finished after ctx has ended, so the writer has a context of
	// its own.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	d := &duty{term: r.Term, began: r.Changeover.Began, expect: e.expected(), boundMS: -1}
	rec := newRecorder(e.proposer.begin, func(int) {
		d.first.Do(func() { e.note(d, func(c *pool.Changeover) { c.FirstWrite = since(c.Began) }) })
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { rec.run(work) })
	base := make(chan []database.Mark, 1) // read before the first unit is back
	wg.Go(func() { base <- e.marks(work) })

	b, err := e.openBroker(work, d, rec)
	if err != nil {
		e.m.event(journal.Error, "unit", "broker_failed", "field units cannot connect: "+err.Error(), nil)
		e.pool.Yield(fmt.Errorf("open the field units' ports: %w", err))
		<-ctx.Done()
		return
	}
	d.broker, d.recorder = b, rec
	defer b.Close()
	lost, err := e.acquire(ctx, d, r)
	if err != nil {
		if ctx.Err() == nil {
			e.m.event(journal.Error, "vip", "acquire_failed", err.Error(), nil)
			e.pool.Yield(fmt.Errorf("acquire the virtual IP: %w", err))
			<-ctx.Done()
		}
		return
	}
	e.duty.Store(d)
	defer e.duty.Store(nil)
	e.m.pages.Resume()
	wg.Go(func() { e.notify(work) })
	wg.Go(func() { e.keepEvents(work) })
	wg.Go(func() { e.account(work, d, r, base) })
	wg.Go(func() {
		prune(work, e.proposer.propose, time.Now, func(err error) { e.m.log.Warn("old history is not removed", "error", err) })
	})
	e.m.log.Info("serving as Primary", "term", r.Term, "after_ms", since(d.began))

	select {
	case <-ctx.Done():
	case <-lost:
		e.pool.Yield(fmt.Errorf("the virtual IP was lost: %w", d.lease.Err()))
		<-ctx.Done()
	}
	e.layDown(context.Cause(ctx), d)
}

// layDown ends the duties from the bottom up: what is in flight is finished and the connections
// closed while the virtual IP still stands, so that clients learn it; in an emergency both go at once.
func (e *engine) layDown(cause error, d *duty) {
	if errors.Is(cause, pool.ErrHandOver) || errors.Is(cause, pool.ErrClosed) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		defer func() {
			if e.ctx.Err() == nil {
				e.wg.Go(e.resumeWrites)
			} else {
				e.m.pages.Resume()
			}
		}()
		var wg sync.WaitGroup
		wg.Go(func() {
			if left := e.m.pages.Drain(ctx, e.settings.VIP.Addr()); left > 0 {
				e.m.log.Warn("requests were not answered before Primary left", "count", left)
			}
		})
		if err := d.broker.Drain(ctx); err != nil {
			e.m.log.Warn("draining field units", "error", err)
		}
		wg.Wait()
		e.m.pages.CloseConnections(e.settings.VIP.Addr())
		e.release(d)
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { d.broker.Close() })
	wg.Go(func() { e.m.pages.CloseConnections(e.settings.VIP.Addr()) })
	e.release(d)
	wg.Wait()
}

// resumeWrites lets requests go on that waited for a hand over, once it is known who is Primary.
func (e *engine) resumeWrites() {
	defer e.m.pages.Resume()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		changed := e.pool.Changed()
		if !e.pool.State().Handing {
			return
		}
		select {
		case <-e.ctx.Done():
			return
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (e *engine) release(d *duty) {
	if d.lease == nil {
		return
	}
	if err := d.lease.Release(); err != nil {
		e.m.log.Error("releasing the virtual IP", "error", err)
	}
	e.addressEvent(d, "released", "the virtual IP "+e.settings.VIP.Addr().String()+" is not on this node any more")
}

// addressEvent notes that the virtual IP came or went, in the term of its duty.
func (e *engine) addressEvent(d *duty, code, text string) {
	e.m.record(journal.Event{TimeMS: time.Now().UnixMilli(), Node: e.m.name(), Category: "vip", Code: code, Message: text, Term: d.term,
		Details: map[string]any{"interface": e.settings.Interface}})
}

// acquire takes the virtual IP, if this node has one to take. The channel closes when it is lost.
func (e *engine) acquire(ctx context.Context, d *duty, r pool.Reign) (<-chan struct{}, error) {
	phase := e.pool.Record().Phase
	if e.keeper == nil || phase != pool.PhaseEffective && phase != pool.PhaseForced && !e.survivor {
		return nil, nil
	}
	right := vip.Right{
		Until:  func() vip.Instant { return vip.Instant(r.Until()) },
		HeldBy: e.knownMAC,
		Vacant: r.Vacant,
	}
	for _, h := range r.Heirs {
		if to, err := netip.ParseAddrPort(h); err == nil {
			right.Farewell = append(right.Farewell, vip.Farewell{To: to, Message: r.Farewell})
		}
	}
	l, err := e.keeper.Acquire(ctx, right)
	if err != nil {
		return nil, err
	}
	d.lease = l
	if at := e.keeper.State().Since; !at.IsZero() && d.began != 0 {
		d.boundMS = since(d.began) - float64(time.Since(at).Microseconds())/1000
	}
	e.note(d, func(c *pool.Changeover) { c.VIPMS = since(c.Began) })
	e.addressEvent(d, "bound", "the virtual IP "+e.settings.VIP.Addr().String()+" is bound to this node")
	return l.Done(), nil
}

func (e *engine) note(d *duty, f func(*pool.Changeover)) { e.pool.Note(d.term, f) }

// since returns ms from i to now, -1 when there is no i.
func since(i pool.Instant) float64 {
	if i == 0 {
		return -1
	}
	return float64(pool.Since(i).Microseconds()) / 1000
}

// openBroker opens the field units' ports.
func (e *engine) openBroker(ctx context.Context, d *duty, rec *recorder) (*broker.Broker, error) {
	var ends []broker.Endpoint
	if a := e.settings.Listen.MQTT; a != "" {
		ends = append(ends, broker.Endpoint{Address: a})
	}
	if a := e.settings.Listen.MQTTRaw; a != "" {
		ends = append(ends, broker.Endpoint{Address: a, Plain: true})
	}
	cfg := broker.Config{
		Endpoints: ends, Recorder: rec, Doorkeeper: doorkeeper{e.db}, Log: e.m.log,
		TLS:            &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: e.m.certificateFor},
		MaxConnections: e.settings.Limits.FieldUnits,
		Refused: func(unit, topic, reason string) {
			e.m.event(journal.Warning, "unit", "refused", fmt.Sprintf("field unit %q: %s", unit, reason), map[string]any{"unit": unit, "topic": topic})
		},
		Connected: func(s broker.Session) {
			n := d.back.came(s.Unit)
			if n == 1 {
				e.note(d, func(c *pool.Changeover) { c.FirstUnit = since(c.Began) })
			}
			if d.expect > 0 && n == d.expect {
				e.note(d, func(c *pool.Changeover) { c.AllUnits = since(c.Began) })
			}
		},
		Disconnected: func(s broker.Session, reason string) {
			e.m.log.Debug("field unit disconnected", "unit", s.Unit, "reason", reason)
		},
	}
	// The previous term's sockets of this process may take a moment to go.
	var b *broker.Broker
	var err error
	for range 20 {
		if b, err = broker.Open(ctx, cfg); err == nil || !isInUse(err) {
			return b, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return b, err
}

func isInUse(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "listen"
}

// expected is how many units the previous Primary served, as it told the pool.
func (e *engine) expected() int64 {
	if n, ok := e.pool.State().Extra["field_units"]; ok {
		switch v := n.(type) {
		case float64:
			return int64(v)
		case int:
			return int64(v)
		}
	}
	return 0
}

// doorkeeper admits the units that the database knows.
type doorkeeper struct{ db *database.Store }

// Admit implements broker.Doorkeeper.
func (k doorkeeper) Admit(ctx context.Context, unit, secret string) error {
	u, err := k.db.Unit(ctx, unit)
	if errors.Is(err, database.ErrNotFound) {
		return fmt.Errorf("%w: no field unit %q", broker.ErrDenied, unit)
	}
	if err != nil {
		return err
	}
	if u.NoSecret {
		return fmt.Errorf("%w: field unit %q came from a saved copy and needs a new profile", broker.ErrDenied, unit)
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], u.Secret[:]) != 1 {
		return fmt.Errorf("%w: wrong secret", broker.ErrDenied)
	}
	return nil
}
