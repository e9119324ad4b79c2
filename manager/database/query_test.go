package database

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestQueryOnlyReads(t *testing.T) {
	s := openStore(t, "")
	must(t, s, cmd(1, UserPut{"anna", "hash", 0}), cmd(2, UnitAdd{Name: "u"}))
	other := filepath.Join(t.TempDir(), "other.db")
	for _, refused := range []string{
		"", ";", "DELETE FROM unit_row", "INSERT INTO setting_row VALUES ('a','b')", "PRAGMA query_only = 0", "ATTACH '" + other + "' AS x",
		"VACUUM INTO '" + other + "'", "SELECT 1; DELETE FROM unit_row", "SELECT 1;;SELECT 2", "/* SELECT */ DROP TABLE unit_row", "-- SELECT\nDROP TABLE unit_row",
		"SELECT * FROM secret_user", `SELECT * FROM "secret_user"`, "SELECT * FROM [Secret_User]", "SELECT * FROM `SECRET_UNIT`", "SELECT * FROM 'secret_user'",
		"SELECT hash FROM main.secret_user", "SELECT/**/*/**/FROM/**/secret_user", "SELECT data FROM sqlite_dbpage", `SELECT * FROM client_result`,
		"EXPLAIN SELECT 1", "SELECT * FROM \ufeffsecret_user", "BEGIN", "SELECT 'a\x00b'", "WITH x AS (SELECT * FROM secret_user) SELECT * FROM x",
	} {
		rows, err := s.Query(t.Context(), refused, 0)
		if !errors.Is(err, ErrRefusedSQL) {
			t.Errorf("%q: %v", refused, err)
		}
		if rows != nil {
			_ = rows.Close()
		}
	}
	// What begins like a SELECT still cannot write.
	if rows, err := s.Query(t.Context(), "WITH x AS (SELECT 1) DELETE FROM unit_row", 0); err == nil {
		for rows.Next() {
		}
		if rows.Err() == nil {
			t.Error("a query deleted rows")
		}
		_ = rows.Close()
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a query made a file")
	}
	for sql, want := range map[string]string{
		"select count(*) from unit;":                          "1",
		"WITH x AS (SELECT 'a;b' y) SELECT y FROM x -- ; end": "a;b",
		"VALUES (1)":                             "1",
		" /* first */ SELECT name FROM \"user\"": "anna",
	} {
		if got := query(t, s, sql); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v", sql, got)
		}
	}
	if _, err := s.Query(t.Context(), "SELECT nothing FROM nowhere", 0); err == nil {
		t.Error("a mistake is not reported")
	}
	sound(t, s)
}

func TestQueryIsBounded(t *testing.T) {
	s, err := Open(t.Context(), Config{Dir: t.TempDir(), QueryTime: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
	rows, err := s.Query(t.Context(), endless+"SELECT i FROM n", 3)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if n != 3 || !rows.More() || rows.Err() != nil {
		t.Errorf("%d rows, more %v, %v", n, rows.More(), rows.Err())
	}
	if err := rows.Close(); err != nil {
		t.Error(err)
	}
	rows, err = s.Query(t.Context(), endless+"SELECT count(*) FROM n", 0)
	if err == nil {
		for rows.Next() {
		}
		err = rows.Err()
		_ = rows.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) && (err == nil || !contains(err, "query took longer")) {
		t.Errorf("an endless query: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Query(ctx, "SELECT 1", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled query: %v", err)
	}
}
