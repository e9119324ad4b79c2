package database

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNoticesAreKeptBounded(t *testing.T) {
	s := openStore(t, "")
	put := func(seq uint64, list ...Notice) { must(t, s, cmd(seq, NoticePut{list})) }
	put(1, Notice{"old-open", 1, NoticeOpen, "{}"})
	for i := range MaxNotices + 20 {
		put(uint64(i+2), Notice{fmt.Sprintf("n%04d", i), int64(10 + i), "done", `{"i":1}`})
	}
	put(9000, Notice{"n0519", 529, NoticeOpen, `{"i":2}`}, Notice{"last", 9999, "done", "{}"})
	sound(t, s)
	all, err := s.Notices(t.Context(), false, 0)
	if err != nil || len(all) != MaxNotices || all[0].ID != "last" || all[1].JSON != `{"i":2}` || all[len(all)-1].ID != "old-open" {
		t.Errorf("%d notices, %v: %v ... %v", len(all), err, all[:2], all[len(all)-1])
	}
	open, err := s.Notices(t.Context(), true, 10)
	if err != nil || len(open) != 2 || open[0].ID != "n0519" {
		t.Errorf("open: %v, %v", open, err)
	}
}

// A secret is read by who needs it alone: no query and no saved copy has it.
func TestSecretOfASettingStaysInside(t *testing.T) {
	s := openStore(t, "")
	must(t, s, cmd(1, SecretPut{"notify.webhook", "s3cret-one"}), cmd(2, SecretPut{"notify.smtp", "x"}), cmd(3, SecretPut{"notify.smtp", ""}))
	must(t, s, cmd(4, NoticePut{[]Notice{{"n", 1, NoticeOpen, `{"text":"s3cret-two"}`}}}))
	sound(t, s)
	if v, err := s.Secret(t.Context(), "notify.webhook"); err != nil || v != "s3cret-one" {
		t.Errorf("secret %q, %v", v, err)
	}
	if v, err := s.Secret(t.Context(), "notify.smtp"); err != nil || v != "" {
		t.Errorf("removed secret %q, %v", v, err)
	}
	if _, err := s.Query(t.Context(), "SELECT value FROM secret_setting", 0); !errors.Is(err, ErrRefusedSQL) {
		t.Errorf("query: %v", err)
	}
	file := filepath.Join(t.TempDir(), "save.db")
	if err := s.Save(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(text), "s3cret") {
		t.Errorf("the saved copy has a secret (%v)", err)
	}
	if err := s.Restore(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	sound(t, s)
	if v, err := s.Secret(t.Context(), "notify.webhook"); err != nil || v != "s3cret-one" {
		t.Errorf("after a restore the secret is %q, %v", v, err)
	}
}
