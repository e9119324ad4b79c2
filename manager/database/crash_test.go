package database

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"redundancypool/fieldunit"
)

// childEnv makes the test binary a writer that the test kills: "apply DIR" or "replace DIR".
const childEnv = "DATABASE_TEST_CHILD"

func child(mode string) int {
	what, dir, _ := strings.Cut(mode, " ")
	ctx := context.Background()
	s, err := Open(ctx, Config{Dir: dir, CheckpointBytes: 1 << 14})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("ready")
	for n := uint64(0); ; n++ {
		if what == "replace" {
			err = childReplace(ctx, s)
		} else {
			err = childApply(ctx, s)
		}
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		index, _ := s.Applied()
		fmt.Printf("at %d \n", index)
	}
}

// crashEntry is what stands at an index in the crash tests, the same in every run.
func crashEntry(index uint64) (Entry, error) {
	c := Command{Envelope{Client: "c", Sequence: index, ProposedMS: int64(index)}, UnitAdd{Name: "u"}}
	if index > 1 {
		var records []fieldunit.Telemetry
		for i := range uint64(20) {
			records = append(records, record("u", index*20+i, int64(index*20+i), float64(index), 2, 3))
		}
		c.Body = batch(records...)
	}
	data, err := Encode(c)
	return Entry{Index: index, Term: 1, Data: data}, err
}

func childApply(ctx context.Context, s *Store) error {
	index, _ := s.Applied()
	var entries []Entry
	for i := range uint64(5) {
		e, err := crashEntry(index + 1 + i)
		if err != nil {
			return err
		}
		entries = append(entries, e)
	}
	_, err := s.Apply(ctx, entries)
	return err
}

// childReplace takes its own content in as a copy, one entry further each time.
func childReplace(ctx context.Context, s *Store) error {
	if err := childApply(ctx, s); err != nil {
		return err
	}
	v, err := s.View(ctx)
	if err != nil {
		return err
	}
	in, err := s.Incoming(ctx)
	if err != nil {
		return err
	}
	b := make([]byte, 1<<16)
	for {
		n, err := v.Read(b)
		if n > 0 {
			if _, err := in.Write(b[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			break
		}
	}
	if err := v.Close(); err != nil {
		return err
	}
	if err := in.Commit(Copy{Index: v.Index, Term: v.Term, Size: v.Size}); err != nil {
		return err
	}
	return s.Replace(ctx)
}

// runChild starts a child, kills it with SIGKILL after d and returns what it said last.
func runChild(t *testing.T, mode string, d time.Duration) (at uint64) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+mode)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			if number, ok := strings.CutPrefix(sc.Text(), "at "); ok {
				number, whole := strings.CutSuffix(number, " ") // the last line may be cut
				if n, err := strconv.ParseUint(number, 10, 64); whole && err == nil {
					at = n
				}
				continue
			}
			lines <- sc.Text()
		}
	}()
	if first := <-lines; first != "ready" {
		_ = c.Process.Kill()
		t.Fatalf("child said %q", first)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case line := <-lines:
		t.Errorf("child said %q", line)
	case <-timer.C:
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for line := range lines {
		t.Errorf("child said %q", line)
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) {
		t.Fatalf("child ended with %v", err)
	}
	return at
}

func TestContentSurvivesKillAtAnyMoment(t *testing.T) {
	for _, mode := range []string{"apply", "replace"} {
		t.Run(mode, func(t *testing.T) {
			dir := t.TempDir()
			at := uint64(0)
			for round := range 12 {
				at = max(at, runChild(t, mode+" "+dir, time.Duration(7+13*round)*time.Millisecond))
				s := openStore(t, dir)
				index, _ := s.Applied()
				if index < at {
					t.Fatalf("round %d: index %d, the child was told %d", round, index, at)
				}
				sound(t, s)
				if _, ok, err := s.Pending(); ok || err != nil {
					t.Fatalf("round %d: pending %v %v", round, ok, err)
				}
				// Another node that applied the same entries has the same content.
				if round%4 == 3 && index > 0 {
					other := openStore(t, "")
					for i := uint64(1); i <= index; i++ {
						e, err := crashEntry(i)
						if err != nil {
							t.Fatal(err)
						}
						if _, err := other.Apply(t.Context(), []Entry{e}); err != nil {
							t.Fatal(err)
						}
					}
					same(t, s, other)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if at == 0 {
				t.Fatal("the child never applied anything")
			}
		})
	}
}
