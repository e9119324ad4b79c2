package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
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

func mustSync(t *testing.T, j *Journal) {
	t.Helper()
	if err := j.Sync(patience(t)); err != nil {
		t.Fatal(err)
	}
}

func messages(events []Event) string {
	var text []string
	for _, e := range events {
		text = append(text, e.Message)
	}
	return strings.Join(text, " ")
}

func TestEventsSurviveARestart(t *testing.T) {
	cfg := Config{Dir: filepath.Join(t.TempDir(), "journal"), Node: "n1"}
	j := Open(cfg)
	j.Append(Event{Message: "a", Category: "status", From: "online", To: "primary", Term: 7, Details: map[string]any{"evidence": "redial refused"}})
	j.Append(Event{Message: "b", Severity: Error})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = Open(cfg)
	defer j.Close()
	j.Append(Event{Message: "c"})
	got := j.Recent(10, Filter{})
	if messages(got) != "a b c" || got[2].Seq != 3 || got[0].Term != 7 || got[0].Details["evidence"] != "redial refused" {
		t.Errorf("got %+v", got)
	}
	if got[0].Node != "n1" || got[0].Severity != Info || got[0].TimeMS == 0 {
		t.Errorf("not filled in: %+v", got[0])
	}
}

func TestRecentFilters(t *testing.T) {
	j := Open(Config{Dir: t.TempDir()})
	defer j.Close()
	j.Append(Event{Message: "old", TimeMS: 5, Category: "vip"})
	j.Append(Event{Message: "vip", Category: "vip", Code: "stranger", Severity: Warning})
	j.Append(Event{Message: "unit", Category: "unit"})
	for _, tt := range []struct {
		name string
		n    int
		f    Filter
		want string
	}{
		{"all", 10, Filter{}, "old vip unit"},
		{"the newest two, oldest first", 2, Filter{}, "vip unit"},
		{"by category", 10, Filter{Categories: []string{"vip"}}, "old vip"},
		{"by code", 10, Filter{Code: "stranger"}, "vip"},
		{"by severity", 10, Filter{AtLeast: Warning}, "vip"},
		{"since a moment", 10, Filter{SinceMS: 6}, "vip unit"},
		{"none asked for", 0, Filter{}, ""},
	} {
		if got := messages(j.Recent(tt.n, tt.f)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestFollowSeesWhatComesLater(t *testing.T) {
	j := Open(Config{Dir: t.TempDir()})
	defer j.Close()
	j.Append(Event{Message: "before"})
	seen := make(chan Event)
	ctx, cancel := context.WithCancel(patience(t))
	var done sync.WaitGroup
	done.Go(func() {
		defer close(seen)
		for e := range j.Follow(ctx, 0, Filter{AtLeast: Warning}) {
			seen <- e
		}
	})
	j.Append(Event{Message: "one", Severity: Warning})
	if e := <-seen; e.Message != "one" {
		t.Errorf("saw %+v", e)
	}
	j.Append(Event{Message: "ignored"})
	j.Append(Event{Message: "two", Severity: Warning})
	if e := <-seen; e.Message != "two" || e.Seq != 4 {
		t.Errorf("saw %+v", e)
	}
	cancel()
	done.Wait()
}

func TestMemoryAndDiskAreBounded(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), MaxBytes: leastMaxBytes, Keep: 50}
	j := Open(cfg)
	for i := range 2000 {
		j.Append(Event{Message: fmt.Sprint(i), Cause: strings.Repeat("x", 200)})
		if i%25 == 0 {
			mustSync(t, j)
		}
	}
	if n := len(j.Recent(1000, Filter{})); n > 50 || n < 40 {
		t.Errorf("%d events in memory, want about 50", n)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	var bytes int64
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	if len(entries) > parts || bytes > leastMaxBytes*3/2 || bytes < leastMaxBytes/2 {
		t.Errorf("%d files, %d bytes on disk, limit %d", len(entries), bytes, leastMaxBytes)
	}
	cfg.Keep = 10000
	j = Open(cfg)
	defer j.Close()
	kept := j.Recent(10000, Filter{})
	if kept[len(kept)-1].Message != "1999" || kept[0].Message == "0" {
		t.Errorf("kept %s to %s: the oldest must go, the newest must stay", kept[0].Message, kept[len(kept)-1].Message)
	}
}

// fakeDisk is a disk that a test breaks and mends.
type fakeDisk struct {
	mu      sync.Mutex
	err     error
	hang    chan struct{} // blocks append until closed
	stored  []Event
	refused chan struct{} // gets one value per refusal, when there is room
}

func (d *fakeDisk) append(events []Event) error {
	if d.hang != nil {
		<-d.hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		select {
		case d.refused <- struct{}{}:
		default:
		}
		return d.err
	}
	d.stored = append(d.stored, events...)
	return nil
}

func (d *fakeDisk) close() {}

func TestDiskThatRefusesIsTriedAgain(t *testing.T) {
	full := errors.New("no space left on device")
	d := &fakeDisk{err: full, refused: make(chan struct{}, 1)}
	j := start(Config{Keep: 20}, d, nil, nil)
	defer j.Close()
	for i := range 30 { // more than memory holds
		j.Append(Event{Message: fmt.Sprint(i)})
	}
	<-d.refused
	if n := len(j.Recent(100, Filter{})); n < 15 {
		t.Errorf("only %d events readable", n)
	}
	waitFor(t, func() bool { return errors.Is(j.Err(), full) })
	d.mu.Lock()
	d.err = nil
	d.mu.Unlock()
	mustSync(t, j)
	d.mu.Lock()
	last := d.stored[len(d.stored)-1].Message
	count := len(d.stored)
	d.mu.Unlock()
	if last != "29" || j.Err() != nil || int(j.Skipped())+count != 30 {
		t.Errorf("last on disk %s, error %v, %d stored + %d skipped of 30", last, j.Err(), count, j.Skipped())
	}
}

func TestHungDiskBlocksNobody(t *testing.T) {
	d := &fakeDisk{hang: make(chan struct{})}
	j := start(Config{Keep: 100}, d, nil, nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			j.Append(Event{Message: "x"})
		}
	}()
	select {
	case <-done:
	case <-patience(t).Done():
		t.Fatal("Append waits for the disk")
	}
	if err := j.Close(); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("close: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	close(d.hang)
	<-j.done
}

func TestFolderThatCannotBeUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	j := Open(Config{Dir: path})
	defer j.Close()
	if j.Err() == nil {
		t.Error("no error tells that the disk is not used")
	}
	j.Append(Event{Message: "still here"})
	if got := messages(j.Recent(1, Filter{})); got != "still here" {
		t.Errorf("got %q", got)
	}
}

func TestDamagedFileLosesOnlyTheDamagedLines(t *testing.T) {
	cfg := Config{Dir: t.TempDir()}
	j := Open(cfg)
	j.Append(Event{Message: "a"})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(cfg.Dir, "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	f, err := os.OpenFile(names[0], os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(f, "\x00\x00\n%s\n{\"seq\":2,\"mess", strings.Repeat("y", 2*maxLine)) // zeros after a power cut, an endless line, half a line
	f.Close()
	j = Open(cfg)
	j.Append(Event{Message: "b"})
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = Open(cfg)
	defer j.Close()
	if got := messages(j.Recent(10, Filter{})); got != "a b" {
		t.Errorf("got %q, want \"a b\"", got)
	}
}

func TestUnwritableDetailsAreReplaced(t *testing.T) {
	for name, details := range map[string]map[string]any{
		"not writable": {"f": func() {}},
		"too large":    {"text": strings.Repeat("z", maxLine)},
	} {
		events := decode(strings.NewReader(string(encode(Event{Seq: 1, Message: strings.Repeat("m", maxLine), Details: details}))))
		if len(events) != 1 || events[0].Details["omitted"] == nil {
			t.Errorf("%s: %d events", name, len(events))
		}
	}
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	ctx := patience(t)
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatal("it did not happen in time")
		case <-time.After(time.Millisecond):
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(string(encode(Event{Seq: 1, TimeMS: 2, Node: "n", Message: "m", Details: map[string]any{"a": 1}})))
	f.Add("\n\n{\"seq\":3}\n{")
	f.Add(strings.Repeat("x", maxLine+5) + "\n{\"seq\":3}\n")
	f.Fuzz(func(t *testing.T, text string) {
		var last uint64
		for _, e := range inOrder(decode(strings.NewReader(text))) {
			if e.Seq <= last {
				t.Errorf("events out of order: %d after %d", e.Seq, last)
			}
			last = e.Seq
		}
	})
}
