package database

import (
	"math"
	"slices"
	"testing"

	"redundancypool/fieldunit"
)

func TestTelemetryIsStoredOnce(t *testing.T) {
	untimed := func(v float64) fieldunit.Telemetry { return record("u", 0, 0, v) }
	reordered := record("u", 1, 1000, 1, 2)
	slices.Reverse(reordered.Readings)
	otherBoot := record("u", 1, 1000, 1)
	otherBoot.Boot = "b2"
	noTime := func(v float64) fieldunit.Telemetry { return record("u", 7, 0, v) }
	failed := record("u", 0, 1000, 1)
	failed.Readings[0] = fieldunit.Reading{Tag: "t0", Error: 2014}
	nan := record("u", 0, 1000, math.NaN())
	for _, row := range []struct {
		name    string
		records []fieldunit.Telemetry
		want    []Outcome
		rows    int
		events  int
	}{
		{"a new sequence is stored", []fieldunit.Telemetry{record("u", 1, 1000, 1, 2)}, []Outcome{Stored}, 2, 0},
		{"the same sequence again is a duplicate", []fieldunit.Telemetry{record("u", 1, 1000, 1), record("u", 1, 1000, 1)}, []Outcome{Stored, Duplicate}, 1, 0},
		{"readings in another order are the same content", []fieldunit.Telemetry{record("u", 1, 1000, 1, 2), reordered}, []Outcome{Stored, Duplicate}, 2, 0},
		{"a late lower sequence is new", []fieldunit.Telemetry{record("u", 2, 1000, 1), record("u", 1, 900, 2)}, []Outcome{Stored, Stored}, 2, 0},
		{"the same sequence with other content is stored too, with an event", []fieldunit.Telemetry{record("u", 1, 1000, 1), record("u", 1, 1000, 2)}, []Outcome{Stored, Conflict}, 2, 1},
		{"a conflict sent again is a duplicate", []fieldunit.Telemetry{record("u", 1, 1000, 1), record("u", 1, 1000, 2), record("u", 1, 1000, 2)}, []Outcome{Stored, Conflict, Duplicate}, 2, 1},
		{"the same sequence of another boot is another record", []fieldunit.Telemetry{record("u", 1, 1000, 1), otherBoot}, []Outcome{Stored, Stored}, 2, 0},
		{"two sequences with the same time and value are two records", []fieldunit.Telemetry{record("u", 1, 1000, 1), record("u", 2, 1000, 1)}, []Outcome{Stored, Stored}, 2, 0},
		{"a sequence without source time is recognised", []fieldunit.Telemetry{noTime(1), noTime(1)}, []Outcome{Stored, Duplicate}, 1, 0},
		{"without sequence the same value at the same time is a duplicate", []fieldunit.Telemetry{record("u", 0, 1000, 1), record("u", 0, 1000, 1)}, []Outcome{Stored, Duplicate}, 1, 0},
		{"without sequence another value at the same time is stored too, with an event", []fieldunit.Telemetry{record("u", 0, 1000, 1), record("u", 0, 1000, 2)}, []Outcome{Stored, Conflict}, 2, 1},
		{"without sequence a partly known record is completed", []fieldunit.Telemetry{record("u", 0, 1000, 1), record("u", 0, 1000, 1, 2)}, []Outcome{Stored, Stored}, 2, 0},
		{"an error and a value at the same time are two contents", []fieldunit.Telemetry{record("u", 0, 1000, 1), failed}, []Outcome{Stored, Conflict}, 2, 1},
		{"a numbered and an unnumbered record do not rival", []fieldunit.Telemetry{record("u", 1, 1000, 1), record("u", 0, 1000, 2)}, []Outcome{Stored, Stored}, 2, 0},
		{"without sequence and time everything is stored", []fieldunit.Telemetry{untimed(1), untimed(1), untimed(2)}, []Outcome{Stored, Stored, Stored}, 3, 0},
		{"not-a-number equals itself", []fieldunit.Telemetry{nan, nan}, []Outcome{Stored, Duplicate}, 1, 0},
		{"an unknown unit is not stored", []fieldunit.Telemetry{record("who", 1, 1000, 1), record("u", 1, 1000, 1)}, []Outcome{UnknownUnit, Stored}, 1, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			// The outcome may not depend on how the records are spread over entries and batches.
			for _, split := range []string{"one entry", "one batch", "many batches", "reopened between"} {
				dir := t.TempDir()
				s := openStore(t, dir)
				must(t, s, cmd(1, UnitAdd{Name: "u"}))
				var got []Outcome
				switch split {
				case "one entry":
					got = must(t, s, cmd(2, batch(row.records...)))[0].Records
				case "one batch":
					var all []Command
					for i, r := range row.records {
						all = append(all, cmd(uint64(2+i), batch(r)))
					}
					for _, r := range must(t, s, all...) {
						got = append(got, r.Records...)
					}
				default:
					for i, r := range row.records {
						if split == "reopened between" {
							if err := s.Close(); err != nil {
								t.Fatal(err)
							}
							s = openStore(t, dir)
						}
						got = append(got, must(t, s, cmd(uint64(2+i), batch(r)))[0].Records...)
					}
				}
				if !slices.Equal(got, row.want) {
					t.Errorf("%s: outcomes %v, want %v", split, got, row.want)
				}
				if n := len(query(t, s, "SELECT * FROM sample")); n != row.rows {
					t.Errorf("%s: %d rows, want %d", split, n, row.rows)
				}
				if n := len(query(t, s, "SELECT * FROM event WHERE code = 'telemetry_conflict'")); n != row.events {
					t.Errorf("%s: %d events, want %d", split, n, row.events)
				}
				sound(t, s)
			}
		})
	}
}

