package database

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"redundancypool/fieldunit"
)

// everyCommand has each kind once, with all fields set.
func everyCommand() []Command {
	r := record("u", 7, 1000, 21.5, -1)
	r.Readings = append(r.Readings,
		fieldunit.Reading{Tag: "i", Value: fieldunit.IntValue(math.MinInt64)},
		fieldunit.Reading{Tag: "b", Value: fieldunit.BoolValue(true)},
		fieldunit.Reading{Tag: "x", Value: fieldunit.TextValue("x")},
		fieldunit.Reading{Tag: "j", Value: fieldunit.Value{Kind: fieldunit.JSON, Str: "[1]"}},
		fieldunit.Reading{Tag: "e", Error: 2014})
	plain := record("u2", 0, 0, 1)
	plain.Boot = "" // meaningless without a sequence
	bodies := []Body{
		batch(r, plain, r), UnitAdd{"u", [32]byte{1, 31: 9}}, UnitSecret{"u", [32]byte{2}}, UnitRemove{"u"},
		UserPut{"anna", "$argon2id$...", 3}, UserRemove{"anna"}, SettingPut{"k", "v"}, SettingRemove{"k"},
		EventAppend{Event{TimeMS: 5, Node: "n", Severity: "warning", Category: "pool", Code: "c", Message: "m", Cause: "why", Details: `{"a":1}`}},
		ChangeoverAppend{6, `{"kind":"takeover"}`}, Canary{}, Prune{1, 2, 3}, PoolPut{"p"},
		ReportPut{ReportDrill, "7", 6, `{"passed":true}`}, Once{"ann", "k", [32]byte{3}, 9, "", nil}, Once{"ann", "k", [32]byte{3}, 9, "{}", batch(r)},
		NoticePut{[]Notice{{"n1", 5, NoticeOpen, `{"a":1}`}, {"n2", 6, "done", "{}"}}}, SecretPut{"k", "s3cret"},
	}
	var all []Command
	for i, b := range bodies {
		all = append(all, Command{Envelope{Client: "client", Sequence: uint64(i), ProposedMS: -7}, b})
	}
	return all
}

func TestCommandsComeBackFromTheirBytes(t *testing.T) {
	for _, c := range everyCommand() {
		b, err := Encode(c)
		if err != nil {
			t.Fatalf("%T: %v", c.Body, err)
		}
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%T: got %+v, %v, want %+v", c.Body, got, err, c)
		}
	}
}

func TestDamagedCommandsAreRefused(t *testing.T) {
	for _, c := range everyCommand() {
		b, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			for bit := range 8 {
				d := append([]byte(nil), b...)
				d[i] ^= 1 << bit
				if _, err := Decode(d); !errors.Is(err, ErrChecksum) {
					t.Fatalf("%T, byte %d, bit %d: %v", c.Body, i, bit, err)
				}
			}
			if _, err := Decode(b[:i]); err == nil {
				t.Fatalf("%T cut to %d bytes is accepted", c.Body, i)
			}
		}
	}
	for name, want := range map[string]error{"\x02\x01": ErrVersion, "\x01\xff": ErrKind} {
		if _, err := Decode(seal([]byte(name + "\x00\x00\x00\x00"))); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", name, err, want)
		}
	}
}

func TestCommandsOutsideTheirRangeAreRefused(t *testing.T) {
	with := func(change func(*fieldunit.Telemetry)) Body {
		r := record("u", 1, 1, 1)
		change(&r)
		return batch(r)
	}
	for name, b := range map[string]Body{
		"no record":               batch(),
		"no reading":              batch(record("u", 1, 1)),
		"unit without a name":     with(func(r *fieldunit.Telemetry) { r.Unit = "" }),
		"unit that is not UTF-8":  with(func(r *fieldunit.Telemetry) { r.Unit = "\xff" }),
		"tag without a name":      with(func(r *fieldunit.Telemetry) { r.Readings[0].Tag = "" }),
		"NUL in a text":           with(func(r *fieldunit.Telemetry) { r.Readings[0].Value = fieldunit.TextValue("a\x00b") }),
		"sequence beyond 63 bits": with(func(r *fieldunit.Telemetry) { r.Seq = math.MaxUint64 }),
		"unknown kind of value":   with(func(r *fieldunit.Telemetry) { r.Readings[0].Value.Kind = 99 }),
		"bool of 2":               with(func(r *fieldunit.Telemetry) { r.Readings[0].Value = fieldunit.Value{Kind: fieldunit.Bool, Num: 2} }),
		"text in a number":        with(func(r *fieldunit.Telemetry) { r.Readings[0].Value.Str = "x" }),
		"text too long": with(func(r *fieldunit.Telemetry) {
			r.Readings[0].Value = fieldunit.TextValue(strings.Repeat("x", maxText+1))
		}),
		"details that are not JSON":  EventAppend{Event{Details: "{"}},
		"event with an id":           EventAppend{Event{ID: 4}},
		"changeover that is no JSON": ChangeoverAppend{JSON: "x"},
		"report without a key":       ReportPut{ReportDrill, "", 1, "{}"},
		"report of no kind":          ReportPut{9, "k", 1, "{}"},
		"report that is no JSON":     ReportPut{ReportDrill, "k", 1, "x"},
		"done once without a key":    Once{Scope: "ann"},
		"done once with no answer":   Once{Scope: "ann", Key: "k", Body: batch(record("u", 1, 1, 1))},
		"a user made once by a key":  Once{Scope: "ann", Key: "k", Answer: "{}", Body: UserPut{Name: "u"}},
		"prune of nothing":           Prune{},
		"prune of too much":          Prune{Limit: maxPrune + 1},
		"setting without a key":      SettingPut{},
		"no body":                    nil,
	} {
		if _, err := Encode(cmd(1, b)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Encode(Command{Envelope{Client: strings.Repeat("c", 65)}, Canary{}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("client too long: %v", err)
	}
}

// seal appends the checksum to bytes that Encode would not write.
func seal(b []byte) []byte {
	e := encoder{b: b}
	return e.seal()
}

func FuzzDecode(f *testing.F) {
	for _, c := range everyCommand() {
		b, err := Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[:len(b)-4])
	}
	f.Add([]byte("\x01\x01\x00\x00\x00\x00\xff\xff\xff\xff\x0f"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Decode(b)          // must not panic
		c, err := Decode(seal(b)) // past the checksum
		if err != nil {
			return
		}
		again, err := Encode(c)
		if err != nil {
			t.Fatalf("decoded, but not encodable: %v", err)
		}
		back, err := Decode(again)
		if err != nil || !sameCommand(back, c) {
			t.Fatalf("%+v became %+v, %v", c, back, err)
		}
	})
}

// sameCommand compares by bytes: not-a-number differs from itself otherwise.
func sameCommand(a, b Command) bool {
	x, errX := Encode(a)
	y, errY := Encode(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

func FuzzKeptResult(f *testing.F) {
	f.Add(packResult(&Result{Err: ErrStale, Removed: 3, More: true, Canary: -4, Records: []Outcome{Stored, Stored, Conflict}}))
	f.Add([]byte{0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := keptResult(b)
		if err != nil {
			return
		}
		again, err := keptResult(packResult(&r))
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzCheckSelect(f *testing.F) {
	f.Add("SELECT * FROM sample")
	f.Add("select 'a;b', \"x\"\"y\" /* ; */ -- ;\n;")
	f.Fuzz(func(t *testing.T, s string) { _ = checkSelect(s) })
}
