package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// SetTimeout bounds Set and Verify: storing the settings takes at most ten seconds, and Verify
// probes the wire for about one.
const SetTimeout = 30 * time.Second

// Remote is a running Manager seen from a command: it has the methods of Manager, and each runs
// the operation in that process.
type Remote struct{ c *Client }

// NewRemote returns the Manager that runs in dir.
func NewRemote(dir string) *Remote { return &Remote{c: NewClient(dir)} }

var _ Manager = (*Remote)(nil)

// Status returns the object as JSON text, json.RawMessage, within StatusTimeout.
func (r *Remote) Status(ctx context.Context) (any, error) {
	var raw json.RawMessage
	err := r.c.Status(ctx, &raw)
	return raw, err
}

// Verify implements Redundancy.
func (r *Remote) Verify(ctx context.Context, f Form) (VerifyReport, error) {
	ctx, cancel := context.WithTimeout(ctx, SetTimeout)
	defer cancel()
	return call[VerifyReport](ctx, r, "verify", f)
}

// Set implements Redundancy.
func (r *Remote) Set(ctx context.Context, f Form) (Done, error) {
	ctx, cancel := context.WithTimeout(ctx, SetTimeout)
	defer cancel()
	return call[Done](ctx, r, "set", f)
}

// Cancel implements Redundancy.
func (r *Remote) Cancel(ctx context.Context) (Done, error) {
	return call[Done](ctx, r, "cancel", request{})
}

// Leave implements Redundancy.
func (r *Remote) Leave(ctx context.Context, yes bool) (Done, error) {
	return call[Done](ctx, r, "leave", request{Yes: yes})
}

// Activate implements Redundancy.
func (r *Remote) Activate(ctx context.Context) (Done, error) {
	return call[Done](ctx, r, "activate", request{})
}

// Deactivate implements Redundancy.
func (r *Remote) Deactivate(ctx context.Context, yes bool) (Done, error) {
	return call[Done](ctx, r, "deactivate", request{Yes: yes})
}

// Token implements Redundancy.
func (r *Remote) Token(ctx context.Context) (string, error) {
	return call[string](ctx, r, "token", request{})
}

// HandOver implements Redundancy; an error of step ends the waiting, not the hand over.
func (r *Remote) HandOver(ctx context.Context, to string, step func(Step) error) (HandOverResult, error) {
	var res HandOverResult
	err := r.c.Call(ctx, "handover", request{To: to}, func(raw json.RawMessage) error {
		var s Step
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("read a step of the hand over: %w", err)
		}
		return step(s)
	}, &res)
	return res, err
}

// Recover implements Redundancy.
func (r *Remote) Recover(ctx context.Context, yes bool) (Done, error) {
	return call[Done](ctx, r, "recover", request{Yes: yes})
}

// AddUnit implements Units.
func (r *Remote) AddUnit(ctx context.Context, name string) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, r, "unit/add", request{Name: name})
}

// ListUnits implements Units.
func (r *Remote) ListUnits(ctx context.Context) ([]Unit, error) {
	return call[[]Unit](ctx, r, "unit/list", request{})
}

// RemoveUnit implements Units.
func (r *Remote) RemoveUnit(ctx context.Context, name string, yes bool) (Done, error) {
	return call[Done](ctx, r, "unit/remove", request{Name: name, Yes: yes})
}

// AddUser implements Users.
func (r *Remote) AddUser(ctx context.Context, name, password string) (Done, error) {
	return call[Done](ctx, r, "user/add", request{Name: name, Password: password})
}

// SetPassword implements Users.
func (r *Remote) SetPassword(ctx context.Context, name, password string) (Done, error) {
	return call[Done](ctx, r, "user/passwd", request{Name: name, Password: password})
}

// EndSessions implements Users.
func (r *Remote) EndSessions(ctx context.Context, name string) (Done, error) {
	return call[Done](ctx, r, "user/logout", request{Name: name})
}

// SaveDatabase implements Database.
func (r *Remote) SaveDatabase(ctx context.Context, file string) (Done, error) {
	return call[Done](ctx, r, "database/save", request{File: file})
}

// RestoreDatabase implements Database.
func (r *Remote) RestoreDatabase(ctx context.Context, file string, yes bool) (Done, error) {
	return call[Done](ctx, r, "database/restore", request{File: file, Yes: yes})
}

// Query implements Database. Numbers in rows are json.Number, so that 64 bits stay exact.
func (r *Remote) Query(ctx context.Context, sql string, columns func([]string) error, row func([]any) error) error {
	return r.c.Call(ctx, "query", request{SQL: sql}, func(raw json.RawMessage) error {
		var s queryStep
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&s); err != nil {
			return fmt.Errorf("read a row: %w", err)
		}
		if s.Row == nil {
			return columns(s.Columns)
		}
		return row(s.Row)
	}, nil)
}

func call[T any](ctx context.Context, r *Remote, op string, in any) (T, error) {
	var out T
	err := r.c.Call(ctx, op, in, nil, &out)
	return out, err
}
