package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Entry is one committed entry of the log. With both Data and Configuration empty it only
// moves the position.
type Entry struct {
	Index, Term uint64
	Data        []byte // an encoded Command
	// Configuration, when not nil, is a membership entry: kept verbatim with its Index.
	Configuration []byte
}

// Outcome says what became of one Telemetry of a batch.
type Outcome uint8

// The outcomes. All but UnknownUnit mean: it is in the database, acknowledge it.
const (
	// UnknownUnit: not stored, there is no such unit (any more).
	UnknownUnit Outcome = iota
	// Stored: new, now in the database.
	Stored
	// Duplicate: the same record was in the database already.
	Duplicate
	// Conflict: another record with the same key is in the database; this one was stored too,
	// and an event tells of it.
	Conflict
)

// Result is what one entry came to. It is the same on every node.
type Result struct {
	Index uint64
	// Err is nil or one of the errors of commands (ErrUnknownUnit and so on).
	Err error
	// Records has an Outcome for each Telemetry of a TelemetryBatch, in its order.
	Records []Outcome
	// Removed counts the rows that a Prune removed; More: another one would look at more.
	Removed int
	More    bool
	// Canary is the value of the counter after a Canary.
	Canary int64
	// Repeat: the command had been applied under an earlier index; the other fields are
	// those of that time.
	Repeat bool
	// Skipped: the entry is at or below the stored index. Nothing was done; the other fields
	// hold the kept result of its client, if it is still kept (then Repeat is set).
	Skipped bool
}

// Count returns how many Records have the outcome o.
func (r *Result) Count(o Outcome) (n int) {
	for _, have := range r.Records {
		if have == o {
			n++
		}
	}
	return n
}

// position is what the Store knows without asking SQLite: the published state.
type position struct {
	index, term, configIndex uint64
	config                   []byte
	digest                   total
	pool                     string
}

// Apply stores entries, in the order of the log, in one transaction together with the index
// and term of the last. Entries at or below the stored index are skipped. It returns one
// Result per entry. It is safe for concurrent use, but the order of the log is the caller's.
//
// An error means that nothing of entries is stored and the same entries can be tried again
// (ErrFull, ErrReadOnly, ErrIO, or the context ended); with an *EntryError trying again cannot
// help. A commit is not synced to disk: see Sync. Statements cannot be interrupted when the
// disk hangs: the caller watches the time.
func (s *Store) Apply(ctx context.Context, entries []Entry) ([]Result, error) {
	v, err := s.gate.enter(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("apply: %w", err)
	}
	defer v.leave()
	s.applying.Lock()
	defer s.applying.Unlock()
	a := s.files.applier
	results, points, err := a.apply(ctx, entries)
	if err != nil {
		return nil, fmt.Errorf("apply %d entries: %w", len(entries), classify(err))
	}
	s.publish(a.position())
	s.remember(points)
	written := int64(0)
	for i := range entries {
		written += int64(len(entries[i].Data)) + 256
	}
	s.dirty(written)
	return results, nil
}

