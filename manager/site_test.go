package manager_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"redundancypool/arbiter"
	"redundancypool/deploy/lab"
	"redundancypool/manager"
	"redundancypool/manager/control"
	"redundancypool/vip"
	"redundancypool/web"
)

// The test binary is also the program that runs in the hosts: SITE_RUN says which one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		if err := vip.RunGuard(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	what := os.Getenv("SITE_RUN")
	if what == "" {
		os.Exit(m.Run())
	}
	if os.Getenv("SITE_NO_NET_ADMIN") != "" {
		// Dropped from the bounding set, it is gone after the next exec (capabilities(7)).
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Unsetenv("SITE_NO_NET_ADMIN")
		fmt.Fprintln(os.Stderr, syscall.Exec("/proc/self/exe", os.Args, os.Environ()))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	syscall.Umask(0o077)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	limit, _ := time.ParseDuration(os.Getenv("SITE_LIMIT"))
	every, _ := time.ParseDuration(os.Getenv("SITE_VERIFY"))
	settle, _ := time.ParseDuration(os.Getenv("SITE_DRILL_SETTLE"))
	var err error
	switch what {
	case "manager":
		err = manager.Run(ctx, manager.Config{Dir: os.Getenv("SITE_DIR"), ConfigurationTimeout: limit, VerifyEvery: every, DrillSettle: settle, Version: os.Getenv("SITE_VERSION"), Log: log})
	case "arbiter":
		err = arbiter.Run(ctx, arbiter.Config{Dir: os.Getenv("SITE_DIR"), Version: os.Getenv("SITE_VERSION"), Log: log})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// site is three machines in one LAN, in network namespaces, with the real processes in them.
type site struct {
	t    testing.TB
	lab  *lab.Lab
	vip  netip.Prefix
	env  []string
	dirs map[string]string
}

const (
	masterHost, backupHost, arbiterHost, clientHost = "master", "backup", "arbiter", "client"
	version                                         = "test"
)

var addresses = map[string]string{masterHost: "10.78.0.1", backupHost: "10.78.0.2", arbiterHost: "10.78.0.3", clientHost: "10.78.0.4"}

// newSite builds the LAN; no process runs yet. It skips where that is not permitted.
func newSite(t testing.TB, limit time.Duration) *site {
	t.Helper()
	if testing.Short() {
		t.Skip("three machines take some seconds")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and the virtual IP need root")
	}
	s := &site{t: t, vip: netip.MustParsePrefix("10.78.0.50/24"), env: []string{"SITE_LIMIT=" + limit.String(), "SITE_VERSION=" + version}, dirs: map[string]string{}}
	var hosts []lab.HostConfig
	for _, n := range []string{masterHost, backupHost, arbiterHost, clientHost} {
		hosts = append(hosts, lab.HostConfig{Name: n, Addr: netip.MustParsePrefix(addresses[n] + "/24")})
	}
	dir, err := os.MkdirTemp("", "site") // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := lab.Open(lab.Config{Dir: filepath.Join(dir, "lab"), Hosts: hosts, Log: slog.New(slog.DiscardHandler)})
	if pe := (*lab.PrivilegeError)(nil); errors.As(err, &pe) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.lab = l
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("SITE_LOGS") != "" {
			for _, h := range l.Hosts() {
				b, _ := os.ReadFile(filepath.Join(h.Dir(), "serve.log"))
				if len(b) > 6000 {
					b = b[len(b)-6000:]
				}
				t.Logf("log of %s:\n%s", h.Name(), b)
			}
		}
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
		os.RemoveAll(dir)
	})
	return s
}

