package database

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"redundancypool/fieldunit"
)

// Origins of a sample without a sequence number; with one it is the id of its stream.
const (
	originTimed   = 0  // by its source time
	originUntimed = -1 // neither sequence nor source time: by its place in the log
)

// telemetry stores the records of one entry.
func (a *applier) telemetry(ctx context.Context, index uint64, proposed int64, records []fieldunit.Telemetry) (Result, error) {
	r := Result{Records: make([]Outcome, len(records))}
	var conflicts []int
	for i := range records {
		o, err := a.record(ctx, index, i, proposed, &records[i])
		if err != nil {
			return r, fmt.Errorf("record %d of unit %q: %w", i, records[i].Unit, err)
		}
		r.Records[i] = o
		if o == Conflict {
			conflicts = append(conflicts, i)
		}
	}
	return r, a.conflictEvents(ctx, proposed, records, conflicts)
}

// record stores one Telemetry unless it is known already.
func (a *applier) record(ctx context.Context, index uint64, at int, proposed int64, t *fieldunit.Telemetry) (Outcome, error) {
	u, ok, err := a.unit(ctx, t.Unit)
	if err != nil {
		return UnknownUnit, err
	}
	if !ok || u.removed {
		return UnknownUnit, nil
	}
	ms := t.SourceMS
	if ms == 0 {
		ms = proposed
	}
	base := sampleRow{sourceMS: ms, seq: -1, delayMS: proposed - ms, origin: originTimed}
	outcome := Duplicate // until something new is found
	var message int64
	if t.HasSeq {
		base.seq = int64(t.Seq)
		message = messageHash(a, t)
		st, err := a.streamOf(ctx, streamKey{u.id, t.Boot})
		if err != nil {
			return UnknownUnit, err
		}
		base.origin = st.id
		known, same, err := a.messageKnown(ctx, st, base.seq, message)
		if err != nil {
			return UnknownUnit, err
		}
		if same {
			return Duplicate, nil
		}
		outcome = Stored
		if known {
			outcome = Conflict
		}
		m := messageRow{st.id, base.seq, message, proposed}
		a.messages = append(a.messages, m)
		a.count(rowMessage(a.row(), m.stream, m.seq, m.hash, m.received))
		st.highest = max(st.highest, base.seq)
	} else if t.SourceMS == 0 {
		base.origin = originUntimed
	}
	for j := range t.Readings {
		rd := &t.Readings[j]
		s, err := a.seriesOf(ctx, seriesKey{u.id, t.Node, t.Group, rd.Tag})
		if err != nil {
			return outcome, err
		}
		r := base
		r.series, r.err = s.id, rd.Error
		r.kind, r.value = storedValue(rd.Value)
		r.hash = a.sampleHash(&r, message, index, at, j)
		fresh, rival := true, false
		if r.sourceMS <= s.newest {
			if fresh, rival, err = a.sampleFresh(ctx, &r); err != nil {
				return outcome, err
			}
		}
		if !fresh {
			continue
		}
		s.newest = max(s.newest, r.sourceMS)
		a.samples = append(a.samples, r)
		a.count(rowSample(a.row(), &r))
		if !t.HasSeq {
			if r.origin == originTimed && rival {
				outcome = Conflict
			} else if outcome == Duplicate {
				outcome = Stored
			}
		}
	}
	if len(a.samples) >= 64*chunk {
		return outcome, a.flush(ctx)
	}
	return outcome, nil
}

// messageKnown tells whether the sequence is there already, and whether with this content.
func (a *applier) messageKnown(ctx context.Context, st *streamID, seq, hash int64) (known, same bool, err error) {
	if seq > st.highest {
		return false, false, nil
	}
	if err := a.flush(ctx); err != nil {
		return false, false, err
	}
	var n, equal int64
	if err := a.stmt.messageHas.QueryRowContext(ctx, st.id, seq, hash).Scan(&n, &equal); err != nil {
		return false, false, fmt.Errorf("look up sequence %d: %w", seq, err)
	}
	return n > 0, equal > 0, nil
}

// sampleFresh tells whether the row is not there yet, and whether another value of the same
// origin stands at its time.
func (a *applier) sampleFresh(ctx context.Context, r *sampleRow) (fresh, rival bool, err error) {
	if err := a.flush(ctx); err != nil {
		return false, false, err
	}
	var others, equal int64
	if err := a.stmt.sampleHas.QueryRowContext(ctx, r.series, r.sourceMS, r.hash, r.origin).Scan(&others, &equal); err != nil {
		return false, false, fmt.Errorf("look up reading: %w", err)
	}
	return equal == 0, others > 0, nil
}