// apply is Apply on the writer's connection.
func (a *applier) apply(ctx context.Context, entries []Entry) ([]Result, []point, error) {
	if a.stale {
		if err := a.load(ctx); err != nil {
			return nil, nil, fmt.Errorf("read position again: %w", err)
		}
	}
	commands, err := a.decode(entries)
	if err != nil {
		return nil, nil, err
	}
	if len(entries) == 0 {
		return nil, nil, nil
	}
	// What is under way may not be cut in the middle of a statement: the driver would start a
	// goroutine per statement to watch for it.
	bg := context.WithoutCancel(ctx)
	results := make([]Result, len(entries))
	if entries[len(entries)-1].Index <= a.at.index {
		for i := range entries {
			if results[i], err = a.skipped(bg, &entries[i], &commands[i]); err != nil {
				return nil, nil, err
			}
		}
		return results, nil, nil
	}
	if _, err := a.conn.ExecContext(bg, "BEGIN IMMEDIATE"); err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	var points []point
	for i := range entries {
		e := &entries[i]
		if err = ctx.Err(); err != nil {
			err = context.Cause(ctx)
			break
		}
		if e.Index <= a.at.index {
			results[i], err = a.skipped(bg, e, &commands[i])
		} else {
			results[i], err = a.one(bg, e, &commands[i])
			points = append(points, point{index: e.Index, sum: a.at.digest})
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = a.commit(bg)
	}
	if err != nil {
		return nil, nil, a.rollback(bg, err)
	}
	return results, points, nil
}

// decode reads the commands of all entries above the stored index before anything is written.
func (a *applier) decode(entries []Entry) ([]Command, error) {
	commands := make([]Command, len(entries))
	last := uint64(0)
	for i := range entries {
		e := &entries[i]
		if e.Index == 0 || e.Index <= last {
			return nil, &EntryError{e.Index, fmt.Errorf("%w: index does not follow %d", ErrInvalid, last)}
		}
		last = e.Index
		if len(e.Data) == 0 {
			continue
		}
		c, err := Decode(e.Data)
		if err != nil {
			if e.Index <= a.at.index {
				continue // applied long ago; only its kept result is out of reach
			}
			return nil, &EntryError{e.Index, err}
		}
		commands[i] = c
	}
	return commands, nil
}

// one applies one entry above the stored index.
func (a *applier) one(ctx context.Context, e *Entry, c *Command) (r Result, err error) {
	switch {
	case e.Configuration != nil:
		a.at.config, a.at.configIndex, a.configDirty = slices.Clone(e.Configuration), e.Index, true
	case c.Body != nil:
		if r, err = a.once(ctx, e.Index, c); err != nil {
			return r, err
		}
	}
	a.at.index, a.at.term = e.Index, e.Term
	r.Index = e.Index
	return r, nil
}

// once applies a command unless its client's result for it is kept already.
func (a *applier) once(ctx context.Context, index uint64, c *Command) (Result, error) {
	if c.Client == "" {
		return a.command(ctx, index, c)
	}
	cl, err := a.client(ctx, c.Client, true)
	if err != nil {
		return Result{}, err
	}
	switch kept := &cl.slots[c.Sequence%ResultWindow]; {
	case kept.used && kept.seq == int64(c.Sequence):
		return keptResult(kept.result)
	case kept.used && kept.seq > int64(c.Sequence):
		return Result{Err: ErrStale}, nil
	}
	r, err := a.command(ctx, index, c)
	if err != nil {
		return r, err
	}
	return r, a.keep(ctx, cl, c.Sequence, index, &r)
}

// skipped looks up what an entry came to that is in the database already.
func (a *applier) skipped(ctx context.Context, e *Entry, c *Command) (Result, error) {
	r := Result{}
	if c.Body != nil && c.Client != "" {
		cl, err := a.client(ctx, c.Client, false)
		if err != nil {
			return r, err
		}
		if cl != nil {
			if kept := &cl.slots[c.Sequence%ResultWindow]; kept.used && kept.seq == int64(c.Sequence) {
				if r, err = keptResult(kept.result); err != nil {
					return r, err
				}
			}
		}
	}
	r.Index, r.Skipped = e.Index, true
	return r, nil
}

// command does what c asks for. Its error is one of the disk; the command's own stands in the
// Result.
func (a *applier) command(ctx context.Context, index uint64, c *Command) (Result, error) {
	switch b := c.Body.(type) {
	case TelemetryBatch:
		return a.telemetry(ctx, index, c.ProposedMS, b.Records)
	case UnitAdd:
		return a.unitAdd(ctx, c.ProposedMS, b)
	case UnitSecret:
		return a.unitSecret(ctx, b)
	case UnitRemove:
		return a.unitRemove(ctx, c.ProposedMS, b)
	case UserPut:
		return a.userPut(ctx, b)
	case UserRemove:
		return a.userRemove(ctx, b)
	case SettingPut:
		return a.settingPut(ctx, b)
	case SettingRemove:
		return a.settingRemove(ctx, b)
	case EventAppend:
		return Result{}, a.event(ctx, c.ProposedMS, b.Event)
	case ChangeoverAppend:
		return a.changeover(ctx, b)
	case Canary:
		return a.canary(c.ProposedMS), nil
	case Prune:
		return a.prune(ctx, c.ProposedMS, b)
	case PoolPut:
		return a.poolPut(b), nil
	case ReportPut:
		return a.report(ctx, b)
	case Once:
		return a.onceByKey(ctx, index, c.ProposedMS, b)
	case NoticePut:
		return a.noticePut(ctx, b)
	case SecretPut:
		return a.secretPut(ctx, b)
	}
	return Result{}, &EntryError{index, fmt.Errorf("%w: %T", ErrKind, c.Body)}
}

// commit writes what is pending and the position, and ends the transaction.
func (a *applier) commit(ctx context.Context) error {
	if err := a.flush(ctx); err != nil {
		return err
	}
	sum := a.at.digest.bytes()
	if _, err := a.stmt.position.ExecContext(ctx, int64(a.at.index), int64(a.at.term), sum[:], a.at.pool,
		a.canaryCount, a.canaryMS, a.pruneSeries, a.pruneStream); err != nil {
		return fmt.Errorf("store position %d: %w", a.at.index, err)
	}
	if a.configDirty {
		if _, err := a.conn.ExecContext(ctx, "UPDATE state SET config = ?, config_idx = ?", a.at.config, int64(a.at.configIndex)); err != nil {
			return fmt.Errorf("store configuration %d: %w", a.at.configIndex, err)
		}
		a.configDirty = false
	}
	if _, err := a.conn.ExecContext(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("commit up to %d: %w", a.at.index, err)
	}
	return nil
}

// rollback gives everything up that the failed batch did, in the file and in memory. After a
// failed COMMIT the file may say otherwise, so the position is read from it before the next batch.
func (a *applier) rollback(ctx context.Context, cause error) error {
	a.stale = true
	if _, err := a.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		// After some errors SQLite has rolled back by itself ("no transaction is active").
		if probe := a.load(ctx); probe != nil {
			return errors.Join(cause, fmt.Errorf("roll back: %w", err), probe)
		}
	}
	return cause
}

