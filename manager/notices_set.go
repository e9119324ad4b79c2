package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/notify"
	"redundancypool/manager/pool"
	"redundancypool/web"
)

// noticeChannels are all channels, with what their secret is.
var noticeChannels = []string{notify.ChannelWebhook, notify.ChannelEmail}

// noticeHistory is how many notices the page shows.
const noticeHistory = 100

// noticeView reads what the page and the command show.
func (f faces) noticeView(ctx context.Context) (web.NoticeView, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return web.NoticeView{}, err
	}
	c, err := e.noticeConfig(ctx)
	if err != nil {
		return web.NoticeView{}, err
	}
	v := web.NoticeView{Values: c.Values(), Secrets: map[string]bool{}, History: []web.Notice{}}
	for _, ch := range noticeChannels {
		secret, err := e.db.Secret(ctx, noticeSecret+ch)
		if err != nil {
			return v, err
		}
		v.Secrets[ch] = secret != ""
	}
	rows, err := e.db.Notices(ctx, false, noticeHistory)
	for _, r := range noticeRecords(rows) {
		v.History = append(v.History, webNotice(r))
	}
	return v, err
}

func webNotice(r notify.Record) web.Notice {
	n := web.Notice{
		ID: r.Message.ID, Kind: r.Message.Kind, TimeMS: r.Message.TimeMS, Time: web.LogTime(r.Message.TimeMS), Severity: r.Message.Severity,
		Node: r.Message.Node, Title: r.Message.Title, Text: r.Message.Text, Held: r.Held, Gathered: r.Gathered, Deliveries: []web.NoticeDelivery{},
	}
	for _, d := range r.Deliveries {
		w := web.NoticeDelivery{Channel: d.Channel, State: d.State, Attempts: d.Attempts, Error: d.Error, By: d.By}
		if d.LastMS != 0 {
			w.Last = web.LogTime(d.LastMS)
		}
		if d.NextMS != 0 {
			w.Next = web.LogTime(d.NextMS)
		}
		n.Deliveries = append(n.Deliveries, w)
	}
	return n
}

// ListNotices implements control.Notices.
func (f faces) ListNotices(ctx context.Context) (json.RawMessage, error) {
	v, err := f.noticeView(ctx)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// noticeFields turns the configuration's errors into the form's.
func noticeFields(err error) error {
	out := &control.Error{Code: "invalid", Message: "the notifications cannot be set like this"}
	var add func(error)
	add = func(err error) {
		var fe *notify.FieldError
		switch many, ok := err.(interface{ Unwrap() []error }); {
		case ok:
			for _, one := range many.Unwrap() {
				add(one)
			}
		case errors.As(err, &fe):
			out.Fields = append(out.Fields, control.FieldError(*fe))
		}
	}
	add(err)
	return out
}

// SetNotices implements control.Notices.
func (f faces) SetNotices(ctx context.Context, q control.NoticeChange) (control.Done, error) {
	e, err := f.primary(ctx)
	if err != nil {
		return control.Done{}, err
	}
	c, err := e.noticeConfig(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if c, err = c.Apply(q.Values); err == nil {
		err = c.Validate()
	}
	if err != nil {
		return control.Done{}, noticeFields(err)
	}
	for ch, secret := range q.Secrets {
		if ch != notify.ChannelWebhook && ch != notify.ChannelEmail || len(secret) > 1024 {
			return control.Done{}, noticeFields(&notify.FieldError{Field: "secret." + ch, Code: "invalid", Message: "it cannot be stored", Fix: "use webhook or email, and up to 1024 characters"})
		}
		if ch == notify.ChannelWebhook && secret != "" {
			if _, err := notify.Sign(secret, "", "", nil); err != nil {
				return control.Done{}, noticeFields(&notify.FieldError{Field: "secret.webhook", Code: "invalid", Message: err.Error(), Fix: "give base64 behind whsec_, or any other text"})
			}
		}
	}
	for ch, secret := range q.Secrets {
		if _, err := e.proposer.propose(ctx, database.SecretPut{Key: noticeSecret + ch, Value: secret}); err != nil {
			return control.Done{}, err
		}
	}
	if _, err := e.proposer.propose(ctx, database.SettingPut{Key: noticeSetting, Value: asJSON(c)}); err != nil {
		return control.Done{}, err
	}
	return control.Done{Message: "the notifications are set"}, nil
}

// TestNotice implements control.Notices: with the stored configuration, whether enabled or not.
func (f faces) TestNotice(ctx context.Context, channel string) (control.Done, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return control.Done{}, err
	}
	c, err := e.noticeConfig(ctx)
	if err != nil {
		return control.Done{}, err
	}
	switch channel {
	case notify.ChannelWebhook:
		c.Webhook.Enabled = true
	case notify.ChannelEmail:
		c.Email.Enabled = true
	default:
		return control.Done{}, refuse("unknown", "use webhook or email", "there is no channel %.20q", channel)
	}
	if err := c.Validate(); err != nil {
		return control.Done{}, noticeFields(err)
	}
	now := time.Now()
	m := notify.Message{
		ID: "test-" + pool.NewID()[:16], Kind: notify.KindTest, TimeMS: now.UnixMilli(), Time: web.LogTime(now.UnixMilli()), Severity: "info",
		Pool: short(e.pool.Record().Pool), Node: f.m.name(), Title: "Test message of " + f.m.name(), Text: "This is a test. Notifications of this kind arrive here.",
	}
	err = e.sendNotice(ctx, c, channel, m)
	f.m.noticeEvent(channel, m, err)
	if err != nil {
		return control.Done{}, refuse("not_sent", "correct the settings, store them, and test again", "%s: %v", channel, err)
	}
	return control.Done{Message: fmt.Sprintf("%s: the test message was taken within %v", channel, time.Since(now).Round(time.Millisecond))}, nil
}

// Notices implements web.Notices.
func (d desk) Notices(ctx context.Context) (web.NoticeView, error) {
	v, err := d.faces().noticeView(ctx)
	return v, pageError(err)
}

// SetNotices implements web.Notices.
func (d desk) SetNotices(ctx context.Context, values, secrets map[string]string) (string, error) {
	return said(d.faces().SetNotices(ctx, control.NoticeChange{Values: values, Secrets: secrets}))
}

// TestNotice implements web.Notices.
func (d desk) TestNotice(ctx context.Context, channel string) (string, error) {
	return said(d.faces().TestNotice(ctx, channel))
}

// NoticeKinds implements web.Notices.
func (d desk) NoticeKinds() (all []web.NoticeKind) {
	for _, k := range notify.Kinds {
		all = append(all, web.NoticeKind(k))
	}
	return all
}
