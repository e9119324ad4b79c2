package database

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSaveLeavesOutEveryLogin(t *testing.T) {
	s := openStore(t, "")
	secret := sha256.Sum256([]byte("of a unit"))
	must(t, s, cmd(1, UnitAdd{Name: "u", Secret: secret}), cmd(7, SettingPut{TokenPrefix + "x", "APITOKEN"}), cmd(8, Once{Scope: "s", Key: "k", ExpiresMS: 1 << 50, Answer: "ONCESHOWN"}), cmd(2, UserPut{"anna", "$argon2id$OLDOLDOLD", 0}), cmd(3, UserPut{"anna", "$argon2id$NEWNEWNEW", 0}),
		cmd(4, SettingPut{"k", "DELETEDVALUE"}), cmd(5, SettingRemove{"k"}), cmd(6, batch(record("u", 1, 1000, 21.5))),
		cmd(7, SettingPut{TokenPrefix + "id", "TOKENHASH"}))
	file := filepath.Join(t.TempDir(), "saved.db")
	if err := s.Save(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"OLDOLDOLD", "NEWNEWNEW", "DELETEDVALUE", "TOKENHASH"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("%s is in the saved file", secret)
		}
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if err := s.Save(t.Context(), file, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("saved over a file: %v", err)
	}
	if err := s.Save(t.Context(), file, true); err != nil {
		t.Errorf("overwrite: %v", err)
	}
	left, err := os.ReadDir(filepath.Dir(file))
	if err != nil || len(left) != 1 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
	saved, err := s.RestoreCheck(t.Context(), file)
	if err != nil || saved.Index != 9 || saved.Schema != len(migrations) || saved.Size == 0 {
		t.Errorf("check: %+v, %v", saved, err)
	}
	if err := s.Save(t.Context(), filepath.Join(t.TempDir(), "no", "such", "folder"), false); err == nil {
		t.Error("saved into a folder that does not exist")
	}
}

