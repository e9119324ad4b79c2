package arbiter

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/trust"
)

// running is an Arbiter on a folder, until the returned function ends it.
func running(t *testing.T, dir string) (at netip.AddrPort, stop func()) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at = netip.MustParseAddrPort(ln.Addr().String())
	ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Run(ctx, Config{Dir: dir, Listen: at.String(), Version: "2", Log: slog.New(slog.DiscardHandler)})
	}()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			c.Close()
			return at, stop
		}
		if time.Now().After(end) {
			stop()
			t.Fatal(err)
		}
	}
}

func TestMasterIsApprovedByItsFingerprint(t *testing.T) {
	dir, err := os.MkdirTemp("", "arbiter") // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at, stop := running(t, dir)
	master := identity(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	call := func(op, fp string) error {
		return control.NewClient(dir).Call(ctx, op, map[string]string{"fingerprint": fp}, nil, nil)
	}
	connections := func() (c Connections) {
		t.Helper()
		if err := control.NewClient(dir).Call(ctx, "connections", nil, nil, &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	greet := func() (Contact, error) {
		return Greet(ctx, master, at, pool.Introduction{Role: "master", Name: "first"})
	}

	if c, err := greet(); err != nil || c.Trusts != "" || c.Standing != pool.Free {
		t.Fatalf("first contact %+v, %v", c, err)
	}
	if c := connections(); len(c.Contacts) != 1 || c.Contacts[0].Fingerprint != master.Fingerprint() || c.Contacts[0].Name != "first" || c.Contacts[0].Address != "127.0.0.1" || len(c.Approved) != 0 {
		t.Errorf("after a contact: %+v", c)
	}
	join := func() error {
		own, _ := connections().Fingerprint.MarshalText()
		return pool.CallMember(ctx, NewDialer(master), at, string(own), pool.MethodJoin, pool.JoinRequest{Pool: strings.Repeat("ab", 16), As: pool.Arbiter, Version: "2", Remaining: time.Minute}, nil)
	}
	var no *transport.Refusal
	if err := join(); !errors.As(err, &no) || no.Code != "not_trusted" {
		t.Errorf("joining unapproved: %v", err)
	}
	fp := master.Fingerprint().String()
	if err := call("reject", fp); err != nil {
		t.Fatal(err)
	}
	if _, err := greet(); !errors.As(err, &no) || no.Code != "rejected" {
		t.Errorf("a rejected Master: %v", err)
	}
	if err := call("approve", fp); err != nil {
		t.Fatal(err)
	}
	if c, err := greet(); err != nil || c.Trusts != "master" {
		t.Errorf("an approved Master is told %+v, %v", c, err)
	}
	if c := connections(); len(c.Contacts) != 0 || len(c.Approved) != 1 || c.Approved[0].How != trust.ByFingerprint {
		t.Errorf("after the approval: %+v", c)
	}
	if err := join(); err != nil {
		t.Errorf("joining approved: %v", err)
	}
	// Somebody else at the Master's place, with another key.
	if _, err := Greet(ctx, identity(t), at, pool.Introduction{Role: "master", Name: "second"}); err != nil {
		t.Fatal(err)
	}
	if c := connections(); len(c.Contacts) != 1 || c.Contacts[0].Instead != master.Fingerprint() {
		t.Errorf("another key than the approved one: %+v", c.Contacts)
	}
	if err := call("withdraw", fp); err != nil {
		t.Error(err)
	}
	if err := join(); !errors.As(err, &no) || no.Code != "not_trusted" {
		t.Errorf("joining after the withdrawal: %v", err)
	}
	for _, bad := range []string{"", "xyz", strings.Repeat("0", 64)} {
		if call("approve", bad) == nil || call("withdraw", bad) == nil || call("reject", bad) == nil {
			t.Errorf("%q was taken for a fingerprint", bad)
		}
	}
	stop()

	// The store of a pool without its record: nobody knows what it has voted for.
	stray := filepath.Join(dir, "pools", strings.Repeat("cd", 16))
	if err := errors.Join(os.MkdirAll(stray, 0o700), os.WriteFile(filepath.Join(stray, "raft.db"), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	at, stop = running(t, dir)
	if err := call("approve", fp); err != nil {
		t.Fatal(err)
	}
	if c, err := greet(); err != nil || c.Standing != pool.Stray {
		t.Errorf("with state of another pool it says %q, %v", c.Standing, err)
	}
	if err := join(); !errors.As(err, &no) || no.Code != "not_fresh" || !strings.Contains(no.Text, "arbiter reset") {
		t.Errorf("joining: %v", err)
	}
	stop()
	if err := Reset(dir); err != nil {
		t.Fatal(err)
	}
	at, stop = running(t, dir)
	defer stop()
	if c, err := greet(); err != nil || c.Standing != pool.Free || c.Trusts != "" {
		t.Errorf("after reset %+v, %v", c, err)
	}
}

func TestManagersFolderIsNoArbiters(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "settings.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), Config{Dir: dir, Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "Manager's data folder") {
		t.Errorf("error %v", err)
	}
}
