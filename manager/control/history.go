package control

import (
	"context"
	"encoding/json"
)

// History are the changes of Primary and the drills that the database keeps.
type History interface {
	// History returns the object of GET /api/v1/redundancy/changeovers.
	History(ctx context.Context, limit int) (any, error)
}

// historyRequest is the JSON of these operations.
type historyRequest struct {
	Limit int `json:"limit,omitempty"`
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
	}
}

// History implements History; the result is json.RawMessage.
func (r *Remote) History(ctx context.Context, limit int) (any, error) {
	return call[json.RawMessage](ctx, r, "history", historyRequest{Limit: limit})
}
