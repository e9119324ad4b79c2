package control_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"redundancypool/deploy/lab/control"
)

func serve(t *testing.T, handle control.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "control.sock")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, path, handle) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return path
		}
		if time.Now().After(deadline) {
			t.Fatal("the socket does not appear within 20 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestOrderIsCarriedOutAndAnswered(t *testing.T) {
	path := serve(t, func(_ context.Context, o control.Order, say func(string)) error {
		if o.Verb == "fail" {
			return errors.New("refused: try heal first")
		}
		say(o.Verb + " " + o.Host + " " + o.Options["loss"])
		say("second line")
		return nil
	})
	var out bytes.Buffer
	err := control.Send(context.Background(), path, control.Order{Verb: "impair", Host: "master", Options: map[string]string{"loss": "0.1"}}, &out)
	if err != nil || out.String() != "impair master 0.1\nsecond line\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	err = control.Send(context.Background(), path, control.Order{Verb: "fail"}, &out)
	if err == nil || err.Error() != "refused: try heal first" {
		t.Errorf("got %v, want the order's own error", err)
	}
}

func TestBadOrderIsRefusedWithTheReason(t *testing.T) {
	path := serve(t, func(context.Context, control.Order, func(string)) error { return nil })
	for _, bad := range []string{"{\n", `{"verb":"kill","nonsense":1}` + "\n", `[]` + "\n"} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(bad)); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.UnixConn).CloseWrite()
		buf := make([]byte, 512)
		n, _ := conn.Read(buf)
		if !strings.Contains(string(buf[:n]), "not understood") {
			t.Errorf("order %q: got %q", bad, buf[:n])
		}
		conn.Close()
	}
}

func TestNoLabIsSaidPlainly(t *testing.T) {
	err := control.Send(context.Background(), filepath.Join(t.TempDir(), "control.sock"), control.Order{Verb: "status"}, &bytes.Buffer{})
	if !errors.Is(err, control.ErrNoLab) {
		t.Errorf("got %v, want ErrNoLab", err)
	}
}

func TestClientMayGoAway(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // after the server has ended
	started, release := make(chan struct{}), make(chan struct{})
	path := serve(t, func(_ context.Context, _ control.Order, say func(string)) error {
		close(started)
		<-release
		say("too late")
		return nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 1)
	go func() {
		errs <- control.Send(ctx, path, control.Order{Verb: "slow"}, &bytes.Buffer{})
	}()
	<-started
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's end", err)
	}
	close(release)
}
