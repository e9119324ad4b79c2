package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/settings"
)

func TestCommandsAreNoted(t *testing.T) {
	m := &Manager{journal: journal.Open(journal.Config{Dir: t.TempDir()})}
	defer m.journal.Close()
	m.settings = settings.Default()
	m.settings.Name = "m1"
	answer := func(err error) control.Handler {
		return func(context.Context, json.RawMessage, func(any) error) (any, error) { return nil, err }
	}
	ops := m.audited(map[string]control.Handler{
		"status": answer(nil), "unit/list": answer(nil), "unit/add": answer(nil), "user/passwd": answer(errors.New("too short")),
		"leave": answer(&control.Error{Code: "confirm", Message: "?", Confirm: []control.Question{{Code: "leave"}}}),
		"set": func(context.Context, json.RawMessage, func(any) error) (any, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.settings.Active = true
			return nil, nil
		},
	})
	for _, c := range [][2]string{{"status", "{}"}, {"unit/list", "{}"}, {"unit/add", `{"name":"u1"}`}, {"leave", "{}"},
		{"user/passwd", `{"name":"ann","password":"s3cret"}`}, {"set", `{"values":{"active":"true"},"pairing":"s3cret"}`}} {
		_, _ = ops[c[0]](t.Context(), json.RawMessage(c[1]), nil)
	}
	var got []string
	for _, e := range m.journal.Recent(10, journal.Filter{}) {
		got = append(got, strings.Join([]string{e.Category, e.Code, string(e.Severity), e.Message, e.Cause}, "|"))
		if text := fmt.Sprint(e); strings.Contains(text, "s3cret") {
			t.Errorf("a secret is told: %s", text)
		}
	}
	want := `user|unit_add|info|local command: add a field unit u1|
user|user_passwd|warning|local command: refused: set a user's password ann|too short
user|settings|info|local command: change settings: active|`
	if strings.Join(got, "\n") != want {
		t.Errorf("noted\n%s\nwant\n%s", strings.Join(got, "\n"), want)
	}
}
