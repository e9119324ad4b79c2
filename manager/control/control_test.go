package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func serve(t *testing.T, dir string, ops map[string]Handler) *Server {
	t.Helper()
	s, err := Open(dir, ops, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// fakeManager prints what it is told to do.
type fakeManager struct {
	told []string
	err  error
}

func (f *fakeManager) tell(format string, a ...any) (Done, error) {
	f.told = append(f.told, fmt.Sprintf(format, a...))
	return Done{Message: "done"}, f.err
}

func (f *fakeManager) Status(context.Context) (any, error) {
	return map[string]any{"role": "master"}, f.err
}
func (f *fakeManager) Verify(_ context.Context, form Form) (VerifyReport, error) {
	_, err := f.tell("verify %v", form.Values)
	return VerifyReport{OK: true, Checks: []Check{{Code: "vip_free", Result: "ok"}}}, err
}
func (f *fakeManager) Set(_ context.Context, form Form) (Done, error) {
	return f.tell("set %v %s %s %t", form.Values, form.Pairing, form.ArbiterPairing, form.Yes)
}
func (f *fakeManager) Cancel(context.Context) (Done, error) { return f.tell("cancel") }
func (f *fakeManager) Leave(_ context.Context, yes bool) (Done, error) {
	return f.tell("leave %t", yes)
}
func (f *fakeManager) Activate(context.Context) (Done, error) { return f.tell("activate") }
func (f *fakeManager) Deactivate(_ context.Context, yes bool) (Done, error) {
	return f.tell("deactivate %t", yes)
}
func (f *fakeManager) Token(context.Context) (string, error) { f.tell("token"); return "ABC", f.err }
func (f *fakeManager) HandOver(_ context.Context, to string, step func(Step) error) (HandOverResult, error) {
	f.tell("handover %s", to)
	for _, s := range []Step{{AtMS: 0, Code: "checked"}, {AtMS: 12, Code: "released"}} {
		if err := step(s); err != nil {
			return HandOverResult{}, err
		}
	}
	return HandOverResult{To: to, GapMS: 12.5}, f.err
}
func (f *fakeManager) History(_ context.Context, limit int) (any, error) {
	f.tell("history %d", limit)
	return map[string]int{"n": limit}, f.err
}
func (f *fakeManager) Drill(_ context.Context, step func(Step) error) (any, error) {
	f.tell("drill")
	return map[string]int{"n": 1}, errors.Join(step(Step{AtMS: 5, Code: "out"}), f.err)
}
func (f *fakeManager) SetDrill(_ context.Context, schedule string, limit int64) (Done, error) {
	return f.tell("drills %s %d", schedule, limit)
}
func (f *fakeManager) Recover(_ context.Context, yes bool) (Done, error) {
	return f.tell("recover %t", yes)
}
func (f *fakeManager) AddUnit(_ context.Context, name string) (json.RawMessage, error) {
	f.tell("unit add %s", name)
	return json.RawMessage(`{"name":"x"}`), f.err
}
func (f *fakeManager) ListUnits(context.Context) ([]Unit, error) {
	f.tell("unit list")
	return []Unit{{Name: "u", Connected: true}}, f.err
}
func (f *fakeManager) RemoveUnit(_ context.Context, name string, yes bool) (Done, error) {
	return f.tell("unit remove %s %t", name, yes)
}
func (f *fakeManager) AddUser(_ context.Context, name, password string) (Done, error) {
	return f.tell("user add %s %s", name, password)
}
func (f *fakeManager) SetPassword(_ context.Context, name, password string) (Done, error) {
	return f.tell("user passwd %s %s", name, password)
}
func (f *fakeManager) AddToken(_ context.Context, name, scope string, days int, by string) (NewToken, error) {
	_, err := f.tell("api-token add %s %s %d %s", name, scope, days, by)
	return NewToken{Token{ID: "1", Name: name, Scope: scope}, "rpt_1_x"}, err
}
func (f *fakeManager) ListTokens(context.Context) ([]Token, error) {
	f.tell("api-token list")
	return []Token{{ID: "1", Name: "n"}}, f.err
}
func (f *fakeManager) RemoveToken(_ context.Context, id string) (Done, error) {
	return f.tell("api-token remove %s", id)
}
func (f *fakeManager) SaveDatabase(_ context.Context, file string) (Done, error) {
	return f.tell("database save %s", file)
}
func (f *fakeManager) RestoreDatabase(_ context.Context, file string, yes bool) (Done, error) {
	return f.tell("database restore %s %t", file, yes)
}
func (f *fakeManager) Query(_ context.Context, sql string, columns func([]string) error, row func([]any) error) error {
	f.tell("query %s", sql)
	if err := columns([]string{"a", "b"}); err != nil {
		return err
	}
	for _, r := range [][]any{{int64(1) << 62, nil}, {"x", 1.5}} {
		if err := row(r); err != nil {
			return err
		}
	}
	return f.err
}

func TestEveryOperationArrives(t *testing.T) {
	dir, m := t.TempDir(), &fakeManager{}
	serve(t, dir, ManagerOps(m))
	r, ctx := NewRemote(dir), patience(t)
	var steps []string
	var rows []string
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	done := func(d Done, err error) {
		t.Helper()
		must(err)
		if d.Message != "done" {
			t.Errorf("result %+v", d)
		}
	}
	form := Form{Values: map[string]string{"mode": "master"}, Pairing: "P", ArbiterPairing: "A", Yes: true}
	st, err := r.Status(ctx)
	must(err)
	if fmt.Sprintf("%s", st) != `{"role":"master"}` {
		t.Errorf("status %s", st)
	}
	v, err := r.Verify(ctx, form)
	must(err)
	if !v.OK || len(v.Checks) != 1 {
		t.Errorf("verify %+v", v)
	}
	done(r.Set(ctx, form))
	done(r.Cancel(ctx))
	done(r.Leave(ctx, true))
	done(r.Activate(ctx))
	done(r.Deactivate(ctx, false))
	token, err := r.Token(ctx)
	must(err)
	h, err := r.HandOver(ctx, "backup", func(s Step) error { steps = append(steps, s.Code); return nil })
	must(err)
	past, err := r.History(ctx, 7)
	must(err)
	if fmt.Sprintf("%s", past) != `{"n":7}` {
		t.Errorf("history %s", past)
	}
	drilled := ""
	report, err := r.Drill(ctx, func(s Step) error { drilled += s.Code; return nil })
	must(err)
	if fmt.Sprintf("%s", report) != `{"n":1}` || drilled != "out" {
		t.Errorf("drill %s, steps %q", report, drilled)
	}
	done(r.SetDrill(ctx, "off", 500))
	done(r.Recover(ctx, true))
	profile, err := r.AddUnit(ctx, "u1")
	must(err)
	units, err := r.ListUnits(ctx)
	must(err)
	done(r.RemoveUnit(ctx, "u1", true))
	done(r.AddUser(ctx, "ann", "secret word"))
	done(r.SetPassword(ctx, "ann", "other"))
	made, err := r.AddToken(ctx, "script", "read", 30, "ann")
	must(err)
	tokens, err := r.ListTokens(ctx)
	must(err)
	if made.Text != "rpt_1_x" || made.Name != "script" || len(tokens) != 1 {
		t.Errorf("made %+v, listed %+v", made, tokens)
	}
	done(r.RemoveToken(ctx, "1"))
	done(r.SaveDatabase(ctx, "/tmp/x"))
	done(r.RestoreDatabase(ctx, "/tmp/x", false))
	must(r.Query(ctx, "SELECT 1", func(c []string) error { rows = append(rows, strings.Join(c, "|")); return nil },
		func(v []any) error { rows = append(rows, fmt.Sprint(v)); return nil }))
	if token != "ABC" || h.GapMS != 12.5 || string(profile) != `{"name":"x"}` || len(units) != 1 {
		t.Errorf("token %q, hand over %+v, profile %s, units %v", token, h, profile, units)
	}
	if !slices.Equal(steps, []string{"checked", "released"}) || !slices.Equal(rows, []string{"a|b", "[4611686018427387904 <nil>]", "[x 1.5]"}) {
		t.Errorf("steps %q, rows %q", steps, rows)
	}
	want := `verify map[mode:master]
set map[mode:master] P A true
cancel
leave true
activate
deactivate false
token
handover backup
history 7
drill
drills off 500
recover true
unit add u1
unit list
unit remove u1 true
user add ann secret word
user passwd ann other
api-token add script read 30 ann
api-token list
api-token remove 1
database save /tmp/x
database restore /tmp/x false
query SELECT 1`
	if got := strings.Join(m.told, "\n"); got != want {
		t.Errorf("told\n%s\nwant\n%s", got, want)
	}
}

func TestErrorsArriveWithTheirFix(t *testing.T) {
	dir, m := t.TempDir(), &fakeManager{}
	serve(t, dir, ManagerOps(m))
	m.err = &Error{Code: "confirm", Message: "this ends the pool", Fix: "agree", Confirm: []Question{{Code: "leave", Text: "?", Word: "LEAVE"}},
		Fields: []FieldError{{Field: "vip", Message: "taken", Fix: "choose"}, {Field: "name", Message: "long", Fix: "cut"}}}
	_, err := NewRemote(dir).Leave(patience(t), false)
	var e *Error
	if !errors.As(err, &e) || e.Confirm[0].Word != "LEAVE" || e.Error() != "this ends the pool: vip: taken, choose; name: long, cut: agree" {
		t.Errorf("error %v", err)
	}
	m.err = fmt.Errorf("apply: %w", errors.New("disk full"))
	if _, err := NewRemote(dir).Cancel(patience(t)); err == nil || err.Error() != "apply: disk full" {
		t.Errorf("a plain error arrives as %v", err)
	}
}

func TestOneProcessPerFolder(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, nil)
	_, err := Open(dir, nil, slog.New(slog.DiscardHandler))
	var re *RunningError
	if !errors.As(err, &re) || re.PID != os.Getpid() || !strings.Contains(err.Error(), dir) {
		t.Errorf("second process: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, nil) // free again
}

func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{SocketName, SocketName + ".new", LockName} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("4000000\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, dir, ManagerOps(&fakeManager{}))
	if _, err := NewRemote(dir).Status(patience(t)); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(dir, SocketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
}

func TestLongFolderNameWorks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, ManagerOps(&fakeManager{}))
	if _, err := NewRemote(dir).Status(patience(t)); err != nil {
		t.Error(err)
	}
}

func TestUnreachableProcessIsExplained(t *testing.T) {
	block := make(chan struct{})
	defer close(block)
	hung := t.TempDir()
	serve(t, hung, map[string]Handler{"status": func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return nil, nil
	}})
	for _, tt := range []struct {
		name, dir, code string
	}{
		{"nothing runs there", t.TempDir(), "not_running"},
		{"no such folder", "/nonexistent/data", "no_folder"},
		{"the process hangs", hung, "no_answer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			err := NewClient(tt.dir).Status(patience(t), nil)
			var e *Error
			if !errors.As(err, &e) || e.Code != tt.code || e.Fix == "" {
				t.Errorf("error %v, want code %s", err, tt.code)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func TestUnknownOperationsAndBadRequestsAreRefused(t *testing.T) {
	dir, m := t.TempDir(), &fakeManager{}
	ops := ManagerOps(m)
	ops["panic"] = func(context.Context, json.RawMessage, func(any) error) (any, error) { panic("boom") }
	ops["odd"] = func(context.Context, json.RawMessage, func(any) error) (any, error) { return func() {}, nil }
	serve(t, dir, ops)
	c := NewClient(dir)
	for _, tt := range []struct {
		name, op string
		in       any
		code     string
	}{
		{"an unknown operation", "explode", nil, "unknown_operation"},
		{"an unknown field", "unit/add", map[string]any{"nmae": "x"}, "bad_request"},
		{"a list instead of an object", "set", []int{1}, "bad_request"},
		{"a field of the wrong kind", "handover", map[string]any{"to": 5}, "bad_request"},
		{"more than a request can be", "query", map[string]any{"sql": strings.Repeat("x", maxRequest)}, "bad_request"},
		{"an operation that panics", "panic", nil, "internal"},
		{"a result that is no JSON", "odd", nil, "internal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := c.Call(patience(t), tt.op, tt.in, nil, nil)
			var e *Error
			if !errors.As(err, &e) || e.Code != tt.code {
				t.Errorf("error %v, want code %s", err, tt.code)
			}
		})
	}
	if len(m.told) > 0 {
		t.Errorf("something was done: %q", m.told)
	}
}

func TestCallerThatLeavesEndsTheOperation(t *testing.T) {
	dir, ended := t.TempDir(), make(chan struct{})
	serve(t, dir, map[string]Handler{"wait": func(ctx context.Context, _ json.RawMessage, step func(any) error) (any, error) {
		defer close(ended)
		if err := step("begun"); err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	enough := errors.New("enough")
	err := NewClient(dir).Call(patience(t), "wait", nil, func(json.RawMessage) error { return enough }, nil)
	if !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
	<-ended
}

func TestProcessThatEndsInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir, map[string]Handler{"wait": func(ctx context.Context, _ json.RawMessage, step func(any) error) (any, error) {
		if err := step("begun"); err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, errors.New("the process is ending")
	}})
	err := NewClient(dir).Call(patience(t), "wait", nil, func(json.RawMessage) error { go s.Close(); return nil }, nil)
	if err == nil || err.Error() != "the process is ending" {
		t.Errorf("error %v", err)
	}
	if err := NewClient(dir).Call(patience(t), "wait", nil, nil, nil); err == nil {
		t.Error("answered after Close")
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"name":"x","yes":true}`))
	f.Add([]byte(`{"values":{"mode":"master"},"pairing":"x"}`))
	f.Add([]byte(`{} {}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, text []byte) {
		for op, h := range ManagerOps(&fakeManager{}) {
			_, err := h(context.Background(), text, func(any) error { return nil })
			if e := (*Error)(nil); err != nil && !errors.As(err, &e) {
				t.Errorf("%s: %v is no *Error", op, err)
			}
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte("{\"step\":1}\n{\"result\":{\"message\":\"x\"}}\n"))
	f.Add([]byte(`{"error":{"message":"m","confirm":[{"code":"c"}]}}`))
	f.Add([]byte("{\"step\":1}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var d Done
		_ = NewClient("/nonexistent").read(strings.NewReader(string(text)), "set", func(json.RawMessage) error { return nil }, &d)
	})
}