// Applied returns index and term of the last entry that is in the database.
func (s *Store) Applied() (index, term uint64) {
	p := s.now.Load()
	return p.index, p.term
}

// Configuration returns a copy of the last membership entry and its index; nil and 0 when none came yet.
func (s *Store) Configuration() (data []byte, index uint64) {
	p := s.now.Load()
	return slices.Clone(p.config), p.configIndex
}

// Pool returns the id that PoolPut stored, empty before.
func (s *Store) Pool() string { return s.now.Load().pool }

// Digest returns the logical digest of the content and the index that it belongs to.
func (s *Store) Digest() (index uint64, sum [32]byte) {
	p := s.now.Load()
	return p.index, p.digest.bytes()
}

// DigestAt returns the digest as it was after index. False: index is not applied yet, or so
// long ago (or before the last start or Replace) that it is not remembered.
func (s *Store) DigestAt(index uint64) (sum [32]byte, ok bool) {
	s.past.Lock()
	defer s.past.Unlock()
	if index > s.now.Load().index {
		return sum, false
	}
	t, ok := s.past.at(index)
	return t.bytes(), ok
}

// publish makes p what Applied, Configuration and Digest return.
func (s *Store) publish(p position) { s.now.Store(&p) }

func (s *Store) remember(points []point) {
	s.past.Lock()
	defer s.past.Unlock()
	for _, p := range points {
		s.past.push(p)
	}
}
