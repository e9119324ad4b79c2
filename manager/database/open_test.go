package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// writeV1 makes the database that version 1 of the schema left behind, with content.
func writeV1(t *testing.T, path string) {
	t.Helper()
	execSQL(t, path, fmt.Sprintf("PRAGMA application_id = %d", applicationID), "CREATE TABLE migration (version INTEGER PRIMARY KEY)", schema1,
		"INSERT INTO migration VALUES (1)",
		"INSERT INTO unit_row VALUES (1, 'u', 5, 0)",
		"INSERT INTO series VALUES (1, 1, 'n', 'g', 't')",
		"INSERT INTO sample_row VALUES (1, 1000, 77, 0, NULL, 3, 3, 21.5, NULL), (1, 2000, 78, 0, NULL, 3, 0, NULL, 2014)",
		"INSERT INTO event_row VALUES (1, 9, 9, 'n', 'info', 'c', 'code', 'm', '', '')")
	var sum total
	sum.add(rowUnit(nil, 1, "u", 5, 0))
	sum.add(rowSeries(nil, 1, 1, "n", "g", "t"))
	sum.add(rowSample(nil, &sampleRow{series: 1, sourceMS: 1000, hash: 77, seq: -1, delayMS: 3, kind: 3, value: 21.5}))
	sum.add(rowSample(nil, &sampleRow{series: 1, sourceMS: 2000, hash: 78, seq: -1, delayMS: 3, err: 2014}))
	sum.add(rowEvent(nil, 9, &Event{ID: 1, TimeMS: 9, Node: "n", Severity: "info", Category: "c", Code: "code", Message: "m"}))
	b := sum.bytes()
	execSQL(t, path, fmt.Sprintf("UPDATE state SET idx = 12, term = 3, digest = x'%x'", b))
}

// execSQL runs statements on a file that no Store has open.
func execSQL(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", dsn(path, writerOptions))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%.60s: %v", s, err)
		}
	}
}

