package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"redundancypool/fieldunit"
	"redundancypool/fieldunit/broker"
)

// TestMain lets the test binary stand in for the command, so that it can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("FIELDUNIT_AS_COMMAND") == "1" {
		main()
	}
	os.Exit(m.Run())
}

// database records for the tests; every secret but "secret" is wrong.
type database struct {
	mu   sync.Mutex
	keys map[string]int
	list []fieldunit.Telemetry
}

func (d *database) Record(_ context.Context, list []fieldunit.Telemetry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range list {
		k := fmt.Sprintf("%s/%s/%d", t.Unit, t.Boot, t.Seq)
		if d.keys[k]++; d.keys[k] == 1 {
			d.list = append(d.list, t)
		}
	}
	return nil
}

func (d *database) Admit(_ context.Context, _, secret string) error {
	if secret != "secret" {
		return broker.ErrDenied
	}
	return nil
}

func (d *database) stored() []fieldunit.Telemetry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]fieldunit.Telemetry(nil), d.list...)
}

func manager(t *testing.T) (*database, *broker.Broker) {
	t.Helper()
	d := &database{keys: make(map[string]int)}
	b, err := broker.Open(context.Background(), broker.Config{Endpoints: []broker.Endpoint{{Address: "127.0.0.1:0", Plain: true}}, Recorder: d, Doorkeeper: d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return d, b
}

func profile(t *testing.T, port int, change func(*fieldunit.Profile)) string {
	t.Helper()
	p := fieldunit.Profile{Name: "pool", Type: fieldunit.TypeManager, Host: "127.0.0.1", Port: port, Username: "u1", Password: "secret", Autoconnect: true}
	if change != nil {
		change(&p)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), p.Username+".json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func port(b *broker.Broker) int { return b.Addrs()[0].(*net.TCPAddr).Port }

// call runs the command in this process.
func call(t *testing.T, in string, args ...string) (code int, out, errs string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var o, e bytes.Buffer
	code = run(ctx, args, strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func TestPublishesStandardInput(t *testing.T) {
	d, b := manager(t)
	in := `{"node":"plc1","group":"g1","values":{"temperature":21.5}}` + "\n\n" + `{"tags":[{"name":"flow","error":2014}]}` + "\n"
	code, out, errs := call(t, in, "run", "--profile", profile(t, port(b), nil))
	if code != 0 || errs != "" || !strings.Contains(out, "unit u1: acknowledged 2, waiting 0") {
		t.Fatalf("exit %d, %q, %q", code, out, errs)
	}
	l := d.stored() // records of one unit may be committed side by side
	slices.SortFunc(l, func(a, b fieldunit.Telemetry) int { return cmp.Compare(a.Seq, b.Seq) })
	if len(l) != 2 || l[0].Node != "plc1" || l[0].Readings[0].Value.String() != "21.5" || l[1].Readings[0].Error != 2014 || l[0].Seq+1 != l[1].Seq || l[0].Boot == "" || l[0].SourceMS == 0 {
		t.Errorf("%+v", l)
	}
}

func TestSimulatesSeveralUnitsWithLedgerAndReport(t *testing.T) {
	d, b := manager(t)
	dir := t.TempDir()
	ledger, report := filepath.Join(dir, "ledger"), filepath.Join(dir, "report")
	args := []string{"run", "--simulate", "--rate", "500", "--tags", "3", "--count", "50", "--ledger", ledger, "--report", report, "--json"}
	for _, u := range []string{"u1", "u2", "u3"} {
		args = append(args, "--profile", profile(t, port(b), func(p *fieldunit.Profile) { p.Username = u }))
	}
	code, out, errs := call(t, "", args...)
	if code != 0 {
		t.Fatalf("exit %d, %s", code, errs)
	}
	raw, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) != 150 || len(d.stored()) != 150 {
		t.Fatalf("%d in the ledger, %d stored", len(lines), len(d.stored()))
	}
	for _, l := range lines {
		var e struct {
			Unit, Boot string
			Seq        uint64
			Sent       int64 `json:"sent_ns"`
			Acked      int64 `json:"acked_ns"`
		}
		if err := json.Unmarshal([]byte(l), &e); err != nil || d.keys[fmt.Sprintf("%s/%s/%d", e.Unit, e.Boot, e.Seq)] == 0 || e.Sent == 0 || e.Acked < e.Sent {
			t.Fatalf("%s: %v", l, err)
		}
	}
	var sum summary
	if raw, err = os.ReadFile(report); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &sum); err != nil || len(sum.Units) != 3 || sum.Units[0].Stored != 50 || len(sum.Units[0].Outages) != 0 {
		t.Errorf("report %s: %v", raw, err)
	}
	for l := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		if !json.Valid([]byte(l)) {
			t.Errorf("no JSON: %s", l)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, b := manager(t)
	good := profile(t, port(b), nil)
	wrong := profile(t, port(b), func(p *fieldunit.Profile) { p.Password = "no"; p.Autoconnect = false })
	broken := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(broken, []byte(`{"hots":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := profile(t, free.Addr().(*net.TCPAddr).Port, nil)
	_ = free.Close()
	line := `{"values":{"a":1}}` + "\n"
	for _, tt := range []struct {
		name string
		in   string
		args []string
		code int
		want string
	}{
		{"no command", "", nil, 2, "--help"},
		{"no profile", "", []string{"run"}, 2, "--profile"},
		{"an unknown flag", "", []string{"run", "--profile", good, "--rat", "5"}, 2, "unknown flag"},
		{"a rate of nothing", "", []string{"run", "--profile", good, "--rate", "0"}, 2, "--rate 0: use more than 0"},
		{"too many tags", "", []string{"run", "--profile", good, "--tags", "5000"}, 2, "--tags 5000: use 1 to 4096"},
		{"a window of 0", "", []string{"run", "--profile", good, "--window", "0"}, 2, "--window 0"},
		{"a spool of nothing", "", []string{"run", "--profile", good, "--spool-size", "0"}, 2, "--spool-size 0"},
		{"two profiles on standard input", "", []string{"run", "--profile", good, "--profile", good}, 2, "add --simulate"},
		{"a missing profile", "", []string{"run", "--profile", "/nowhere/p.json"}, 1, "no such file"},
		{"a broken profile", "", []string{"run", "--profile", broken}, 1, "unknown field \"hots\""},
		{"a wrong secret", line, []string{"run", "--profile", wrong}, 1, "take a new profile"},
		{"a bad line among good ones", line + "nonsense\n" + line, []string{"run", "--profile", good}, 1, "standard input, line 2: payload: is not valid JSON"},
		{"nobody there and no spool", line, []string{"run", "--profile", nobody, "--drain", "50ms"}, 1, "use --spool to keep them"},
		{"a ledger that cannot be", "", []string{"run", "--profile", good, "--ledger", "/nowhere/l"}, 1, "--ledger: open /nowhere/l"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, errs := call(t, tt.in, tt.args...)
			if code != tt.code || !strings.Contains(errs, tt.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("exit %d, %q; want %d and one line with %q", code, errs, tt.code, tt.want)
			}
		})
	}
	t.Run("nobody there but a spool: sent at the next start", func(t *testing.T) {
		dir := t.TempDir()
		if code, _, errs := call(t, line, "run", "--profile", nobody, "--spool", dir, "--drain", "50ms"); code != 0 {
			t.Fatalf("exit %d: %s", code, errs)
		}
		code, out, errs := call(t, "", "run", "--profile", good, "--spool", dir)
		if code != 0 || !strings.Contains(out, "acknowledged 1, waiting 0") {
			t.Errorf("exit %d: %s %s", code, out, errs)
		}
	})
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], args...)
	c.Env = append(os.Environ(), "FIELDUNIT_AS_COMMAND=1")
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c
}

func TestKilledUnitLosesNothing(t *testing.T) {
	d, b := manager(t)
	dir := t.TempDir()
	ledger := filepath.Join(dir, "ledger")
	args := []string{"run", "--simulate", "--rate", "2000", "--profile", profile(t, port(b), nil), "--spool", filepath.Join(dir, "spool"), "--ledger", ledger}
	for round := range 3 {
		before := len(d.stored())
		c := command(t, args...)
		for end := time.Now().Add(20 * time.Second); len(d.stored()) < before+300; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("round %d: %d stored", round, len(d.stored()))
			}
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	c := command(t, append(args, "--count", "5")...)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	highest := map[string]uint64{}
	count := map[string]uint64{}
	for _, r := range d.stored() {
		highest[r.Boot] = max(highest[r.Boot], r.Seq)
		count[r.Boot]++
	}
	if len(highest) != 4 {
		t.Errorf("%d boots, want 4", len(highest))
	}
	for boot, n := range highest {
		if count[boot] != n {
			t.Errorf("boot %s: %d of %d records arrived", boot, count[boot], n)
		}
	}
}

func TestReportNamesTheOutage(t *testing.T) {
	d, b := manager(t)
	dir := t.TempDir()
	report := filepath.Join(dir, "report")
	c := command(t, "run", "--simulate", "--rate", "200", "--profile", profile(t, port(b), nil), "--report", report, "--count", "200")
	for end := time.Now().Add(20 * time.Second); len(d.stored()) < 20; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing stored")
		}
	}
	address := b.Addrs()[0].String()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	next, err := broker.Open(context.Background(), broker.Config{Endpoints: []broker.Endpoint{{Address: address, Plain: true}}, Recorder: d, Doorkeeper: d})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var sum summary
	if err := json.Unmarshal(raw, &sum); err != nil {
		t.Fatal(err)
	}
	u := sum.Units[0]
	if u.Stored != 200 || u.Connects != 2 || len(u.Outages) != 1 {
		t.Fatalf("%s", raw)
	}
	if o := u.Outages[0]; o.Reason == "" || o.ConnectedNS < o.LostNS || o.FirstAckNS < o.ConnectedNS || o.GapMS <= 0 {
		t.Errorf("%+v", o)
	}
	t.Logf("%+v", u.Outages[0])
}

func TestTermEndsItCleanly(t *testing.T) {
	d, b := manager(t)
	dir := t.TempDir()
	report := filepath.Join(dir, "report")
	c := command(t, "run", "--simulate", "--rate", "200", "--profile", profile(t, port(b), nil), "--report", report)
	for end := time.Now().Add(20 * time.Second); len(d.stored()) < 20; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing stored")
		}
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("after SIGTERM: %v", err)
	}
	raw, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var sum summary
	if err := json.Unmarshal(raw, &sum); err != nil || sum.Units[0].Waiting != 0 || int(sum.Units[0].Stored) != len(d.stored()) {
		t.Errorf("%s; stored %d; %v", raw, len(d.stored()), err)
	}
}
