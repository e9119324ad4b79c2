package manager_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redundancypool/deploy/lab"
)

// fails runs a Manager or Arbiter that must refuse to start, with all of the words in the last line it says.
func (s *site) fails(name string, words ...string) {
	s.t.Helper()
	what := "manager"
	if name == arbiterHost {
		what = "arbiter"
	}
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 15*time.Second)
	defer cancel()
	_, err = s.host(name).Output(ctx, lab.Command{Name: "refused", Path: self, Env: append([]string{"SITE_RUN=" + what, "SITE_DIR=" + s.dir(name)}, s.env...)})
	if ctx.Err() != nil {
		s.t.Errorf("%s started, and ran on; wanted it to fail with %q", name, words)
		return
	}
	s.refused(err, words...)
}

// A folder that cannot be used is an error that names the file and says what to do; nothing is
// overwritten.
func TestDamagedAndForeignFoldersAreRefused(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	s.fails(masterHost, "in use by the running process")
	s.fails(arbiterHost, "in use by the running process")
	if err := s.process(masterHost).Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := s.process(arbiterHost).Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	pools, err := filepath.Glob(filepath.Join(s.dir(arbiterHost), "pools", "*"))
	if err != nil || len(pools) != 1 {
		t.Fatalf("the Arbiter's pools: %v, %v", pools, err)
	}
	inPool, err := filepath.Rel(s.dir(arbiterHost), pools[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct{ host, file string }{
		{masterHost, "settings.toml"}, {masterHost, "progress.json"}, {masterHost, "pool/pool.json"}, {masterHost, "pool/raft.db"}, {masterHost, "database/manager.db"},
		{masterHost, "node.key"}, {masterHost, "trust.json"}, {arbiterHost, inPool + "/pool.json"}, {arbiterHost, inPool + "/raft.db"},
	} {
		path := filepath.Join(s.dir(d.host), d.file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := append([]byte("\x00damage\xff"), make([]byte, len(whole)/2)...)
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s.fails(d.host, filepath.Dir(path), filepath.Base(path))
		if now, err := os.ReadFile(path); err != nil || len(now) != len(damaged) {
			t.Errorf("%s was changed although it was refused (%v)", path, err)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The log gone, with the record still there: voting from an empty one could elect wrongly.
	gone := filepath.Join(s.dir(masterHost), "pool", "raft.db")
	if err := os.Rename(gone, gone+".away"); err != nil {
		t.Fatal(err)
	}
	s.fails(masterHost, "Raft store is gone")
	if err := os.Rename(gone+".away", gone); err != nil {
		t.Fatal(err)
	}
	s.start(masterHost, arbiterHost)
	s.awaitHealth(backupHost, "protected")
}

// Without the right to bind an address a Manager works, and is refused as a member of a pool.
func TestManagerWithoutNetAdminIsRefusedInAPool(t *testing.T) {
	s := newSite(t, time.Minute)
	s.env = append(s.env, "SITE_NO_NET_ADMIN=1")
	s.start(backupHost)
	s.addUnit(backupHost, "of-backup")
	_, err := s.remote(backupHost).Set(t.Context(), s.backupForm())
	s.refused(err, "CAP_NET_ADMIN")
	s.awaitStatus(backupHost, "standalone")
	s.fails(backupHost, "in use by the running process")
}

// A port that another program has is named; the field units' port alone does not keep a Manager from
// starting, but says so.
func TestPortsInUseAreNamed(t *testing.T) {
	s := newSite(t, time.Minute)
	listen := func(addr string) (ln net.Listener) {
		t.Helper()
		err := s.host(masterHost).Do(func() (err error) { ln, err = net.Listen("tcp", addr); return err })
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	for _, tt := range []struct{ addr, fix string }{{":8099", "--pool-listen"}, {":8443", "8443"}, {"127.0.0.1:8080", "8080"}} {
		ln := listen(tt.addr)
		s.fails(masterHost, tt.addr, "in use", tt.fix)
		ln.Close()
	}
	ln := listen(":8883")
	s.start(masterHost)
	s.await(10*time.Second, "the status names the port", func() (bool, string) {
		text := ""
		for _, r := range s.status(masterHost).Reasons {
			text += r.Text + "; "
		}
		return strings.Contains(text, "8883"), text
	})
	ln.Close()
	s.addUnit(masterHost, "u") // works as soon as the port is free
}