func (s *site) host(name string) *lab.Host {
	s.t.Helper()
	h, err := s.lab.Host(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

// dir is a host's data folder.
func (s *site) dir(name string) string {
	if d := s.dirs[name]; d != "" {
		return d
	}
	return filepath.Join(s.host(name).Dir(), "d")
}

// start runs the hosts' processes and waits until they answer.
func (s *site) start(names ...string) {
	s.t.Helper()
	for _, n := range names {
		what := "manager"
		if n == arbiterHost {
			what = "arbiter"
		}
		self, err := os.Executable()
		if err != nil {
			s.t.Fatal(err)
		}
		_, err = s.host(n).Start(lab.Command{Name: "serve", Path: self, Env: append([]string{"SITE_RUN=" + what, "SITE_DIR=" + s.dir(n)}, s.env...)})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	for _, n := range names {
		s.await(10*time.Second, n+" answers", func() (bool, string) {
			var v json.RawMessage
			err := control.NewClient(s.dir(n)).Status(context.Background(), &v)
			return err == nil, fmt.Sprint(err)
		})
	}
}

func (s *site) process(name string) *lab.Process {
	s.t.Helper()
	p, err := s.host(name).Process("serve")
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

func (s *site) kill(name string) {
	s.t.Helper()
	if _, err := s.process(name).Kill(); err != nil {
		s.t.Fatal(err)
	}
}

// await waits for a condition; its text says what there was instead.
func (s *site) await(d time.Duration, what string, ok func() (bool, string)) {
	s.t.Helper()
	text := ""
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var done bool
		if done, text = ok(); done {
			return
		}
	}
	s.t.Fatalf("not within %v: %s; instead: %s", d, what, text)
}

func (s *site) remote(name string) *control.Remote { return control.NewRemote(s.dir(name)) }

// status is a Manager's status; it fails the test when it takes more than two seconds.
func (s *site) status(name string) web.Redundancy {
	s.t.Helper()
	began := time.Now()
	v, err := s.remote(name).Status(s.t.Context())
	if took := time.Since(began); took > 2*time.Second {
		s.t.Errorf("status of %s took %v", name, took)
	}
	var r web.Redundancy
	if err != nil {
		r.Status = "no answer: " + err.Error()
		return r
	}
	if err := json.Unmarshal(v.(json.RawMessage), &r); err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *site) arbiterStatus() (st arbiter.Status) {
	s.t.Helper()
	if err := control.NewClient(s.dir(arbiterHost)).Status(s.t.Context(), &st); err != nil {
		s.t.Fatalf("status of the Arbiter: %v", err)
	}
	return st
}

// awaitStatus waits until a Manager says that word of itself.
func (s *site) awaitStatus(name, word string) web.Redundancy {
	s.t.Helper()
	var r web.Redundancy
	s.await(20*time.Second, name+" is "+word, func() (bool, string) {
		r = s.status(name)
		return r.Status == word, fmt.Sprintf("%s/%s %v %+v", r.Status, r.Health, r.Reasons, r.Deadline)
	})
	return r
}

func (s *site) awaitHealth(name, word string) web.Redundancy {
	s.t.Helper()
	var r web.Redundancy
	s.await(60*time.Second, name+" says "+word, func() (bool, string) {
		r = s.status(name)
		return r.Health == word, fmt.Sprintf("%s/%s %v %+v", r.Status, r.Health, r.Reasons, r.Deadline)
	})
	return r
}

func (s *site) backupForm() control.Form {
	return control.Form{Yes: true, Values: map[string]string{
		"mode": "backup", "local.address": addresses[backupHost], "peer.address": addresses[masterHost], "vip": s.vip.String(), "interface": "eth0",
	}}
}

func (s *site) masterForm(pairing, arbiterPairing string) control.Form {
	return control.Form{Yes: true, Pairing: pairing, ArbiterPairing: arbiterPairing, Values: map[string]string{
		"mode": "master", "local.address": addresses[masterHost], "peer.address": addresses[backupHost], "arbiter.address": addresses[arbiterHost],
		"vip": s.vip.String(), "interface": "eth0",
	}}
}

// set must succeed.
func (s *site) set(name string, f control.Form) {
	s.t.Helper()
	began := time.Now()
	if _, err := s.remote(name).Set(s.t.Context(), f); err != nil {
		s.t.Fatalf("set on %s: %v", name, err)
	}
	if took := time.Since(began); took > 10*time.Second {
		s.t.Errorf("set on %s took %v", name, took)
	}
}

// refused must fail, with every one of the words in its text.
func (s *site) refused(err error, words ...string) {
	s.t.Helper()
	if err == nil {
		s.t.Fatalf("was not refused; wanted %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			s.t.Errorf("refused with %q, which does not say %q", err, w)
		}
	}
}

func (s *site) token(name string) string {
	s.t.Helper()
	t, err := s.remote(name).Token(s.t.Context())
	if err != nil {
		s.t.Fatalf("token of %s: %v", name, err)
	}
	return t
}

func (s *site) arbiterToken() (text string) {
	s.t.Helper()
	if err := control.NewClient(s.dir(arbiterHost)).Call(s.t.Context(), "token", nil, nil, &text); err != nil {
		s.t.Fatal(err)
	}
	return text
}

// form sets the Backup, then the Master, and waits for Protected.
func (s *site) form() {
	s.t.Helper()
	s.set(backupHost, s.backupForm())
	s.set(masterHost, s.masterForm(s.token(backupHost), s.arbiterToken()))
	s.awaitHealth(masterHost, "protected")
	s.awaitHealth(backupHost, "protected")
}

// addUnit puts a unit into a Manager's database, as something to recognise it by.
func (s *site) addUnit(name, unit string) {
	s.t.Helper()
	s.await(10*time.Second, "unit "+unit+" is added", func() (bool, string) {
		_, err := s.remote(name).AddUnit(s.t.Context(), unit)
		return err == nil, fmt.Sprint(err)
	})
}

// units lists the units in a Manager's database.
func (s *site) units(name string) string {
	s.t.Helper()
	var out []string
	s.await(10*time.Second, "query on "+name, func() (bool, string) {
		out = nil
		err := s.remote(name).Query(s.t.Context(), "SELECT name FROM unit ORDER BY name", func([]string) error { return nil },
			func(row []any) error { out = append(out, fmt.Sprint(row[0])); return nil })
		return err == nil, fmt.Sprint(err)
	})
	return strings.Join(out, ",")
}

// owners are the hosts that have the virtual IP bound.
func (s *site) owners() string {
	s.t.Helper()
	var out []string
	for _, h := range s.lab.Hosts() {
		if !h.On() {
			continue
		}
		_ = h.Do(func() error {
			all, err := vip.LocalAddresses()
			for _, a := range all {
				if a.Address.Addr() == s.vip.Addr() {
					out = append(out, h.Name())
				}
			}
			return err
		})
	}
	return strings.Join(out, ",")
}

func (s *site) awaitOwner(want string) {
	s.t.Helper()
	s.await(10*time.Second, "the virtual IP is on "+want, func() (bool, string) { o := s.owners(); return o == want, "on " + o })
}

// reset makes a stopped Arbiter a new one.
func reset(s *site) {
	s.t.Helper()
	if err := arbiter.Reset(s.dir(arbiterHost)); err != nil {
		s.t.Fatal(err)
	}
}

// removeDir makes a stopped host a new one.
func removeDir(s *site, name string) {
	s.t.Helper()
	if err := os.RemoveAll(s.dir(name)); err != nil {
		s.t.Fatal(err)
	}
}
