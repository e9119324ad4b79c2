package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"redundancypool/manager/control"
)

func (f *fakeManager) ListNotices(context.Context) (json.RawMessage, error) {
	return json.RawMessage(`{"values":{"webhook.url":"https://a"},"secrets":{"webhook":true},"history":[{"time":"T","kind":"health","title":"Degraded","held":false,"gathered":"","deliveries":[{"channel":"webhook","state":"failed","error":"refused"}]}]}`), f.err
}
func (f *fakeManager) SetNotices(_ context.Context, c control.NoticeChange) (control.Done, error) {
	return f.tell("notify set %v %v", c.Values, c.Secrets)
}
func (f *fakeManager) TestNotice(_ context.Context, channel string) (control.Done, error) {
	return f.tell("notify test %s", channel)
}

func TestNotifyCommands(t *testing.T) {
	for _, tt := range []struct {
		args, in, told, prints string
		code                   int
	}{
		{"list", "", "", "webhook.url=https://a\nsecret.webhook: stored\n\nTime  Kind    Result                    Message\nT     health  webhook failed (refused)  Degraded\n", exitDone},
		{"set webhook.url=https://b?x=1 kinds=health,disk", "", "notify set map[kinds:health,disk webhook.url:https://b?x=1] map[]", "done\n", exitDone},
		{"set webhook.url", "", "", "", exitUsage},
		{"secret webhook", "s3cret\n", "notify set map[] map[webhook:s3cret]", "done\n", exitDone},
		{"secret email --remove", "", "notify set map[] map[email:]", "done\n", exitDone},
		{"secret sms", "", "", "", exitUsage},
		{"test email", "", "notify test email", "done\n", exitDone},
	} {
		f := &fakeManager{}
		var out, errs bytes.Buffer
		code := run(t.Context(), append(append([]string{"notify"}, strings.Fields(tt.args)...), "--data", "d"),
			console{in: strings.NewReader(tt.in), out: &out, err: &errs, connect: func(string) control.Manager { return f }})
		if code != tt.code || strings.Join(f.told, "\n") != tt.told || out.String() != tt.prints {
			t.Errorf("%s: exit %d, told %q, printed %q, %q", tt.args, code, f.told, out.String(), errs.String())
		}
	}
}
