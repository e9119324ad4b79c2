package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"redundancypool/manager/control"
)

const pastRecord = `{"key":"9-1","kind":"takeover","code":"silent","cause":"it fell silent","at":"2026-01-02T03:04:05Z","term":9,"from_term":8,"from":"m1","to":"m2",
"detected_ms":300,"first_write_ms":420.5,"check":{"at":"2026-01-02T03:04:15Z","lost":1,"stored_twice":0,"units":2,"records":90,"not_checkable":["plain"],"not_checkable_units":1,"findings":["u1: number 4 to 4 is missing"]},
"evidence":[{"member":"m2","role":"backup","last_heard_ms":1767323045000,"verdict":"silent"}],"awaited":["m1"]}`

func (f *fakeManager) History(_ context.Context, limit int) (any, error) {
	f.tell("history %d", limit)
	return json.RawMessage(`{"changeovers":[` + pastRecord + `]}`), f.err
}

func TestTheHistoryIsPrinted(t *testing.T) {
	f := &fakeManager{}
	var out, errs bytes.Buffer
	con := console{out: &out, err: &errs, connect: func(string) control.Manager { return f }}
	if code := run(t.Context(), []string{"redundancy", "history", "--limit", "3", "--data", "d"}, con); code != exitDone || f.told[0] != "history 3" {
		t.Fatalf("exit %d, told %q, %s", code, f.told, errs.String())
	}
	want := `2026-01-02 03:04:05.000Z  Takeover from m1 to m2, term 9: the old Primary fell silent [silent]; it fell silent
  detected 300.0 ms, first write 420.5 ms
  records: 1 lost, 0 stored twice, checked over 90 records of 2 numbered units; not checkable: 1 units (plain)
    u1: number 4 to 4 is missing
  m2  03:04:05.000 heard it for the last time
  still to be heard: m1
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	if code := run(t.Context(), []string{"redundancy", "history", "--json", "--data", "d"}, con); code != exitDone || !json.Valid(out.Bytes()) || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("exit %d, printed %s", code, out.String())
	}
}

const drillReport = `{"key":"k","by":"ann","at":"2026-01-02T03:04:05Z","ended":"2026-01-02T03:04:30Z","result":"%s","limit_ms":500,
"out":{"from":"m1","to":"m2","term":8,"gap_ms":41.5,"check":{"at":"2026-01-02T03:04:15Z","lost":0,"stored_twice":0,"units":2,"records":90}},
"back":{"from":"m2","to":"m1","term":9,"gap_ms":600,"check":null},"reasons":[{"code":"too_long","text":"it took too long"}],"steps":[]}`

func (f *fakeManager) Drill(_ context.Context, step func(control.Step) error) (any, error) {
	f.tell("drill")
	if err := step(control.Step{AtMS: 7, Text: "handing over"}); err != nil {
		return nil, err
	}
	result := "passed"
	if f.bad {
		result = "failed"
	}
	return json.RawMessage(fmt.Sprintf(drillReport, result)), f.err
}

func (f *fakeManager) SetDrill(_ context.Context, schedule string, limit int64) (control.Done, error) {
	return f.tell("drills %q %d", schedule, limit)
}

func TestADrillIsPrintedAndScheduled(t *testing.T) {
	for _, tt := range []struct {
		args      string
		bad       bool
		code      int
		out, told string
	}{
		{"", false, exitDone, "     7 ms  handing over\nm1 to m2, term 8: interrupted for 41.5 ms, 0 lost, 0 stored twice, checked over 90 records of 2 numbered units\nm2 to m1, term 9: interrupted for 600.0 ms, records not checked\npassed: both interruptions within 500 ms\n", "drill"},
		{"", true, exitRefused, "     7 ms  handing over\nm1 to m2, term 8: interrupted for 41.5 ms, 0 lost, 0 stored twice, checked over 90 records of 2 numbered units\nm2 to m1, term 9: interrupted for 600.0 ms, records not checked\n", "drill"},
		{"--schedule|sun 03:00 UTC", false, exitDone, "", `drills "sun 03:00 UTC" 0`},
		{"--limit|500ms", false, exitDone, "", `drills "" 500`},
	} {
		f := &fakeManager{bad: tt.bad}
		var out, errs bytes.Buffer
		args := []string{"redundancy", "drill", "--data", "d"}
		if tt.args != "" {
			args = append(args, strings.Split(tt.args, "|")...)
		}
		code := run(t.Context(), args, console{out: &out, err: &errs, connect: func(string) control.Manager { return f }})
		if code != tt.code || tt.out != "" && out.String() != tt.out || f.told[0] != tt.told {
			t.Errorf("%q: exit %d, told %q, printed\n%s%s", tt.args, code, f.told, out.String(), errs.String())
		}
		if tt.bad && !strings.Contains(errs.String(), "the drill failed: it took too long") {
			t.Errorf("says %q", errs.String())
		}
	}
	f := &fakeManager{}
	var out bytes.Buffer
	if code := run(t.Context(), []string{"redundancy", "drill", "--json", "--data", "d"}, console{out: &out, err: &out, connect: func(string) control.Manager { return f }}); code != exitDone || !json.Valid(out.Bytes()) {
		t.Errorf("exit %d, printed %s", code, out.String())
	}
}
