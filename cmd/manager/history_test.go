package main

import (
	"bytes"
	"context"
	"encoding/json"
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
