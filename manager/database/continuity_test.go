package database

import (
	"errors"
	"strings"
	"testing"

	"redundancypool/fieldunit"
)

// A check of what a unit numbered finds what is missing and what is there twice, and says where a
// loss could not show.
func TestContinuityAroundAMark(t *testing.T) {
	plain := func(ms int64, v float64) fieldunit.Telemetry {
		r := record("plain", 0, ms, v)
		r.HasSeq, r.Boot = false, ""
		return r
	}
	other := func(seq uint64) fieldunit.Telemetry {
		r := record("u", seq, 5000, 1)
		r.Boot = "second"
		return r
	}
	for _, tt := range []struct {
		name        string
		after       []fieldunit.Telemetry
		lost, twice int64
		want        Continuity
		finding     string
	}{
		{"all is there", []fieldunit.Telemetry{record("u", 4, 1040, 4), record("u", 5, 1050, 5)}, 0, 0, Continuity{Numbered: true, Records: 5, After: 2, Before: 3}, ""},
		{"one is missing", []fieldunit.Telemetry{record("u", 5, 1050, 5)}, 1, 0, Continuity{Numbered: true, Records: 4, After: 1, Before: 3}, "u: number 4 to 4 is missing"},
		{"one came twice, with another content", []fieldunit.Telemetry{record("u", 4, 1040, 4), record("u", 4, 1041, 9)}, 0, 1, Continuity{Numbered: true, Records: 5, After: 2, Before: 3}, "u: number 4 is stored with two contents"},
		{"the last one before came again", []fieldunit.Telemetry{record("u", 3, 1031, 9), record("u", 4, 1040, 4)}, 0, 1, Continuity{Numbered: true, Records: 5, After: 1, Before: 4}, "u: number 3 is stored with two contents"},
		{"the same again is stored once", []fieldunit.Telemetry{record("u", 3, 1030, 3), record("u", 4, 1040, 4)}, 0, 0, Continuity{Numbered: true, Records: 4, After: 1, Before: 3}, ""},
		{"the unit began anew, and one of its new numbers is missing", []fieldunit.Telemetry{other(1), other(3)}, 1, 0, Continuity{Numbered: true, Records: 5, After: 2, Before: 3}, "u: number 2 to 2 is missing"},
		{"nothing came", nil, 0, 0, Continuity{Numbered: true, Records: 3, Before: 3}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := openStore(t, t.TempDir())
			must(t, s, cmd(1, UnitAdd{Name: "u"}), cmd(2, batch(record("u", 1, 1010, 1), record("u", 2, 1020, 2), record("u", 3, 1030, 3))))
			marks, err := s.Marks(t.Context())
			if err != nil || len(marks) != 1 || !marks[0].Numbered() || marks[0].LastSeq != 3 {
				t.Fatal(marks, err)
			}
			if len(tt.after) > 0 {
				must(t, s, cmd(3, batch(tt.after...)))
			}
			c, err := s.Continuity(t.Context(), marks[0], 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			if c.Lost != tt.lost || c.Twice != tt.twice || strings.Join(c.Findings, ";") != tt.finding {
				t.Errorf("lost %d, twice %d, %q; want %d, %d, %q", c.Lost, c.Twice, c.Findings, tt.lost, tt.twice, tt.finding)
			}
			c.Lost, c.Twice, c.Findings = 0, 0, nil
			if c.Numbered != tt.want.Numbered || c.Records != tt.want.Records || c.After != tt.want.After || c.Before != tt.want.Before {
				t.Errorf("%+v, want %+v", c, tt.want)
			}
		})
	}
	s := openStore(t, t.TempDir())
	must(t, s, cmd(1, UnitAdd{Name: "plain"}), cmd(2, batch(plain(1000, 1))))
	marks, err := s.Marks(t.Context())
	if err != nil || marks[0].Numbered() {
		t.Fatal(marks, err)
	}
	must(t, s, cmd(3, batch(plain(2000, 1), plain(2000, 2))))
	c, err := s.Continuity(t.Context(), marks[0], 0, 1000)
	if err != nil || c.Numbered || c.Lost != 0 || c.Twice != 1 || c.Records != 2 {
		t.Errorf("without numbers: %+v, %v", c, err)
	}
}

