package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redundancypool/manager"
	"redundancypool/manager/control"
)

// fakeManager prints what it is told and answers from its fields.
type fakeManager struct {
	bad     bool // a drill fails
	told    []string
	confirm []control.Question // wanted before a change goes on
	err     error
	status  string
	rows    [][]any
	verify  control.VerifyReport
}

func (f *fakeManager) tell(format string, a ...any) (control.Done, error) {
	f.told = append(f.told, fmt.Sprintf(format, a...))
	return control.Done{Message: "done"}, f.err
}

func (f *fakeManager) change(yes bool, format string, a ...any) (control.Done, error) {
	if !yes && len(f.confirm) > 0 {
		return control.Done{}, &control.Error{Code: "confirm", Message: "confirmation needed", Confirm: f.confirm}
	}
	return f.tell(format, a...)
}

func (f *fakeManager) Status(context.Context) (any, error) {
	return json.RawMessage(f.status), f.err
}
func (f *fakeManager) Verify(_ context.Context, form control.Form) (control.VerifyReport, error) {
	f.tell("verify %v", form.Values)
	return f.verify, f.err
}
func (f *fakeManager) Set(_ context.Context, form control.Form) (control.Done, error) {
	return f.change(form.Yes, "set %v pairing=%s arbiter=%s", form.Values, form.Pairing, form.ArbiterPairing)
}
func (f *fakeManager) Cancel(context.Context) (control.Done, error) { return f.tell("cancel") }
func (f *fakeManager) Leave(_ context.Context, yes bool) (control.Done, error) {
	return f.change(yes, "leave")
}
func (f *fakeManager) Activate(context.Context) (control.Done, error) { return f.tell("activate") }
func (f *fakeManager) Deactivate(_ context.Context, yes bool) (control.Done, error) {
	return f.change(yes, "deactivate")
}
func (f *fakeManager) Token(context.Context) (string, error) {
	f.tell("token")
	return "AAAAA-BBBBB", f.err
}
func (f *fakeManager) HandOver(_ context.Context, to string, step func(control.Step) error) (control.HandOverResult, error) {
	f.tell("handover %q", to)
	if err := step(control.Step{AtMS: 3, Code: "released", Text: "the Master released the Primary"}); err != nil {
		return control.HandOverResult{}, err
	}
	return control.HandOverResult{From: "master", To: "backup", Term: 8, GapMS: 12.34}, f.err
}
func (f *fakeManager) Recover(_ context.Context, yes bool) (control.Done, error) {
	return f.change(yes, "recover")
}
func (f *fakeManager) AddUnit(_ context.Context, name string) (json.RawMessage, error) {
	f.tell("unit add %s", name)
	return json.RawMessage("{\n \"name\": \"x\"}"), f.err
}
func (f *fakeManager) ListUnits(context.Context) ([]control.Unit, error) {
	return []control.Unit{{Name: "u1", Connected: true, LastSeenMS: 1000}, {Name: "u2"}}, f.err
}
func (f *fakeManager) RemoveUnit(_ context.Context, name string, yes bool) (control.Done, error) {
	return f.change(yes, "unit remove %s", name)
}
func (f *fakeManager) AddUser(_ context.Context, name, password string) (control.Done, error) {
	return f.tell("user add %s %s", name, password)
}
func (f *fakeManager) SetPassword(_ context.Context, name, password string) (control.Done, error) {
	return f.tell("user passwd %s %s", name, password)
}
func (f *fakeManager) AddToken(_ context.Context, name, scope string, days int, by string) (control.NewToken, error) {
	_, err := f.tell("api-token add %s %s %d %t", name, scope, days, by != "")
	return control.NewToken{Text: "rpt_1_x"}, err
}
func (f *fakeManager) ListTokens(context.Context) ([]control.Token, error) {
	return []control.Token{{ID: "1", Name: "n", Scope: "read", By: "ann", ExpiresMS: 86400000}}, f.err
}
func (f *fakeManager) RemoveToken(_ context.Context, id string) (control.Done, error) {
	return f.tell("api-token remove %s", id)
}
func (f *fakeManager) SaveDatabase(_ context.Context, file string) (control.Done, error) {
	return f.tell("save %s", file)
}
func (f *fakeManager) RestoreDatabase(_ context.Context, file string, yes bool) (control.Done, error) {
	return f.change(yes, "restore %s", filepath.Base(file))
}
func (f *fakeManager) Query(_ context.Context, sql string, columns func([]string) error, row func([]any) error) error {
	f.tell("query %s", sql)
	if err := columns([]string{"unit", "value"}); err != nil {
		return err
	}
	for _, r := range f.rows {
		if err := row(r); err != nil {
			return err
		}
	}
	return f.err
}

