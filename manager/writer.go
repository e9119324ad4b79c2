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

// commandTime bounds how long one command may be on its way.
const commandTime = 10 * time.Second

// propose stores body and returns what it came to. Errors: those of pool.Apply, or the command's
// own.
func (p *proposer) propose(ctx context.Context, body database.Body) (database.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	return p.begin(ctx, body)()
}

// begin puts body into the log, in the order of the calls, and returns how to learn what it came
// to; that waits no longer than commandTime.
func (p *proposer) begin(ctx context.Context, body database.Body) func() (database.Result, error) {
	fail := func(err error) func() (database.Result, error) {
		return func() (database.Result, error) { return database.Result{}, err }
	}
	data, err := database.Encode(database.Command{
		Envelope: database.Envelope{Client: p.client, Sequence: p.seq.Add(1), ProposedMS: time.Now().UnixMilli()},
		Body:     body,
	})
	if err != nil {
		return fail(err)
	}
	wait, err := p.pool.Begin(ctx, data, commandTime)
	if err != nil {
		return fail(err)
	}
	return func() (database.Result, error) {
		v, err := wait()
		if err != nil {
			return database.Result{}, err
		}
		r, ok := v.(database.Result)
		if !ok {
			return database.Result{}, fmt.Errorf("%w: no result", pool.ErrAmbiguous)
		}
		return r, r.Err
	}
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
	// propose puts a batch into the log, in the order of its calls, and returns how to learn what
	// it came to.
	propose func(ctx context.Context, body database.Body) func() (database.Result, error)
	stored  func(n int) // told after each commit; may be nil

	queue chan request
	ended chan struct{} // closed when run has ended
	wg    sync.WaitGroup
}

type request struct {
	t    []fieldunit.Telemetry
	done func(error) // called once
}

func newRecorder(propose func(context.Context, database.Body) func() (database.Result, error), stored func(int)) *recorder {
	return &recorder{propose: propose, stored: stored, queue: make(chan request, 1024), ended: make(chan struct{})}
}

// Record implements broker.Recorder: nil means committed by the pool and stored here.
func (r *recorder) Record(ctx context.Context, t []fieldunit.Telemetry) error {
	done := make(chan error, 1)
	r.Submit(ctx, t, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Submit implements broker.Submitter: the records of one unit are stored in the order submitted.
func (r *recorder) Submit(ctx context.Context, t []fieldunit.Telemetry, done func(error)) {
	select {
	case r.queue <- request{t, done}:
		select {
		case <-r.ended:
			r.refuse() // run may have emptied the queue already
		default:
		}
	case <-ctx.Done():
		done(context.Cause(ctx))
	case <-r.ended:
		done(errNotServing)
	}
}

// run groups and proposes until ctx ends, and returns when every group has come to something.
func (r *recorder) run(ctx context.Context) {
	defer r.refuse()
	defer close(r.ended)
	defer r.wg.Wait()
	slots := make(chan struct{}, groupFlight)
	for {
		var first request
		select {
		case first = <-r.queue:
		case <-ctx.Done():
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			first.done(context.Cause(ctx))
			return
		}
		group := r.gather(first)
		result := r.propose(ctx, batchOf(group)) // in order; what follows may overtake
		r.wg.Go(func() {
			defer func() { <-slots }()
			r.finish(result, group)
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

func batchOf(group []request) database.TelemetryBatch {
	var b database.TelemetryBatch
	for _, q := range group {
		b.Records = append(b.Records, q.t...)
	}
	return b
}

func (r *recorder) finish(result func() (database.Result, error), group []request) {
	res, err := result()
	records := 0
	for _, q := range group {
		records += len(q.t)
	}
	if err == nil && len(res.Records) != records {
		err = fmt.Errorf("%w: %d of %d records have a result", pool.ErrAmbiguous, len(res.Records), records)
	}
	at := 0
	for _, q := range group {
		q.done(outcome(err, res, at, len(q.t)))
		at += len(q.t)
	}
	if err == nil && r.stored != nil {
		r.stored(records)
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
			q.done(errNotServing)
		default:
			return
		}
	}
}
