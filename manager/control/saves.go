package control

import (
	"context"
	"encoding/json"
)

// Saves are the saved copies of the database that a Manager keeps itself.
type Saves interface {
	ListSaves(ctx context.Context) ([]Save, error)
	DeleteSave(ctx context.Context, name string, yes bool) (Done, error)
	// KeepSaves sets how many saves are kept, and for how many days; 0 days: for ever.
	KeepSaves(ctx context.Context, count, days int) (Done, error)
}

// Save is one of them. Figures below 0 are not known.
type Save struct {
	Name    string `json:"name"`
	Bytes   int64  `json:"bytes"`
	AtMS    int64  `json:"at_ms"` // Unix milliseconds
	Why     string `json:"why"`
	Who     string `json:"who"`
	Schema  int    `json:"schema"` // 0: not noted
	Units   int64  `json:"units"`
	Events  int64  `json:"events"`
	Samples int64  `json:"samples"`
}

// keep is the request of KeepSaves.
type keep struct {
	Count int `json:"count"`
	Days  int `json:"days"`
}

func saveOps(m Saves) map[string]Handler {
	return map[string]Handler{
		"database/list":   simple(func(ctx context.Context, _ request) (any, error) { return m.ListSaves(ctx) }),
		"database/delete": simple(func(ctx context.Context, r request) (any, error) { return m.DeleteSave(ctx, r.Name, r.Yes) }),
		"database/keep": func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var q keep
			if err := decodeRequest(in, &q); err != nil {
				return nil, err
			}
			return m.KeepSaves(ctx, q.Count, q.Days)
		},
	}
}

// ListSaves implements Saves.
func (r *Remote) ListSaves(ctx context.Context) ([]Save, error) {
	return call[[]Save](ctx, r, "database/list", request{})
}

// DeleteSave implements Saves.
func (r *Remote) DeleteSave(ctx context.Context, name string, yes bool) (Done, error) {
	return call[Done](ctx, r, "database/delete", request{Name: name, Yes: yes})
}

// KeepSaves implements Saves.
func (r *Remote) KeepSaves(ctx context.Context, count, days int) (Done, error) {
	return call[Done](ctx, r, "database/keep", keep{count, days})
}
