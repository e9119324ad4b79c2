package database

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"redundancypool/fieldunit"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		os.Exit(child(mode))
	}
	// Fewer rounds than rapid's 100; -rapid.checks on the command line comes later and wins.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// openStore opens a database in dir, or in a fresh folder, and closes it with the test.
func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	s, err := Open(t.Context(), Config{Dir: dir})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// entry encodes a command as log entry index of term 1.
func entry(t testing.TB, index uint64, c Command) Entry {
	t.Helper()
	data, err := Encode(c)
	if err != nil {
		t.Fatalf("encode: %v", err)
	}
	return Entry{Index: index, Term: 1, Data: data}
}

// cmd makes a command of client "c" with the sequence given.
func cmd(sequence uint64, b Body) Command {
	return Command{Envelope{Client: "c", Sequence: sequence, ProposedMS: 1_700_000_000_000 + int64(sequence)}, b}
}

// must applies commands as the entries after the stored index and returns their results.
func must(t testing.TB, s *Store, commands ...Command) []Result {
	t.Helper()
	index, _ := s.Applied()
	var entries []Entry
	for i, c := range commands {
		entries = append(entries, entry(t, index+uint64(i)+1, c))
	}
	results, err := s.Apply(context.Background(), entries)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return results
}

// record makes a telemetry with one reading per value, tags t0, t1 and so on.
func record(unit string, seq uint64, ms int64, values ...float64) fieldunit.Telemetry {
	r := fieldunit.Telemetry{Unit: unit, Boot: "b1", Seq: seq, HasSeq: seq != 0, SourceMS: ms, Node: "plc1", Group: "g1"}
	for i, v := range values {
		r.Readings = append(r.Readings, fieldunit.Reading{Tag: fmt.Sprintf("t%d", i), Value: fieldunit.FloatValue(v)})
	}
	return r
}

func batch(records ...fieldunit.Telemetry) TelemetryBatch { return TelemetryBatch{Records: records} }

// query returns the rows of a SELECT, cells joined by |.
func query(t testing.TB, s *Store, sql string) (out []string) {
	t.Helper()
	rows, err := s.Query(context.Background(), sql, 0)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	for rows.Next() {
		line := ""
		for i, v := range rows.Values() {
			if i > 0 {
				line += "|"
			}
			if v != nil {
				line += fmt.Sprint(v)
			}
		}
		out = append(out, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return out
}

// sound fails the test when the rows are not what the digest says.
func sound(t testing.TB, s *Store) {
	t.Helper()
	if _, ok, err := s.VerifyDigest(context.Background()); err != nil || !ok {
		t.Fatalf("digest of the rows: equal %v, %v", ok, err)
	}
}
