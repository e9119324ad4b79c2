package control

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
)

func (f *fakeManager) Logs(_ context.Context, q LogQuery, each func(LogStep) error) error {
	for _, s := range []LogStep{{Note: fmt.Sprint(q.Filter, q.Limit, q.Follow)}, {Event: json.RawMessage(`{"id":"1"}`)}} {
		if err := each(s); err != nil {
			return err
		}
	}
	return f.err
}

func TestLogsArriveOneByOne(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, ManagerOps(&fakeManager{}))
	var got []string
	err := NewRemote(dir).Logs(patience(t), LogQuery{Filter: map[string]string{"q": "x"}, Limit: 7, Follow: true}, func(s LogStep) error {
		got = append(got, s.Note+string(s.Event))
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"map[q:x] 7 true", `{"id":"1"}`}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// Who sent a command is told by the kernel, not by the command.
func TestCallerIsKnown(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, map[string]Handler{"who": func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
		p, ok := PeerOf(ctx)
		return fmt.Sprintf("%v %d %v", p, p.PID, ok), nil
	}})
	var got string
	if err := NewClient(dir).Call(patience(t), "who", nil, nil, &got); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("local command by uid %d %d true", os.Getuid(), os.Getpid()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, ok := PeerOf(t.Context()); ok {
		t.Error("somebody called where nobody did")
	}
}