func TestAReportIsReplacedUnderItsKey(t *testing.T) {
	s := openStore(t, t.TempDir())
	must(t, s, cmd(1, ChangeoverAppend{1, `{"n":0}`}), cmd(2, ReportPut{ReportChangeover, "7", 2, `{"n":1}`}),
		cmd(3, ReportPut{ReportChangeover, "8", 3, `{"n":2}`}), cmd(4, ReportPut{ReportChangeover, "7", 2, `{"n":3}`}), cmd(5, ReportPut{ReportDrill, "7", 2, `{"n":4}`}))
	all, err := s.Reports(t.Context(), ReportChangeover, 0)
	if err != nil || len(all) != 3 || all[0].JSON != `{"n":2}` || all[1].JSON != `{"n":3}` || all[2].Key != "" {
		t.Errorf("%+v, %v", all, err)
	}
	if drills, err := s.Reports(t.Context(), ReportDrill, 1); err != nil || len(drills) != 1 || drills[0].JSON != `{"n":4}` {
		t.Errorf("%+v, %v", drills, err)
	}
	if _, ok, err := s.VerifyDigest(t.Context()); err != nil || !ok {
		t.Errorf("digest: %t, %v", ok, err)
	}
}

// A request with a key is done once, whoever sends it again; another request under the same key is
// refused, and a key is free again when its time is over.
func TestARequestWithAKeyIsDoneOnce(t *testing.T) {
	s := openStore(t, t.TempDir())
	at := func(seq uint64, ms int64, b Body) Command {
		return Command{Envelope{Client: "c", Sequence: seq, ProposedMS: ms}, b}
	}
	once := func(sum byte, expires int64, answer string, records ...fieldunit.Telemetry) Once {
		b := Once{"unit u", "k1", [32]byte{sum}, expires, answer, nil}
		if len(records) > 0 {
			b.Body = batch(records...)
		}
		return b
	}
	must(t, s, at(1, 0, UnitAdd{Name: "u"}))
	first := must(t, s, at(2, 10, once(1, 100, "stored", record("u", 1, 1000, 1))))[0]
	if first.Repeat || first.Count(Stored) != 1 {
		t.Errorf("the first time: %+v", first)
	}
	if again := must(t, s, at(3, 20, once(1, 120, "stored", record("u", 1, 1000, 1))))[0]; !again.Repeat || len(again.Records) != 0 {
		t.Errorf("again: %+v", again)
	}
	if k, err := s.Kept(t.Context(), "unit u", "k1"); err != nil || k.Answer != "stored" || k.ExpiresMS != 100 {
		t.Errorf("kept: %+v, %v", k, err)
	}
	apply := func(c Command) Result {
		t.Helper()
		b, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		index, term := s.Applied()
		res, err := s.Apply(t.Context(), []Entry{{Index: index + 1, Term: term, Data: b}})
		if err != nil {
			t.Fatal(err)
		}
		return res[0]
	}
	if other := apply(at(4, 30, once(2, 130, "stored", record("u", 2, 1000, 1)))); !errors.Is(other.Err, ErrKeyReused) {
		t.Errorf("another request under the same key: %+v", other)
	}
	if late := must(t, s, at(5, 100, once(2, 200, "stored", record("u", 2, 1000, 1))))[0]; late.Repeat || late.Count(Stored) != 1 {
		t.Errorf("after its time: %+v", late)
	}
	foreign := Once{"unit u", "k2", [32]byte{1}, 300, "stored", batch(record("nobody", 1, 1, 1))}
	must(t, s, at(6, 110, foreign))
	if _, err := s.Kept(t.Context(), "unit u", "k2"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what was refused is kept: %v", err)
	}
	// Begun first, answered later: the way of what is no command of the database.
	must(t, s, at(7, 120, Once{Scope: "ann", Key: "k", ExpiresMS: 900}))
	if r := must(t, s, at(8, 121, Once{Scope: "ann", Key: "k", ExpiresMS: 900}))[0]; !r.Repeat {
		t.Errorf("begun twice: %+v", r)
	}
	if r := must(t, s, at(9, 122, Once{Scope: "ann", Key: "k", ExpiresMS: 900, Answer: "done"}))[0]; r.Repeat {
		t.Errorf("the answer to what was begun: %+v", r)
	}
	if k, err := s.Kept(t.Context(), "ann", "k"); err != nil || k.Answer != "done" {
		t.Errorf("kept: %+v, %v", k, err)
	}
	if _, ok, err := s.VerifyDigest(t.Context()); err != nil || !ok {
		t.Errorf("digest: %t, %v", ok, err)
	}
}
