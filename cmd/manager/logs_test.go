package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
)

func (f *fakeManager) Logs(_ context.Context, q control.LogQuery, each func(control.LogStep) error) error {
	f.tell("logs %v limit=%d follow=%v", q.Filter, q.Limit, q.Follow)
	if err := each(control.LogStep{Note: "events of a1 until then"}); err != nil {
		return err
	}
	for _, m := range []string{"one", "=two\nlines"} {
		raw := json.RawMessage(fmt.Sprintf(`{"id":"x","time":"2026-01-02T03:04:05.000Z","node":"m1","severity":"error","category":"status","code":"c","message":%q,"cause":"why","from":"online","to":"primary","term":3}`, m))
		if err := each(control.LogStep{Event: raw}); err != nil {
			return err
		}
	}
	return f.err
}

func TestLogsArePrintedInEachForm(t *testing.T) {
	for _, tt := range []struct{ args, want, told string }{
		{"--since 90m --severity error", "2026-01-02T03:04:05.000Z  m1  error  status/c  one (online to primary), term 3: why\n2026-01-02T03:04:05.000Z  m1  error  status/c  =two\\nlines (online to primary), term 3: why\n",
			"logs map[severity:error since:90m] limit=200 follow=false"},
		{"--json --limit 5 --follow", "", "logs map[] limit=5 follow=true"},
		{"--csv --node m1", "time,node,severity,category,code,message,cause,from,to,term,details,id\n2026-01-02T03:04:05.000Z,m1,error,status,c,one,why,online,primary,3,,x\n2026-01-02T03:04:05.000Z,m1,error,status,c,\"'=two\nlines\",why,online,primary,3,,x\n",
			"logs map[node:m1] limit=200 follow=false"},
	} {
		f := &fakeManager{}
		var out, errs bytes.Buffer
		code := run(t.Context(), append(append([]string{"logs"}, strings.Fields(tt.args)...), "--data", "d"),
			console{out: &out, err: &errs, connect: func(string) control.Manager { return f }})
		if code != exitDone || tt.want != "" && out.String() != tt.want || len(f.told) != 1 || f.told[0] != tt.told {
			t.Errorf("%s: exit %d, told %q, printed\n%s", tt.args, code, f.told, out.String())
		}
		if !strings.Contains(errs.String(), "events of a1 until then") {
			t.Errorf("%s: nothing is said of the member that is missing: %q", tt.args, errs.String())
		}
		if strings.HasPrefix(tt.args, "--json") {
			for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
				if !json.Valid([]byte(line)) {
					t.Errorf("no JSON: %q", line)
				}
			}
		}
	}
	// Without a process, this node's own journal is read.
	dir := t.TempDir()
	j := journal.Open(journal.Config{Dir: filepath.Join(dir, "journal"), Node: "m1"})
	for _, m := range []string{"first", "second", "third"} {
		j.Append(journal.Event{Message: m, Severity: journal.Error, Category: "status", Code: "c"})
	}
	j.Append(journal.Event{Message: "not grave"})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"logs", "--severity", "error", "--limit", "2", "--data", dir}, console{out: &out, err: &errs, connect: func(dir string) control.Manager { return control.NewRemote(dir) }})
	if text := out.String(); code != exitDone || strings.Count(text, "\n") != 2 || !strings.Contains(text, "second") || !strings.HasSuffix(text, "third\n") || !strings.Contains(errs.String(), "no process is running") {
		t.Errorf("offline: exit %d, %q, %q", code, text, errs.String())
	}
	if code := run(t.Context(), []string{"logs", "--limit", "0", "--data", "d"}, console{out: &out, err: &errs}); code != exitUsage {
		t.Errorf("--limit 0: exit %d", code)
	}
}