// typed runs one command line against m.
func typed(m *fakeManager, input string, terminal bool, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, console{
		in: strings.NewReader(input), out: &o, err: &e, terminal: terminal,
		connect: func(string) control.Manager { return m },
		serve: func(_ context.Context, c manager.Config) error {
			_, err := m.tell("serve %s %s %s %s %v", c.Dir, c.ListenHTTP, c.ListenHTTPS, c.PoolListen, c.ConfigurationTimeout)
			return err
		},
	})
	return code, o.String(), e.String()
}

func TestCommandsArrive(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "copy.db")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args, told string
	}{
		{"serve --listen-http 127.0.0.1:1 --listen-https :2 --pool-listen :3 --configuration-timeout 5s", "serve " + dir + " 127.0.0.1:1 :2 :3 5s"},
		{"serve", "serve " + dir + "    10m0s"},
		{"redundancy set --mode backup --local 10.0.0.2 --peer 10.0.0.1 --vip 10.0.0.50/24 --interface eth0 --yes",
			"set map[interface:eth0 local.address:10.0.0.2 mode:backup peer.address:10.0.0.1 vip:10.0.0.50/24] pairing= arbiter="},
		{"redundancy set --mode master --arbiter 10.0.0.3 --active --pairing P --arbiter-pairing A --peer-port 9 --option timing.heartbeat_period=40ms --yes",
			"set map[active:true arbiter.address:10.0.0.3 mode:master peer.port:9 timing.heartbeat_period:40ms] pairing=P arbiter=A"},
		{"redundancy set --no-active --local-second none --yes", "set map[active:false local.second:none] pairing= arbiter="},
		{"redundancy verify --mode standalone", "verify map[mode:standalone]"},
		{"redundancy cancel", "cancel"},
		{"redundancy leave --yes", "leave"},
		{"redundancy activate", "activate"},
		{"redundancy deactivate --yes", "deactivate"},
		{"redundancy token", "token"},
		{"redundancy handover", `handover ""`},
		{"redundancy handover --to backup", `handover "backup"`},
		{"redundancy recover --force-alone --yes", "recover"},
		{"unit add u1", "unit add u1"},
		{"unit remove u1 --yes", "unit remove u1"},
		{"user add ann", "user add ann secret word"},
		{"user passwd ann", "user passwd ann secret word"},
		{"api-token add script --scope operate --days 30", "api-token add script operate 30 true"},
		{"api-token add script", "api-token add script read 365 true"},
		{"api-token remove 1", "api-token remove 1"},
		{"database save " + file, "save " + file},
		{"database restore " + file + " --yes", "restore copy.db"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			m := &fakeManager{verify: control.VerifyReport{OK: true}}
			code, _, errs := typed(m, "secret word\n", false, append(strings.Fields(tt.args), "--data", dir)...)
			if code != exitDone || strings.Join(m.told, "\n") != tt.told {
				t.Errorf("exit %d, told %q, want %q\n%s", code, m.told, tt.told, errs)
			}
		})
	}
}

