package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"redundancypool/fieldunit"
	"redundancypool/fieldunit/broker"
	"redundancypool/manager/database"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/web"
)

// methodKey asks the Primary, on the pool port, to note what a request with a key came to: the
// answer to a hand over is known when this Manager can store nothing any more.
const methodKey = "key"

// keyNote is its body.
type keyNote struct {
	Pool        string   `json:"pool"`
	Scope       string   `json:"scope"`
	Key         string   `json:"key"`
	Fingerprint [32]byte `json:"fingerprint"`
	Answer      string   `json:"answer"`
	Free        bool     `json:"free"`
}

// Kept implements web.Keys.
func (d desk) Kept(ctx context.Context, scope, key string) (*web.KeptAnswer, error) {
	e, err := d.faces().openDatabase(ctx)
	if err != nil {
		return nil, pageError(err)
	}
	k, err := e.db.Kept(ctx, scope, key)
	if errors.Is(err, database.ErrNotFound) || err == nil && k.ExpiresMS <= time.Now().UnixMilli() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &web.KeptAnswer{Sum: k.Fingerprint, Answer: k.Answer}, nil
}

// Begin implements web.Keys.
func (d desk) Begin(ctx context.Context, scope, key string, sum [32]byte) (bool, error) {
	repeat, err := d.m.noteKey(ctx, keyNote{Scope: scope, Key: key, Fingerprint: sum})
	if errors.Is(err, database.ErrKeyReused) {
		return false, nil // what is kept tells
	}
	if err != nil {
		return false, &web.Problem{Code: "key_not_kept", Message: "the key cannot be kept now, so nothing was done: " + err.Error(), Fix: "send it again in a moment"}
	}
	return !repeat, nil
}

// Keep implements web.Keys.
func (d desk) Keep(ctx context.Context, scope, key string, sum [32]byte, answer string) error {
	q := keyNote{Scope: scope, Key: key, Fingerprint: sum, Answer: answer, Free: answer == ""}
	for {
		_, err := d.m.noteKey(ctx, q)
		if err == nil {
			return nil
		}
		select { // Primary may just be moving
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// noteKey stores a note here or on the Primary.
func (m *Manager) noteKey(ctx context.Context, q keyNote) (repeat bool, err error) {
	e, err := m.engineNow(ctx)
	if err != nil {
		return false, err
	}
	if e.pool == nil {
		return false, errors.New("this Manager is on hold")
	}
	if e.duty.Load() != nil {
		return e.storeKey(ctx, q)
	}
	st := e.pool.State()
	q.Pool = st.Record.Pool
	for _, o := range st.Members {
		if o.Status == pool.Primary && o.ID != st.Record.Self {
			return repeat, m.call(ctx, o.Address, o.Fingerprint, methodKey, q, &repeat)
		}
	}
	return false, errors.New("no Manager is Primary now")
}

func (e *engine) storeKey(ctx context.Context, q keyNote) (bool, error) {
	b := database.Once{Scope: q.Scope, Key: q.Key, Fingerprint: q.Fingerprint, ExpiresMS: time.Now().Add(web.KeepAnswers).UnixMilli(), Answer: q.Answer}
	if q.Free { // an answer whose time is over is removed at once
		b.Answer, b.ExpiresMS = "-", 1
	}
	r, err := e.proposer.propose(ctx, b)
	return r.Repeat, err
}

// onKey stores a note of the other Manager's.
func (m *Manager) onKey(ctx context.Context, q keyNote) (any, error) {
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Pool != q.Pool {
		return nil, transport.Refuse("unknown_pool", "this Manager is not in that pool")
	}
	if e.duty.Load() == nil {
		return nil, transport.Refuse("not_primary", "this Manager is not Primary")
	}
	return e.storeKey(ctx, q)
}

// AdmitUnit implements web.Telemetry.
func (d desk) AdmitUnit(ctx context.Context, unit, secret string) error {
	e, err := d.faces().openDatabase(ctx)
	if err != nil {
		return pageError(err)
	}
	err = doorkeeper{e.db}.Admit(ctx, unit, secret)
	if errors.Is(err, broker.ErrDenied) {
		return web.ErrLogin
	}
	return err
}

// Record implements web.Telemetry.
func (d desk) Record(ctx context.Context, unit string, payload []byte, key string, sum [32]byte) (int, bool, error) {
	list, err := fieldunit.Decode(unit, payload)
	if err != nil {
		return 0, false, &web.Problem{Code: "payload", Message: err.Error(), Fields: []web.FieldProblem{{Field: "body", Code: "payload", Message: err.Error(), Fix: "send the native payload of a field unit"}}}
	}
	e, err := d.faces().primary(ctx)
	if err != nil {
		return 0, false, pageError(err)
	}
	duty := e.duty.Load()
	if duty == nil {
		return 0, false, fmt.Errorf("%w: this Manager is not Primary any more", web.ErrNotKnown)
	}
	repeat := false
	if key == "" {
		err = duty.recorder.Record(ctx, list)
	} else {
		repeat, err = e.recordOnce(ctx, unit, list, key, sum)
	}
	switch {
	case err == nil:
		return len(list), repeat, nil
	case errors.Is(err, database.ErrKeyReused):
		return 0, false, web.ErrKeyReused
	case errors.Is(err, broker.ErrRefused):
		return 0, false, &web.Problem{Code: "unknown_unit", Message: fmt.Sprintf("there is no field unit %q", unit), Fix: "add it first"}
	}
	d.m.log.Debug("telemetry not recorded", "unit", unit, "error", err)
	return 0, false, fmt.Errorf("%w: %w", web.ErrNotKnown, err)
}

// recordOnce stores records with the key of their request in one transaction.
func (e *engine) recordOnce(ctx context.Context, unit string, list []fieldunit.Telemetry, key string, sum [32]byte) (repeat bool, err error) {
	r, err := e.proposer.propose(ctx, database.Once{
		Scope: "unit " + unit, Key: key, Fingerprint: sum, ExpiresMS: time.Now().Add(web.KeepAnswers).UnixMilli(), Answer: "stored",
		Body: database.TelemetryBatch{Records: list},
	})
	if err == nil && r.Count(database.UnknownUnit) > 0 {
		err = broker.ErrRefused
	}
	return r.Repeat, err
}