func TestADatabaseOfVersion1IsBroughtUpToDate(t *testing.T) {
	dir := t.TempDir()
	writeV1(t, filepath.Join(dir, fileName))
	s := openStore(t, dir)
	if i, term := s.Applied(); i != 12 || term != 3 {
		t.Errorf("position %d %d", i, term)
	}
	sound(t, s)
	if got := query(t, s, "SELECT unit, tag, source_ms, value, error FROM tag"); !slices.Equal(got, []string{"u|t|2000||2014"}) {
		t.Errorf("view of version 2: %v", got)
	}
	if got := query(t, s, "SELECT count(*), max(version) FROM migration"); !slices.Equal(got, []string{fmt.Sprintf("%d|%d", len(migrations), len(migrations))}) {
		t.Errorf("versions %v", got)
	}
	must(t, s, cmd(1, ChangeoverAppend{JSON: "{}"}))
	// The same content arriving as a copy is brought up to date too.
	other := t.TempDir()
	v1 := filepath.Join(other, "v1.db")
	writeV1(t, v1)
	b, err := os.ReadFile(v1)
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Incoming(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(in.Commit(Copy{Index: 12, Term: 3}), s.Replace(t.Context())); err != nil {
		t.Fatal(err)
	}
	must(t, s, cmd(2, ChangeoverAppend{JSON: "{}"}))
	sound(t, s)
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	for name, row := range map[string]struct {
		prepare func(t *testing.T, path string)
		want    error
	}{
		"another program's database": {func(t *testing.T, path string) { execSQL(t, path, "CREATE TABLE x (y)") }, ErrForeign},
		"a text file":                {func(t *testing.T, path string) { write(t, path, []byte("hello")) }, ErrForeign},
		"a newer version": {func(t *testing.T, path string) {
			writeV1(t, path)
			execSQL(t, path, "INSERT INTO migration VALUES (99)")
		}, ErrNewer},
		"a damaged file": {func(t *testing.T, path string) {
			writeV1(t, path)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for i := 6 * 4096; i < 9*4096; i++ {
				b[i] = 0xa5
			}
			write(t, path, b)
		}, ErrCorrupt},
		"a file cut off": {func(t *testing.T, path string) {
			writeV1(t, path)
			if err := os.Truncate(path, 3*4096); err != nil {
				t.Fatal(err)
			}
		}, ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			row.prepare(t, filepath.Join(dir, fileName))
			s, err := Open(t.Context(), Config{Dir: dir})
			if !errors.Is(err, row.want) {
				t.Errorf("%v, want %v", err, row.want)
			}
			if s != nil {
				_ = s.Close()
			}
		})
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAFolderIsOpenedOnce(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	if _, err := Open(t.Context(), Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("second open: %v", err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	openStore(t, dir)
	if _, err := Open(t.Context(), Config{}); err == nil {
		t.Error("opened without a folder")
	}
}

func TestAFolderMayHaveAnyName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?mode=memory#c%20&d'e;ü")
	s := openStore(t, dir)
	must(t, s, cmd(1, Canary{}))
	if err := s.Save(t.Context(), filepath.Join(dir, "s?v#.db"), false); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(filepath.Join(dir, fileName)); err != nil || st.Size() == 0 {
		t.Errorf("%v %v", st, err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := openStore(t, "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	_, apply := s.Apply(ctx, []Entry{{Index: 1, Term: 1}})
	_, view := s.View(ctx)
	_, unit := s.Unit(ctx, "u")
	_, q := s.Query(ctx, "SELECT 1", 0)
	_, _, syncErr := s.Sync(ctx)
	_, in := s.Incoming(ctx)
	for name, err := range map[string]error{"apply": apply, "view": view, "unit": unit, "query": q, "sync": syncErr, "incoming": in, "probe": s.Probe(ctx)} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenFinishesAReplace stops a Replace after each of its steps, as a crash would.
func TestOpenFinishesAReplace(t *testing.T) {
	donor := openStore(t, "")
	must(t, donor, cmd(1, UnitAdd{Name: "new"}))
	for _, row := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		want    string
		aside   bool
	}{
		{"received in part: discarded", func(t *testing.T, dir string) {
			rename(t, dir, inName, partName)
			remove(t, dir, markerName)
		}, "old", false},
		{"received, not described: discarded", func(t *testing.T, dir string) { remove(t, dir, markerName) }, "old", false},
		{"complete: finished", func(*testing.T, string) {}, "new", true},
		{"complete, but changed on the disk: discarded", func(t *testing.T, dir string) {
			f, err := os.OpenFile(filepath.Join(dir, inName), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteAt([]byte("x"), 4095); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}, "old", false},
		{"old content moved aside: finished", func(t *testing.T, dir string) { rename(t, dir, fileName, asideName) }, "new", true},
		{"description damaged: discarded", func(t *testing.T, dir string) { write(t, filepath.Join(dir, markerName), []byte("{")) }, "old", false},
		{"renamed, description left: finished", func(t *testing.T, dir string) {
			rename(t, dir, fileName, asideName)
			rename(t, dir, inName, fileName)
		}, "new", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openStore(t, dir)
			must(t, s, cmd(1, UnitAdd{Name: "old"}))
			if err := errors.Join(copyTo(donor, s, true), s.Close()); err != nil {
				t.Fatal(err)
			}
			row.prepare(t, dir)
			s = openStore(t, dir)
			if got := query(t, s, "SELECT name FROM unit"); !slices.Equal(got, []string{row.want}) {
				t.Errorf("content %v, want %s", got, row.want)
			}
			if s.Aside() != row.aside {
				t.Errorf("aside: %v", s.Aside())
			}
			if _, ok, err := s.Pending(); ok || err != nil {
				t.Errorf("pending: %v %v", ok, err)
			}
			sound(t, s)
			files, err := filepath.Glob(filepath.Join(dir, "incoming*"))
			if err != nil || len(files) != 0 {
				t.Errorf("left behind: %v %v", files, err)
			}
		})
	}
}

func rename(t *testing.T, dir, from, to string) {
	t.Helper()
	if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}