func TestValuesComeBackAsTheyWere(t *testing.T) {
	s := openStore(t, "")
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	values := []fieldunit.Value{
		fieldunit.BoolValue(true), fieldunit.BoolValue(false), fieldunit.IntValue(math.MinInt64), fieldunit.IntValue(7),
		fieldunit.FloatValue(21.5), fieldunit.FloatValue(3), fieldunit.FloatValue(math.Copysign(0, -1)), fieldunit.FloatValue(math.Inf(1)),
		fieldunit.FloatValue(5e-324), fieldunit.TextValue("42"), fieldunit.TextValue(""), fieldunit.TextValue("äöü|'\""),
		{Kind: fieldunit.JSON, Str: `{"a":[1,2]}`}, {},
	}
	r := record("u", 1, 1000)
	for i, v := range values {
		r.Readings = append(r.Readings, fieldunit.Reading{Tag: string(rune('a' + i)), Value: v, Error: int64(-i)})
	}
	must(t, s, cmd(2, batch(r)))
	got, err := s.Tags(t.Context(), "u")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(values) {
		t.Fatalf("%d tags, want %d", len(got), len(values))
	}
	for i, g := range got {
		if g.Value != values[i] || g.Error != int64(-i) || g.Seq != 1 || g.SourceMS != 1000 {
			t.Errorf("tag %s: %+v, want %+v", g.Tag, g, values[i])
		}
	}
	sound(t, s)
}

func TestViewsOfTheContract(t *testing.T) {
	s := openStore(t, "")
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	bad := record("u", 0, 3000, 0)
	bad.Readings[0] = fieldunit.Reading{Tag: "t1", Error: 2014}
	must(t, s, cmd(2, batch(record("u", 1, 1000, 21.5, 4), record("u", 2, 2000, 22.5), bad)))
	for sql, want := range map[string][]string{
		"SELECT unit, node, group_name, tag, source_ms, seq, value, error FROM sample ORDER BY tag, source_ms": {
			"u|plc1|g1|t0|1000|1|21.5|", "u|plc1|g1|t0|2000|2|22.5|", "u|plc1|g1|t1|1000|1|4|", "u|plc1|g1|t1|3000|||2014"},
		"SELECT unit, tag, source_ms, seq, value, error FROM tag ORDER BY tag": {"u|t0|2000|2|22.5|", "u|t1|3000|||2014"},
		"SELECT unit, tag, error FROM alarm":                                   {"u|t1|2014"},
		"SELECT name FROM unit":                                                {"u"},
		"SELECT count(*) FROM event":                                           {"0"},
	} {
		if got := query(t, s, sql); !slices.Equal(got, want) {
			t.Errorf("%s:\n%q, want\n%q", sql, got, want)
		}
	}
}
