package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
)

// typed runs one command line; input is what stands at standard input.
func typed(input string, terminal bool, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, console{in: strings.NewReader(input), out: &o, err: &e, terminal: terminal,
		serve: func(_ context.Context, c arbiter.Config) error {
			return errors.New("served " + c.Dir + " on " + c.Listen)
		}})
	return code, o.String(), e.String()
}

// serving answers on a folder like a running Arbiter.
func serving(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s, err := control.Open(dir, map[string]control.Handler{
		"token": func(context.Context, json.RawMessage, func(any) error) (any, error) { return "AAAAA-BBBBB", nil },
		"status": func(context.Context, json.RawMessage, func(any) error) (any, error) {
			pool := "p1"
			return arbiter.Status{Node: "a", Pool: &pool, Term: 7, LastIndex: 41, BytesOnDisk: 1000,
				Members: []arbiter.StatusMember{{Name: "m", Address: "10.0.0.1:8099", LastHeardMS: 12}, {Name: "b", LastHeardMS: -1}}}, nil
		},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return dir
}

func TestServe(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := typed("", false, "serve", "--data", dir, "--listen", ":9"); code != exitRefused || errs != "arbiter: served "+dir+" on :9\n" {
		t.Errorf("exit %d, %q", code, errs)
	}
}

func TestWrongCommandLinesAreUsageErrors(t *testing.T) {
	for _, args := range []string{"", "serve", "vote --data x", "status --data x --colour", "serve --data x --log-level loud"} {
		if code, _, errs := typed("", false, strings.Fields(args)...); code != exitUsage || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: exit %d, %q", args, code, errs)
		}
	}
}

func TestTokenAndStatus(t *testing.T) {
	dir := serving(t)
	if code, out, errs := typed("", false, "token", "--data", dir); code != exitDone || out != "AAAAA-BBBBB\n" {
		t.Errorf("token: exit %d, %q, %s", code, out, errs)
	}
	code, out, errs := typed("", false, "status", "--json", "--data", dir)
	var object map[string]any
	if code != exitDone || json.Unmarshal([]byte(out), &object) != nil || object["last_index"] != 41.0 {
		t.Errorf("status --json: exit %d, %s, %s", code, out, errs)
	}
	_, out, _ = typed("", false, "status", "--data", dir)
	for _, want := range []string{"Pool           p1", "Last index     41", "12ms ago", "never"} {
		if !strings.Contains(out, want) {
			t.Errorf("status lacks %q:\n%s", want, out)
		}
	}
	if code, _, errs := typed("", false, "status", "--data", t.TempDir()); code != exitRefused || !strings.Contains(errs, "start it with") {
		t.Errorf("nothing runs: exit %d, %s", code, errs)
	}
}

func TestReset(t *testing.T) {
	for _, tt := range []struct {
		name, args, input string
		terminal          bool
		code              int
		stderr            string
	}{
		{"no terminal and no --yes", "", "reset\n", false, exitRefused, "--yes"},
		{"a person types something else", "", "yes\n", true, exitRefused, "nothing was changed"},
		{"a person agrees", "", "reset\n", true, exitDone, ""},
		{"--yes", "--yes", "", false, exitDone, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			key := filepath.Join(dir, "node.key")
			if err := os.WriteFile(key, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			code, _, errs := typed(tt.input, tt.terminal, append(strings.Fields("reset --data "+dir), strings.Fields(tt.args)...)...)
			_, err := os.Stat(key)
			if code != tt.code || !strings.Contains(errs, tt.stderr) || errors.Is(err, os.ErrNotExist) != (tt.code == exitDone) {
				t.Errorf("exit %d, stderr %q, key: %v", code, errs, err)
			}
		})
	}
	t.Run("a running Arbiter is refused", func(t *testing.T) {
		if code, _, errs := typed("", false, "reset", "--yes", "--data", serving(t)); code != exitRefused || !strings.Contains(errs, "running") {
			t.Errorf("exit %d, %s", code, errs)
		}
	})
}