func TestRestoreKeepsWhatBelongsToTheLog(t *testing.T) {
	old, s := openStore(t, ""), openStore(t, "")
	must(t, old, cmd(1, UnitAdd{Name: "saved"}), cmd(2, UserPut{"ghost", "h", 0}), cmd(3, PoolPut{"oldpool"}), cmd(4, batch(record("saved", 1, 1000, 21.5))))
	file := filepath.Join(t.TempDir(), "saved.db")
	if err := old.Save(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	must(t, s, cmd(1, UnitAdd{Name: "present"}), cmd(2, UserPut{"anna", "h2", 3}), cmd(3, PoolPut{"pool"}))
	if _, err := s.Apply(t.Context(), []Entry{{Index: 50, Term: 9, Configuration: []byte("members")}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Restore(t.Context(), file, true); err != nil {
		t.Fatal(err)
	}
	if i, term := s.Applied(); i != 50 || term != 9 {
		t.Errorf("position %d %d", i, term)
	}
	if c, i := s.Configuration(); i != 50 || string(c) != "members" {
		t.Errorf("configuration %q at %d", c, i)
	}
	if s.Pool() != "pool" {
		t.Errorf("pool %q", s.Pool())
	}
	if got := query(t, s, "SELECT unit, seq, value FROM sample"); !slices.Equal(got, []string{"saved|1|21.5"}) {
		t.Errorf("samples %v", got)
	}
	if users, err := s.Users(t.Context()); err != nil || !slices.Equal(users, []User{{"anna", "h2", 3}}) {
		t.Errorf("users %v, %v", users, err)
	}
	sound(t, s)
	// The log goes on, and knows which commands it has done.
	if r := must(t, s, cmd(1, UnitAdd{Name: "present"}))[0]; !r.Repeat {
		t.Errorf("result of an earlier command: %+v", r)
	}
	if r := must(t, s, cmd(9, batch(record("saved", 1, 1000, 21.5))))[0]; r.Records[0] != Duplicate {
		t.Errorf("record in the saved file: %v", r.Records)
	}
	if !s.Aside() {
		t.Fatal("the present content was not kept")
	}
	if err := s.RestoreAside(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unit(t.Context(), "present"); err != nil || s.Aside() {
		t.Errorf("content kept aside: %v, still aside: %v", err, s.Aside())
	}
	sound(t, s)
	if err := s.RestoreAside(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing aside: %v", err)
	}
}

// A new table may hold something to log in with: whoever adds one says here that it does not, or in
// logins that it does.
func TestEveryTableIsKnownToSave(t *testing.T) {
	s := openStore(t, "")
	file := filepath.Join(t.TempDir(), "saved.db")
	if err := s.Save(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	db, err := openScratch(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	harmless := []string{"migration", "state", "client", "client_result", "unit_row", "user_row", "setting_row", "series", "stream", "message", "sample_row", "event_row", "changeover_row", "drill_row"}
	if err := eachRow(t.Context(), db, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'", func(cells []any) error {
		name := text(cells[0])
		stripped := slices.ContainsFunc(logins, func(l login) bool { return l.table == name })
		if !stripped && !slices.Contains(harmless, name) {
			t.Errorf("table %s: can somebody log in with what is in it? Then it belongs to logins, else to the list here", name)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestRestoredUnitsKeepTheirSecretsOrGetNewOnes(t *testing.T) {
	s := openStore(t, "")
	mine, later := [32]byte{1}, [32]byte{2}
	must(t, s, cmd(1, UnitAdd{Name: "first"}), cmd(2, UnitRemove{Name: "first"}), cmd(3, UnitAdd{Name: "only-saved", Secret: mine}), cmd(4, UnitAdd{Name: "both", Secret: mine}),
		cmd(5, batch(record("only-saved", 1, 1000, 21.5))))
	file := filepath.Join(t.TempDir(), "saved.db")
	if err := s.Save(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	live := openStore(t, "")
	must(t, live, cmd(1, UnitAdd{Name: "both", Secret: later}), cmd(2, UnitAdd{Name: "only-live", Secret: later}), cmd(3, SettingPut{TokenPrefix + "x", "APITOKEN"}))
	if err := live.Restore(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	sound(t, live)
	if u, err := live.Unit(t.Context(), "both"); err != nil || u.Secret != later || u.NoSecret {
		t.Errorf("a unit of both: %+v, %v", u, err)
	}
	if u, err := live.Unit(t.Context(), "only-saved"); err != nil || !u.NoSecret {
		t.Errorf("a unit of the saved file alone: %+v, %v", u, err)
	}
	if _, err := live.Unit(t.Context(), "only-live"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a unit that was not saved: %v", err)
	}
	if v, err := live.Setting(t.Context(), TokenPrefix+"x"); err != nil || v != "APITOKEN" {
		t.Errorf("the API token: %q, %v", v, err)
	}
	if r := must(t, live, cmd(20, UnitAdd{Name: "both", Secret: mine}))[0]; !errors.Is(r.Err, ErrUnitExists) {
		t.Errorf("a unit with a secret was added again: %+v", r)
	}
	if r := must(t, live, cmd(21, UnitAdd{Name: "only-saved", Secret: later}))[0]; r.Err != nil {
		t.Errorf("a unit without a secret gets no new one: %v", r.Err)
	}
	if u, err := live.Unit(t.Context(), "only-saved"); err != nil || u.Secret != later || u.NoSecret {
		t.Errorf("after that: %+v, %v", u, err)
	}
	sound(t, live)
	if got := query(t, live, "SELECT unit, seq FROM sample"); !slices.Equal(got, []string{"only-saved|1"}) {
		t.Errorf("its history: %v", got)
	}
}

func TestRestoreRefusesWhatIsNotASavedDatabase(t *testing.T) {
	s := openStore(t, "")
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	dir := t.TempDir()
	for name, row := range map[string]struct {
		content string
		want    error
	}{"text": {"hello", ErrForeign}, "cut": {"SQLite format 3\x00" + strings.Repeat("x", 5000), ErrCorrupt}, "empty": {"", ErrForeign}} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(row.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.Restore(t.Context(), file, false); !errors.Is(err, row.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.Restore(t.Context(), filepath.Join(dir, "none"), false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := s.Unit(t.Context(), "u"); err != nil {
		t.Error(err)
	}
}

func TestKeepOldKeepsTheFirstContentOnly(t *testing.T) {
	a, b := openStore(t, ""), openStore(t, "")
	must(t, b, cmd(1, UnitAdd{Name: "own"}))
	for range 2 {
		must(t, a, Command{Body: Canary{}})
		if err := copyTo(a, b, true); err != nil {
			t.Fatal(err)
		}
		if err := b.Replace(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.RestoreAside(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Unit(t.Context(), "own"); err != nil {
		t.Error(err)
	}
	if err := copyTo(a, b, true); err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.DropAside(), b.DropAside()); err != nil || b.Aside() {
		t.Errorf("drop: %v, %v", err, b.Aside())
	}
}
