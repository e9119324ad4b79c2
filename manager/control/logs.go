package control

import (
	"context"
	"encoding/json"
	"fmt"
)

// Logs are the events of all members.
type Logs interface {
	// Logs calls each for the newest events that q chooses, oldest first, and with Follow for those
	// that come until ctx ends.
	Logs(ctx context.Context, q LogQuery, each func(LogStep) error) error
}

// LogQuery chooses events.
type LogQuery struct {
	// Filter has the keys of the Logs page: node, severity, category, code, q, since, until.
	Filter map[string]string `json:"filter,omitempty"`
	Limit  int               `json:"limit"`
	Follow bool              `json:"follow,omitempty"`
}

// LogStep is one event, as the object of GET /api/v1/logs, or a note for whoever reads.
type LogStep struct {
	Event json.RawMessage `json:"event,omitempty"`
	Note  string          `json:"note,omitempty"`
}

func logsOp(l Logs) Handler {
	return func(ctx context.Context, in json.RawMessage, step func(any) error) (any, error) {
		var q LogQuery
		if err := decodeRequest(in, &q); err != nil {
			return nil, err
		}
		return nil, l.Logs(ctx, q, func(s LogStep) error { return step(s) })
	}
}

// Logs implements Logs.
func (r *Remote) Logs(ctx context.Context, q LogQuery, each func(LogStep) error) error {
	return r.c.Call(ctx, "logs", q, func(raw json.RawMessage) error {
		var s LogStep
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		return each(s)
	}, nil)
}