// messageHash is taken over what the unit sent, readings in the order of their tags: a unit
// that sends again may write its JSON object in another order.
func messageHash(a *applier, t *fieldunit.Telemetry) int64 {
	r := a.row().int(t.SourceMS).text(t.Node).text(t.Group)
	readings := t.Readings
	byTag := func(x, y fieldunit.Reading) int { return strings.Compare(x.Tag, y.Tag) }
	if !slices.IsSortedFunc(readings, byTag) {
		readings = slices.Clone(readings)
		slices.SortStableFunc(readings, byTag)
	}
	for i := range readings {
		v := readings[i].Value
		r = r.text(readings[i].Tag).int(readings[i].Error).int(int64(v.Kind)).int(int64(v.Num)).text(v.Str)
	}
	a.scratch = r
	return shortHash(r)
}

// sampleHash makes the key of a row unique within its series and time: by the value; with a
// sequence also by the message; without sequence and source time by the place in the log.
func (a *applier) sampleHash(s *sampleRow, message int64, index uint64, at, reading int) int64 {
	key := *s
	key.series, key.sourceMS, key.delayMS, key.hash = 0, 0, 0, message
	r := rowSample(a.row(), &key)
	if s.origin == originUntimed {
		r = r.int(int64(index)).int(int64(at)).int(int64(reading))
	}
	a.scratch = r
	return shortHash(r)
}

func shortHash(b []byte) int64 {
	h := sha256.Sum256(b)
	return int64(binary.LittleEndian.Uint64(h[:8]))
}

// storedValue returns a value as its column holds it. SQLite has no NaN: it becomes NULL, and
// the kind tells it from "no value".
func storedValue(v fieldunit.Value) (kind int64, value any) {
	kind = int64(v.Kind)
	switch v.Kind {
	case fieldunit.Bool, fieldunit.Int:
		return kind, int64(v.Num)
	case fieldunit.Float:
		if f := v.Float(); !math.IsNaN(f) {
			return kind, f
		}
	case fieldunit.Text, fieldunit.JSON:
		return kind, v.Str
	case fieldunit.None:
	}
	return kind, nil
}

// valueOf is the inverse of storedValue.
func valueOf(kind int64, value any) fieldunit.Value {
	k := fieldunit.Kind(kind)
	switch v := value.(type) {
	case int64:
		return fieldunit.Value{Kind: k, Num: uint64(v)}
	case float64:
		return fieldunit.FloatValue(v)
	case string:
		return fieldunit.Value{Kind: k, Str: v}
	}
	if k == fieldunit.Float {
		return fieldunit.FloatValue(math.NaN())
	}
	return fieldunit.Value{}
}

// conflictEvents appends one event for each unit that sent other content under a known key.
func (a *applier) conflictEvents(ctx context.Context, proposed int64, records []fieldunit.Telemetry, conflicts []int) error {
	if len(conflicts) == 0 {
		return nil
	}
	told := map[string]bool{}
	for _, i := range conflicts {
		t := &records[i]
		if told[t.Unit] {
			continue
		}
		told[t.Unit] = true
		n := 0
		for _, j := range conflicts {
			if records[j].Unit == t.Unit {
				n++
			}
		}
		key := map[string]any{"records": n, "node": t.Node, "group": t.Group, "source_ms": t.SourceMS}
		cause := "the same source time was sent again with another value"
		if t.HasSeq {
			key["seq"], key["boot"] = t.Seq, t.Boot
			cause = "the same sequence number was sent again with other content: does the unit restart without a new boot?"
		}
		details, err := json.Marshal(key) // map keys are sorted: the same text on every node
		if err != nil {
			return fmt.Errorf("describe conflict: %w", err)
		}
		err = a.event(ctx, proposed, Event{TimeMS: proposed, Severity: "warning", Category: OwnEvents, Code: "telemetry_conflict",
			Message: fmt.Sprintf("field unit %s sent different telemetry under one key; both are stored", t.Unit), Cause: cause, Details: string(details)})
		if err != nil {
			return err
		}
	}
	return nil
}
