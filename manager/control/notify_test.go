package control

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func (f *fakeManager) ListNotices(context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{"values":{}}`), f.err
}
func (f *fakeManager) SetNotices(_ context.Context, c NoticeChange) (Done, error) {
	return f.tell("set %v %v", c.Values, c.Secrets)
}
func (f *fakeManager) TestNotice(_ context.Context, channel string) (Done, error) {
	return f.tell("test %s", channel)
}

func TestNoticeOperationsArrive(t *testing.T) {
	dir, m := t.TempDir(), &fakeManager{}
	serve(t, dir, ManagerOps(m))
	r, ctx := NewRemote(dir), patience(t)
	raw, err := r.ListNotices(ctx)
	if err != nil || string(raw) != `{"values":{}}` {
		t.Errorf("list %s, %v", raw, err)
	}
	if _, err := r.SetNotices(ctx, NoticeChange{Values: map[string]string{"a": "b"}, Secrets: map[string]string{"email": "s"}}); err != nil {
		t.Error(err)
	}
	if _, err := r.TestNotice(ctx, "email"); err != nil {
		t.Error(err)
	}
	if got := strings.Join(m.told, "\n"); got != "set map[a:b] map[email:s]\ntest email" {
		t.Errorf("told %q", got)
	}
}
