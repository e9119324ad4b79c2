package control

import (
	"context"
	"encoding/json"
	"fmt"
)

// History are the changes of Primary and the drills that the database keeps.
type History interface {
	// History returns the object of GET /api/v1/redundancy/changeovers.
	History(ctx context.Context, limit int) (any, error)
	// Drill runs a failover drill and returns its report, an object of GET /api/v1/redundancy/drills.
	Drill(ctx context.Context, step func(Step) error) (any, error)
	// SetDrill stores when drills run by themselves and the longest interruption allowed; what is
	// empty or 0 stays as it is.
	SetDrill(ctx context.Context, schedule string, limitMS int64) (Done, error)
}

// historyRequest is the JSON of these operations.
type historyRequest struct {
	Limit    int    `json:"limit,omitempty"`
	Schedule string `json:"schedule,omitempty"`
	LimitMS  int64  `json:"limit_ms,omitempty"`
}

func historyOps(m History) map[string]Handler {
	return map[string]Handler{
		"history": func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var r historyRequest
			if err := decodeRequest(in, &r); err != nil {
				return nil, err
			}
			return m.History(ctx, r.Limit)
		},
		"drill": func(ctx context.Context, _ json.RawMessage, step func(any) error) (any, error) {
			return m.Drill(ctx, func(s Step) error { return step(s) })
		},
		"drill/set": func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var r historyRequest
			if err := decodeRequest(in, &r); err != nil {
				return nil, err
			}
			return m.SetDrill(ctx, r.Schedule, r.LimitMS)
		},
	}
}

// History implements History; the result is json.RawMessage.
func (r *Remote) History(ctx context.Context, limit int) (any, error) {
	return call[json.RawMessage](ctx, r, "history", historyRequest{Limit: limit})
}

// Drill implements History; an error of step ends the waiting, not the drill.
func (r *Remote) Drill(ctx context.Context, step func(Step) error) (any, error) {
	var out json.RawMessage
	err := r.c.Call(ctx, "drill", nil, func(raw json.RawMessage) error {
		var s Step
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("read a step of the drill: %w", err)
		}
		return step(s)
	}, &out)
	return out, err
}

// SetDrill implements History.
func (r *Remote) SetDrill(ctx context.Context, schedule string, limitMS int64) (Done, error) {
	return call[Done](ctx, r, "drill/set", historyRequest{Schedule: schedule, LimitMS: limitMS})
}
