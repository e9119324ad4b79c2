package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func (d *fakeDesk) DeleteSave(_ context.Context, name string, y bool) (string, error) {
	return d.ask("delete "+name, y)
}
func (d *fakeDesk) Upload(_ context.Context, who, name string, body io.Reader) (string, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return "", err
	}
	return d.tell(fmt.Sprintf("upload %s %s %d", who, name, len(b)))
}
func (d *fakeDesk) SavesKept() Retention { return Retention{Count: 7, Days: 30} }
func (d *fakeDesk) KeepSaves(_ context.Context, r Retention) (string, error) {
	return d.tell(fmt.Sprintf("keep %d %d", r.Count, r.Days))
}
func (d *fakeDesk) Exports() ([]Export, error) {
	return []Export{{Name: "pool-1-beyond-7-of-term-2.jsonl", Bytes: 12, At: time.Unix(0, 0)}}, nil
}
func (d *fakeDesk) ExportPath(name string) (string, error) {
	if d.export == "" || name != filepath.Base(d.export) {
		return "", &Problem{Code: "unknown", Message: "there is no such export"}
	}
	return d.export, nil
}

func TestDatabasePage(t *testing.T) {
	desk := &fakeDesk{export: filepath.Join(t.TempDir(), "x.jsonl"), asked: []Consequence{{Text: "all is replaced", Word: "restore"}}}
	if err := os.WriteFile(desk.export, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := loggedIn(t, site(t, normal(), desk))
	_, page := v.ask("GET", "/database", nil, nil)
	for _, want := range []string{"a.db", "Records beyond the pool", `value="7"`, `value="30"`, "Delete", "Restore"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	v.post("/database/save")
	v.post("/database/keep", "count", "5", "days", "0")
	v.post("/database/keep", "count", "many", "days", "0")
	if _, page := v.post("/database/restore", "name", "a.db"); !strings.Contains(page, "all is replaced") {
		t.Error("restoring does not ask")
	}
	v.post("/database/restore", "name", "a.db", "yes", "1", "word-restore", "restore")
	v.post("/database/delete", "name", "a.db", "yes", "1", "word-restore", "restore")
	send := func(kind, token string) int {
		code, _ := v.ask("POST", uploadPath+"?name=a.db", nil, func(r *http.Request) {
			text := strings.Repeat("x", 100_000) // more than any form may have
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
			r.Header.Set("Content-Type", kind)
			r.Header.Set("X-Form-Token", token)
		})
		return code
	}
	if got := [3]int{send("application/octet-stream", v.token), send("application/octet-stream", "wrong"), send("text/plain", v.token)}; got != [3]int{200, 403, 415} {
		t.Errorf("uploads answer %v", got)
	}
	if got := strings.Join(desk.told, "; "); got != "save; keep 5 0; restore a.db; delete a.db; upload ann a.db 100000" {
		t.Errorf("told %q", got)
	}
	if code, body := v.ask("GET", "/database/beyond/x.jsonl", nil, nil); code != 200 || body != "{}\n" {
		t.Errorf("the export answers %d %q", code, body)
	}
	if code, _ := v.ask("GET", "/database/beyond/..%2Fx.jsonl", nil, nil); code != 404 {
		t.Errorf("another file answers %d", code)
	}
}
