package control

import (
	"context"
	"encoding/json"
	"time"
)

// Notices are the notifications by webhook and e-mail.
type Notices interface {
	// ListNotices returns the object of GET /api/v1/notifications: values, which secrets are stored,
	// and what was sent.
	ListNotices(ctx context.Context) (json.RawMessage, error)
	// SetNotices puts values over the present ones, and secrets by channel: an empty one removes it.
	SetNotices(ctx context.Context, c NoticeChange) (Done, error)
	// TestNotice sends a test message on a channel at once.
	TestNotice(ctx context.Context, channel string) (Done, error)
}

// NoticeChange is what is to be other than now.
type NoticeChange struct {
	Values  map[string]string `json:"values,omitempty"`
	Secrets map[string]string `json:"secrets,omitempty"`
}

// noticeTest is the request of notify/test.
type noticeTest struct {
	Channel string `json:"channel"`
}

func noticeOps(n Notices) map[string]Handler {
	return map[string]Handler{
		"notify/list": func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
			return n.ListNotices(ctx)
		},
		"notify/set": func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var c NoticeChange
			if err := decodeRequest(in, &c); err != nil {
				return nil, err
			}
			return n.SetNotices(ctx, c)
		},
		"notify/test": func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var q noticeTest
			if err := decodeRequest(in, &q); err != nil {
				return nil, err
			}
			return n.TestNotice(ctx, q.Channel)
		},
	}
}

// ListNotices implements Notices.
func (r *Remote) ListNotices(ctx context.Context) (json.RawMessage, error) {
	return call[json.RawMessage](ctx, r, "notify/list", request{})
}

// SetNotices implements Notices.
func (r *Remote) SetNotices(ctx context.Context, c NoticeChange) (Done, error) {
	return call[Done](ctx, r, "notify/set", c)
}

// TestNotice implements Notices; a channel answers or fails within ten seconds.
func (r *Remote) TestNotice(ctx context.Context, channel string) (Done, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	return call[Done](ctx, r, "notify/test", noticeTest{channel})
}
