package web

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// fakeNotices are kept in a map, as the database keeps them.
type fakeNotices struct {
	values  map[string]string
	secrets map[string]string
}

func (d *fakeDesk) Notices(context.Context) (NoticeView, error) {
	v := NoticeView{Values: maps.Clone(d.notices.values), Secrets: map[string]bool{}, History: []Notice{{ID: "n1", Kind: "health", TimeMS: logStart, Time: LogTime(logStart), Severity: "warning",
		Title: "Pool health: <b>", Deliveries: []NoticeDelivery{{Channel: "webhook", State: "waiting", Attempts: 2, Error: "connection refused"}}}}}
	if v.Values == nil {
		v.Values = map[string]string{"kinds": "health,disk", "quiet_minutes": "5", "email.security": "starttls"}
	}
	for ch, s := range d.notices.secrets {
		v.Secrets[ch] = s != ""
	}
	return v, nil
}

func (d *fakeDesk) SetNotices(_ context.Context, values, secrets map[string]string) (string, error) {
	if d.refusal != nil {
		return "", d.refusal
	}
	d.notices.values = maps.Clone(values)
	if d.notices.secrets == nil {
		d.notices.secrets = map[string]string{}
	}
	maps.Copy(d.notices.secrets, secrets)
	return "stored", nil
}

func (d *fakeDesk) TestNotice(_ context.Context, channel string) (string, error) {
	return d.tell("test " + channel)
}

func (d *fakeDesk) NoticeKinds() []NoticeKind {
	return []NoticeKind{{"health", "Change of pool health", "x"}, {"drill", "Drill result", "y"}}
}

// TestNoticeSecretsAreWriteOnly: what was typed is stored, kept when nothing is typed, removed when
// asked; no page, answer or act shows it.
func TestNoticeSecretsAreWriteOnly(t *testing.T) {
	s, d, get := logServer(t, 0)
	form := url.Values{"kind": {"health", "drill"}, "quiet_minutes": {"7"}, "webhook.enabled": {"on"}, "webhook.url": {"https://a.example"}, "secret.webhook": {"s3cret"}, "email.security": {"none"}}
	if r := post(t, s, "/notifications", form); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("save: %d %s", r.StatusCode, body(t, r))
	}
	if v := d.notices.values; v["kinds"] != "health,drill" || v["quiet_minutes"] != "7" || v["webhook.enabled"] != "true" || v["email.enabled"] != "false" || d.notices.secrets["webhook"] != "s3cret" {
		t.Errorf("stored %v %v", v, d.notices.secrets)
	}
	if a := d.acts[len(d.acts)-1]; a.Code != "notify_set" || !strings.Contains(strings.Join(a.Changed, " "), "secret.webhook") || strings.Contains(strings.Join(a.Changed, " "), "s3cret") {
		t.Errorf("noted %+v", a)
	}
	form.Del("secret.webhook")
	post(t, s, "/notifications", form)
	if d.notices.secrets["webhook"] != "s3cret" {
		t.Error("an empty field took the secret away")
	}
	for _, path := range []string{"/notifications", "/api/v1/notifications"} {
		if text := body(t, get(path)); strings.Contains(text, "s3cret") || strings.Contains(text, "<b>") && strings.HasPrefix(path, "/n") {
			t.Errorf("%s shows a secret, or markup", path)
		}
	}
	form.Set("remove.webhook", "on")
	post(t, s, "/notifications", form)
	if d.notices.secrets["webhook"] != "" {
		t.Error("the secret was not removed")
	}
}

func TestNoticeMistakesStandBesideTheirField(t *testing.T) {
	s, d, _ := logServer(t, 0)
	d.refusal = &Problem{Code: "invalid", Message: "cannot be set", Fields: []FieldProblem{{Field: "webhook.url", Code: "plain", Message: "not encrypted", Fix: "use https"}}}
	r := post(t, s, "/notifications", url.Values{"webhook.url": {"http://typed.example"}, "email.security": {"tls"}, "secret.email": {"s3cret"}})
	text := body(t, r)
	if r.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(text, "Not encrypted.") || !strings.Contains(text, "http://typed.example") || strings.Contains(text, "s3cret") {
		t.Errorf("%d: %s", r.StatusCode, text)
	}
	d.refusal = &Problem{Code: "not_sent", Message: "webhook: dial tcp 192.0.2.1:443: connect: connection refused"}
	if text := body(t, post(t, s, "/notifications/test", url.Values{"channel": {"webhook"}})); !strings.Contains(text, "connect: connection refused") {
		t.Errorf("the exact failure of a test is not shown:\n%s", text)
	}
}

func TestNoticesByTheAPI(t *testing.T) {
	s, d, get := logServer(t, 0)
	call := func(method, path, text string) *http.Response {
		return ask(s, there, method, path, func(r *http.Request) { r.SetBasicAuth("ann", "right"); setBody(r, "application/json", text) })
	}
	if r := call("PUT", "/api/v1/notifications", `{"values":{"quiet_minutes":"9"},"secrets":{"email":"x"}}`); r.StatusCode != http.StatusOK || d.notices.secrets["email"] != "x" {
		t.Errorf("put: %d", r.StatusCode)
	}
	if r := call("POST", "/api/v1/notifications/test", `{"channel":"email"}`); r.StatusCode != http.StatusOK || d.told[0] != "test email" {
		t.Errorf("test: %d %q", r.StatusCode, d.told)
	}
	var doc struct {
		Components struct{ Schemas map[string]json.RawMessage }
	}
	if err := json.Unmarshal(openapiText, &doc); err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(body(t, get("/api/v1/notifications"))), &object); err != nil {
		t.Fatal(err)
	}
	delete(object, "values") // any keys
	delete(object, "secrets")
	var schema map[string]any
	if err := json.Unmarshal(doc.Components.Schemas["Notifications"], &schema); err != nil {
		t.Fatal(err)
	}
	history, err := json.Marshal(schema["properties"].(map[string]any)["history"])
	if err != nil {
		t.Fatal(err)
	}
	checkObject(t, "history", history, object["history"])
}