func TestWrongCommandLinesAreUsageErrors(t *testing.T) {
	for _, args := range []string{
		"", "explode", "status", "status --data", "status --data x --colour", "redundancy --data x",
		"redundancy set --data x", "redundancy set --data x --mode leader", "redundancy set --data x --peer-port 70000",
		"redundancy handover --data x --to arbiter", "redundancy recover --data x", "unit add --data x", "query --data x",
		"serve --data x --configuration-timeout 0s", "serve --data x --configuration-timeout soon",
		"database restore /nonexistent/file --data x",
	} {
		m := &fakeManager{}
		code, _, errs := typed(m, "", false, strings.Fields(args)...)
		if code != exitUsage || strings.Count(errs, "\n") != 1 || len(m.told) > 0 {
			t.Errorf("%q: exit %d, told %q, stderr %q", args, code, m.told, errs)
		}
	}
	if code, out, _ := typed(&fakeManager{}, "", false, "--help"); code != exitDone || !strings.Contains(out, "redundancy handover") {
		t.Errorf("--help: exit %d\n%s", code, out)
	}
}

func TestRefusalIsOneLine(t *testing.T) {
	m := &fakeManager{err: errors.Join(&control.Error{Message: "the Backup is\nnot in step", Fix: "wait"}, errors.New("more"))}
	code, out, errs := typed(m, "", false, "redundancy", "cancel", "--data", "x")
	if code != exitRefused || out != "" || errs != "manager: the Backup is; not in step: wait; more\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestConfirmation(t *testing.T) {
	const leave = "redundancy leave --data x"
	ask := []control.Question{{Code: "leave", Text: "The pool ends."}}
	word := []control.Question{{Code: "replace", Text: "The data here are replaced.", Word: "REPLACE"}}
	for _, tt := range []struct {
		name, args, input string
		terminal          bool
		confirm           []control.Question
		code              int
		done              bool
		stderr            string
	}{
		{"nothing to confirm", leave, "", false, nil, 0, true, ""},
		{"--yes asks nobody", leave + " --yes", "", false, ask, 0, true, ""},
		{"no terminal and no --yes: refused with the fix", leave, "yes\n", false, ask, 1, false, "--yes"},
		{"a person says yes", leave, "yes\n", true, ask, 0, true, "The pool ends."},
		{"a person says y", leave, "y\n", true, ask, 0, true, ""},
		{"a person says no", leave, "no\n", true, ask, 1, false, "nothing was changed"},
		{"a person just presses enter", leave, "\n", true, ask, 1, false, "nothing was changed"},
		{"the input ends", leave, "", true, ask, 1, false, "nothing was changed"},
		{"a word must be typed", leave, "REPLACE\n", true, word, 0, true, "Type REPLACE"},
		{"yes is not the word", leave, "yes\n", true, word, 1, false, "nothing was changed"},
		{"y is not the word", leave, "y\n", true, word, 1, false, "nothing was changed"},
		{"two questions, the second denied", leave, "REPLACE\nno\n", true, append(word, ask...), 1, false, "nothing was changed"},
		{"two questions, both agreed", leave, "REPLACE\nyes\n", true, append(word, ask...), 0, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &fakeManager{confirm: tt.confirm}
			code, _, errs := typed(m, tt.input, tt.terminal, strings.Fields(tt.args)...)
			if code != tt.code || (len(m.told) > 0) != tt.done || !strings.Contains(errs, tt.stderr) {
				t.Errorf("exit %d, told %q, stderr %q", code, m.told, errs)
			}
		})
	}
}

func TestPassword(t *testing.T) {
	for _, tt := range []struct {
		name, input, want string // want: the password, empty: refused
	}{
		{"a line", "secret\n", "secret"},
		{"without a line end", "secret", "secret"},
		{"with blanks", " a b \r\n", " a b "},
		{"only the first line", "first\nsecond\n", "first"},
		{"nothing", "", ""},
		{"an empty line", "\n", ""},
		{"too long", strings.Repeat("x", 300) + "\n", ""},
		{"the longest", strings.Repeat("x", 256) + "\n", strings.Repeat("x", 256)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := &fakeManager{}
			code, out, errs := typed(m, tt.input, false, "user", "add", "ann", "--data", "x")
			if tt.want == "" {
				if code != exitRefused || len(m.told) > 0 {
					t.Errorf("exit %d, told %q", code, m.told)
				}
				return
			}
			if code != exitDone || m.told[0] != "user add ann "+tt.want || strings.Contains(out+errs, tt.want) {
				t.Errorf("exit %d, told %q, shown %q", code, m.told, out+errs)
			}
		})
	}
}

