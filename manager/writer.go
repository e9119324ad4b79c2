package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"redundancypool/fieldunit"
	"redundancypool/fieldunit/broker"
	"redundancypool/manager/database"
	"redundancypool/manager/pool"
)

// proposer turns what this node wants stored into commands of the log. Its identity makes a
// command that was proposed twice be applied once.
type proposer struct {
	pool   *pool.Pool
	client string
	seq    atomic.Uint64
}

func newProposer(p *pool.Pool) *proposer { return &proposer{pool: p, client: pool.NewID()} }

// propose stores body and returns what it came to. A definite refusal is tried again until ctx
// ends; so is an ambiguous outcome, under the same identity.
func (p *proposer) propose(ctx context.Context, body database.Body) (database.Result, error) {
	data, err := database.Encode(database.Command{
		Envelope: database.Envelope{Client: p.client, Sequence: p.seq.Add(1), ProposedMS: time.Now().UnixMilli()},
		Body:     body,
	})
	if err != nil {
		return database.Result{}, err
	}
	v, err := p.pool.Apply(ctx, data)
	if err != nil {
		return database.Result{}, err
	}
	r, ok := v.(database.Result)
	if !ok {
		return database.Result{}, fmt.Errorf("%w: no result", pool.ErrAmbiguous)
	}
	return r, r.Err
}

// Limits of one group of telemetry. Entries of some ten kB are what the log's store takes best.
const (
	groupRecords = 512
	groupBytes   = 48 << 10
	groupFlight  = 4 // groups on their way at once
)

// recorder groups the telemetry of all units into few log entries. While one group is on its way
// the next one gathers; nobody waits for a timer.
type recorder struct {
	propose func(ctx context.Context, body database.Body) (database.Result, error)
	stored  func(n int) // told after each commit; may be nil

	queue chan request
	wg    sync.WaitGroup
}

type request struct {
	ctx  context.Context
	t    []fieldunit.Telemetry
	done chan error
}

func newRecorder(propose func(context.Context, database.Body) (database.Result, error), stored func(int)) *recorder {
	return &recorder{propose: propose, stored: stored, queue: make(chan request, 1024)}
}

// Record implements broker.Recorder: nil means committed by the pool and stored here.
func (r *recorder) Record(ctx context.Context, t []fieldunit.Telemetry) error {
	q := request{ctx: ctx, t: t, done: make(chan error, 1)}
	select {
	case r.queue <- q:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-q.done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run groups and proposes until ctx ends, and returns when every group has come to something.
func (r *recorder) run(ctx context.Context) {
	defer r.wg.Wait()
	slots := make(chan struct{}, groupFlight)
	for {
		var first request
		select {
		case first = <-r.queue:
		case <-ctx.Done():
			r.refuse()
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			first.done <- context.Cause(ctx)
			r.refuse()
			return
		}
		group := r.gather(first)
		r.wg.Go(func() {
			defer func() { <-slots }()
			r.commit(ctx, group)
		})
	}
}

// gather takes what is waiting, up to the limits of a group.
func (r *recorder) gather(first request) []request {
	group := []request{first}
	records, bytes := len(first.t), weight(first.t)
	for records < groupRecords && bytes < groupBytes {
		select {
		case q := <-r.queue:
			group = append(group, q)
			records += len(q.t)
			bytes += weight(q.t)
		default:
			return group
		}
	}
	return group
}

func weight(ts []fieldunit.Telemetry) int {
	n := 0
	for _, t := range ts {
		n += 64
		for _, r := range t.Readings {
			n += 24 + len(r.Tag) + len(r.Value.Str)
		}
	}
	return n
}

func (r *recorder) commit(ctx context.Context, group []request) {
	var batch database.TelemetryBatch
	for _, q := range group {
		batch.Records = append(batch.Records, q.t...)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	res, err := r.propose(ctx, batch)
	if err == nil && len(res.Records) != len(batch.Records) {
		err = fmt.Errorf("%w: %d of %d records have a result", pool.ErrAmbiguous, len(res.Records), len(batch.Records))
	}
	at := 0
	for _, q := range group {
		q.done <- outcome(err, res, at, len(q.t))
		at += len(q.t)
	}
	if err == nil && r.stored != nil {
		r.stored(len(batch.Records))
	}
}

// outcome is what one request of a group came to.
func outcome(err error, res database.Result, at, n int) error {
	if err != nil {
		return err
	}
	for _, o := range res.Records[at : at+n] {
		if o == database.UnknownUnit {
			return fmt.Errorf("%w: the unit was removed", broker.ErrRefused)
		}
	}
	return nil
}

var errNotServing = errors.New("this Manager is not Primary any more")

func (r *recorder) refuse() {
	for {
		select {
		case q := <-r.queue:
			q.done <- errNotServing
		default:
			return
		}
	}
}
