package control

import (
	"context"
	"encoding/json"
	"fmt"
)

// Members changes who takes part in a running pool, on its Primary.
type Members interface {
	// Replace puts a new machine in the place of a member; it waits for the end, and reports the
	// steps. An error of step ends the waiting, not the replacement.
	Replace(ctx context.Context, q Replacement, step func(Step) error) (Done, error)
	// Resync makes the other Manager's copy anew.
	Resync(ctx context.Context, yes bool, step func(Step) error) (Done, error)
	// Partner deactivates or activates one member of the pool (maintenance): "master", "backup"
	// or "arbiter".
	Partner(ctx context.Context, member string, active, yes bool) (Done, error)
}

// Replacement says which place gets which machine.
type Replacement struct {
	Member  string `json:"member"`            // master, backup or arbiter: the place
	Address string `json:"address,omitempty"` // of the new machine; empty: that of the old one
	Port    uint16 `json:"port,omitempty"`    // its pool port; 0: 8099, or the old one's with its address
	Second  string `json:"second,omitempty"`  // its address on the second path, if any
	Pairing string `json:"pairing,omitempty"` // its pairing token; empty: it is trusted already
	Yes     bool   `json:"yes,omitempty"`
}

// partner is the request of Partner.
type partner struct {
	Member string `json:"member"`
	Active bool   `json:"active"`
	Yes    bool   `json:"yes,omitempty"`
}

func memberOps(m Members) map[string]Handler {
	return map[string]Handler{
		"replace": func(ctx context.Context, in json.RawMessage, step func(any) error) (any, error) {
			var q Replacement
			if err := decodeRequest(in, &q); err != nil {
				return nil, err
			}
			return m.Replace(ctx, q, func(s Step) error { return step(s) })
		},
		"resync": func(ctx context.Context, in json.RawMessage, step func(any) error) (any, error) {
			var q request
			if err := decodeRequest(in, &q); err != nil {
				return nil, err
			}
			return m.Resync(ctx, q.Yes, func(s Step) error { return step(s) })
		},
		"partner": func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var q partner
			if err := decodeRequest(in, &q); err != nil {
				return nil, err
			}
			return m.Partner(ctx, q.Member, q.Active, q.Yes)
		},
	}
}

// steps passes the steps of an operation on.
func steps(step func(Step) error) func(json.RawMessage) error {
	return func(raw json.RawMessage) error {
		var s Step
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("read a step: %w", err)
		}
		return step(s)
	}
}

// Replace implements Members.
func (r *Remote) Replace(ctx context.Context, q Replacement, step func(Step) error) (d Done, err error) {
	err = r.c.Call(ctx, "replace", q, steps(step), &d)
	return d, err
}

// Resync implements Members.
func (r *Remote) Resync(ctx context.Context, yes bool, step func(Step) error) (d Done, err error) {
	err = r.c.Call(ctx, "resync", request{Yes: yes}, steps(step), &d)
	return d, err
}

// Partner implements Members.
func (r *Remote) Partner(ctx context.Context, member string, active, yes bool) (Done, error) {
	return call[Done](ctx, r, "partner", partner{Member: member, Active: active, Yes: yes})
}