const sampleStatus = `{"role":"master","status":"primary","health":"degraded","term":7,"node":"cell 1","pool":"p1",
 "vip":{"address":"10.0.0.50/24","bound":true,"interface":"eth0"},
 "members":[{"name":"cell 1","role":"master","status":"primary","address":"10.0.0.1","last_heard_ms":0,"in_step":true,"behind":0},
 {"name":"cell 2","role":"backup","status":"online","address":"10.0.0.2","last_heard_ms":12,"in_step":false,"behind":4,"position":100,"round_trip_ms":0.4,"disk_commit_ms":1.25,"clock_offset_ms":-2.5,"maintenance":true},
 {"name":"","role":"arbiter","status":"unreachable","address":"10.0.0.3","last_heard_ms":null,"in_step":null,"behind":null,"fault":"connection refused"}],
 "recovery":{"mode":"automatic","text":"the Master takes Primary back","left_ms":24000,"waits_ms":30000,"longer":false},
 "links":[{"by":"master","of":"backup","path":1,"state":"heard","heard_ms":12},{"by":"master","of":"arbiter","path":1,"state":"never","heard_ms":null},
 {"by":"backup","of":"master","path":2,"state":"silent","heard_ms":9000}],
 "field_units":3,"failover_possible":false,"reasons":[{"code":"backup_behind","text":"the Backup is behind","fix":"wait until it has caught up"}],"worst_case_takeover_ms":420,
 "deadline":{"remaining_ms":61000,"text":"then back to Standalone"},"guard_pid":123,
 "last_changeover":{"kind":"takeover","cause":"process died","at":"2026-01-02T03:04:05Z","term":7,"from":"cell 2","to":"cell 1",
 "detected_ms":4,"elected_ms":9.5,"vip_ms":12,"first_write_ms":14,"first_unit_ms":null,"all_units_ms":null,"lost":0,"stored_twice":0}}`

func TestStatusOutput(t *testing.T) {
	m := &fakeManager{status: sampleStatus}
	code, out, errs := typed(m, "", false, "status", "--data", "x")
	if code != exitDone {
		t.Fatalf("exit %d: %s", code, errs)
	}
	want := `Node           cell 1
Role           Master
Status         Primary (Running)
Pool health    Degraded: cell 1 serves, but the next fault may stop the service: the Backup is behind.
Term           7
Pool           p1
Virtual IP     10.0.0.50/24, held by this node on eth0
Field units    3 connected
Failover       would not succeed now
               the Backup is behind [backup_behind]
                 fix: wait until it has caught up
Recovery mode  automatic: the Master takes Primary back in 0:24
Deadline       1m1s left: then back to Standalone

Member   Role     Status                  Address   Heard      Database     Position  Round trip  Disk commit  Clock    Fault
cell 1   Master   Primary                 10.0.0.1  0 ms ago   in step      -         -           -            -        -
cell 2   Backup   Online, in maintenance  10.0.0.2  12 ms ago  4 behind     100       0.4 ms      1.2 ms       -2.5 ms  -
unnamed  Arbiter  Unreachable             10.0.0.3  never      stores none  -         -           -            -        connection refused

Links: Master has never heard Arbiter
       Backup last heard Master 9s ago on the second path

Last changeover: Takeover from cell 2 to cell 1 at 2026-01-02T03:04:05Z, term 7: process died
  detected          4.0 ms
  elected           9.5 ms
  virtual IP moved  12.0 ms
  first write       14.0 ms
  records lost      0
  stored twice      0
`
	if out != want {
		t.Errorf("printed\n%s\nwant\n%s", out, want)
	}
	code, out, _ = typed(m, "", false, "status", "--json", "--data", "x")
	var object map[string]any
	if code != exitDone || strings.Count(out, "\n") != 1 || json.Unmarshal([]byte(out), &object) != nil || object["term"] != 7.0 {
		t.Errorf("--json: exit %d\n%s", code, out)
	}
	m.status = `"text"`
	if code, _, errs := typed(m, "", false, "status", "--data", "x"); code != exitRefused || !strings.Contains(errs, "same version") {
		t.Errorf("a foreign answer: exit %d, %s", code, errs)
	}
}

