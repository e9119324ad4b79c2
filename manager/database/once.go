package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// Bounds of what is kept for keys that clients chose.
const (
	mostKept   = 10_000 // answers in all; the one that expires first is displaced
	maxAnswer  = 64 << 10
	dropAtOnce = 64 // expired answers removed with each new one
)

// Once does Body at most once for a key that a client chose, and keeps Answer beside it in the
// same transaction until ExpiresMS: whoever sends the request again gets that answer, on either
// Manager. Without Body it only keeps what is said of the key: an empty Answer means "begun".
//
// Result.Repeat: the key was there already and nothing was done; Kept has its answer.
// ErrKeyReused: it was there for another request. What Body came to with an error, or with a
// record of an unknown unit, is not kept: the request may be sent again.
type Once struct {
	Scope       string // whose key: two clients may choose the same one
	Key         string
	Fingerprint [32]byte // of the request
	ExpiresMS   int64
	Answer      string
	Body        Body // nil or TelemetryBatch
}

func (Once) kind() kind { return kindOnce }

func (b Once) validate() error {
	if err := validText("scope", b.Scope, 1, maxName); err != nil {
		return err
	}
	if err := validText("key", b.Key, 1, maxName); err != nil {
		return err
	}
	if err := validText("answer", b.Answer, 0, maxAnswer); err != nil {
		return err
	}
	switch inner := b.Body.(type) {
	case nil:
		return nil
	case TelemetryBatch:
		if b.Answer == "" {
			return fmt.Errorf("%w: what is done at once has no answer to keep", ErrInvalid)
		}
		return inner.validate()
	}
	return fmt.Errorf("%w: %T cannot be done once by a key", ErrInvalid, b.Body)
}

func (b Once) encode(e *encoder) {
	e.raw(b.Scope)
	e.raw(b.Key)
	e.b = append(e.b, b.Fingerprint[:]...)
	e.int(b.ExpiresMS)
	e.raw(b.Answer)
	if b.Body == nil {
		e.b = append(e.b, 0)
		return
	}
	e.b = append(e.b, byte(b.Body.kind()))
	b.Body.encode(e)
}

func (d *decoder) once() Once {
	b := Once{Scope: d.raw(), Key: d.raw(), Fingerprint: d.secret(), ExpiresMS: d.int(), Answer: d.raw()}
	switch k := kind(d.byte()); k {
	case 0:
	case kindTelemetry:
		b.Body = d.telemetry()
	default:
		d.fail("kind %d cannot be done once by a key", k)
	}
	return b
}

// Kept is what is kept for a key.
type Kept struct {
	Scope, Key  string
	Fingerprint [32]byte
	ExpiresMS   int64
	Answer      string // empty: begun, and not known what it came to
}

func rowKept(r row, k *Kept) row {
	return append(r, 'a').text(k.Scope).text(k.Key).bytes(k.Fingerprint[:]).int(k.ExpiresMS).text(k.Answer)
}

const keptQuery = "SELECT scope, key, fingerprint, expires_ms, answer FROM secret_answer"

func (k *Kept) scan(scan func(...any) error) error {
	var sum []byte
	if err := scan(&k.Scope, &k.Key, &sum, &k.ExpiresMS, &k.Answer); err != nil {
		return err
	}
	if len(sum) != len(k.Fingerprint) {
		return fmt.Errorf("%w: fingerprint of %d bytes", ErrCorrupt, len(sum))
	}
	copy(k.Fingerprint[:], sum)
	return nil
}

// once does b, or says that it was done.
func (a *applier) onceByKey(ctx context.Context, index uint64, proposed int64, b Once) (r Result, err error) {
	var old Kept
	err = old.scan(a.conn.QueryRowContext(ctx, keptQuery+" WHERE scope = ? AND key = ?", b.Scope, b.Key).Scan)
	known := err == nil
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return r, fmt.Errorf("look up a key: %w", err)
	case old.ExpiresMS <= proposed:
	case old.Fingerprint != b.Fingerprint:
		return Result{Err: ErrKeyReused}, nil
	case old.Answer != "" || b.Answer == "" || b.Body != nil:
		return Result{Repeat: true}, nil
	}
	if inner, ok := b.Body.(TelemetryBatch); ok {
		if r, err = a.telemetry(ctx, index, proposed, inner.Records); err != nil || r.Err != nil || r.Count(UnknownUnit) > 0 {
			return r, err
		}
	}
	if known {
		if err := a.dropKept(ctx, old); err != nil {
			return r, err
		}
	}
	k := Kept{b.Scope, b.Key, b.Fingerprint, b.ExpiresMS, b.Answer}
	if _, err := a.conn.ExecContext(ctx, "INSERT INTO secret_answer (scope, key, fingerprint, expires_ms, answer) VALUES (?, ?, ?, ?, ?)",
		k.Scope, k.Key, k.Fingerprint[:], k.ExpiresMS, k.Answer); err != nil {
		return r, fmt.Errorf("keep an answer: %w", err)
	}
	a.count(rowKept(a.row(), &k))
	return r, a.expireKept(ctx, proposed)
}

// expireKept removes what has expired, and what is too much.
func (a *applier) expireKept(ctx context.Context, now int64) error {
	var n int
	if err := a.conn.QueryRowContext(ctx, "SELECT count(*) FROM secret_answer").Scan(&n); err != nil {
		return fmt.Errorf("count kept answers: %w", err)
	}
	rows, err := a.conn.QueryContext(ctx, keptQuery+" ORDER BY expires_ms, scope, key LIMIT ?", dropAtOnce)
	if err != nil {
		return fmt.Errorf("look for expired answers: %w", err)
	}
	defer rows.Close()
	var gone []Kept
	for rows.Next() {
		var k Kept
		if err := k.scan(rows.Scan); err != nil {
			return err
		}
		if k.ExpiresMS > now && n-len(gone) <= mostKept {
			break
		}
		gone = append(gone, k)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("look for expired answers: %w", err)
	}
	for _, k := range gone {
		if err := a.dropKept(ctx, k); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) dropKept(ctx context.Context, k Kept) error {
	a.uncount(rowKept(a.row(), &k))
	if _, err := a.conn.ExecContext(ctx, "DELETE FROM secret_answer WHERE scope = ? AND key = ?", k.Scope, k.Key); err != nil {
		return fmt.Errorf("remove a kept answer: %w", err)
	}
	return nil
}

// Kept returns what is kept for a key, which may have expired. ErrNotFound.
func (s *Store) Kept(ctx context.Context, scope, key string) (k Kept, err error) {
	err = s.read(ctx, "kept answer", func(db *sql.DB) error {
		return k.scan(db.QueryRowContext(ctx, keptQuery+" WHERE scope = ? AND key = ?", scope, key).Scan)
	})
	return k, err
}