func TestQueryOutput(t *testing.T) {
	m := &fakeManager{rows: [][]any{{"u1", json.Number("9007199254740993")}, {"a\nb", nil}}}
	if _, out, _ := typed(m, "", false, "query", "SELECT 1", "--data", "x"); out != "u1|9007199254740993\na\\nb|\n" {
		t.Errorf("plain: %q", out)
	}
	if _, out, _ := typed(m, "", false, "query", "--json", "SELECT 1", "--data", "x"); out != "{\"unit\":\"u1\",\"value\":9007199254740993}\n{\"unit\":\"a\\nb\",\"value\":null}\n" {
		t.Errorf("objects: %q", out)
	}
	m.err = errors.New("no such table: x")
	if code, out, errs := typed(m, "", false, "query", "SELECT 1", "--data", "x"); code != exitRefused || out == "" || !strings.Contains(errs, "no such table") {
		t.Errorf("a failure after rows: exit %d, %q, %q", code, out, errs)
	}
}

func TestOtherOutputs(t *testing.T) {
	m := &fakeManager{verify: control.VerifyReport{Checks: []control.Check{{Code: "vip_free", Member: "master", Result: "failed", Text: "the VIP answers", Fix: "choose another"}}}}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"redundancy token", 0, "AAAAA-BBBBB\n"},
		{"redundancy handover", 0, "     3 ms  the Master released the Primary\nbackup is Primary at term 8; no write was possible for 12.3 ms\n"},
		{"redundancy handover --json", 0, `{"from":"master","to":"backup","term":8,"gap_ms":12.34}` + "\n"},
		{"redundancy verify", 1, "fail  master  vip_free  the VIP answers: choose another\n"},
		{"redundancy verify --json", 1, `{"ok":false,"checks":[{"code":"vip_free","member":"master","result":"failed","text":"the VIP answers","fix":"choose another"}]}` + "\n"},
		{"unit add u1", 0, "{\"name\":\"x\"}\n"},
		{"unit list", 0, "Unit  State          Last seen\nu1    connected      1970-01-01T00:00:01Z\nu2    not connected  never\n"},
		{"unit list --json", 0, `{"units":[{"name":"u1","connected":true,"last_seen_ms":1000},{"name":"u2","connected":false,"last_seen_ms":0}]}` + "\n"},
	} {
		code, out, errs := typed(m, "", false, append(strings.Fields(tt.args), "--data", "x")...)
		if code != tt.code || out != tt.want {
			t.Errorf("%s: exit %d\n%q, want\n%q\n%s", tt.args, code, out, tt.want, errs)
		}
	}
}

// TestNoProcess shows what a person sees who forgot to start the Manager.
func TestNoProcess(t *testing.T) {
	dir := t.TempDir()
	var o, e bytes.Buffer
	start := time.Now()
	code := run(context.Background(), []string{"status", "--data", dir}, console{in: strings.NewReader(""), out: &o, err: &e,
		connect: func(dir string) control.Manager { return control.NewRemote(dir) }})
	if want := "manager: no process is running in " + dir + ": start it with: serve --data " + dir + "\n"; code != exitRefused || e.String() != want {
		t.Errorf("exit %d, stderr %q, want %q", code, e.String(), want)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}
