package trial_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"redundancypool/deploy/lab"
	"redundancypool/deploy/lab/control"
	"redundancypool/deploy/lab/trial"
)

// openPool starts the pretended pool in a lab of its own, under load.
func openPool(t *testing.T, flaw string) *trial.Pool {
	t.Helper()
	if !lab.MayBuild() {
		t.Skip("needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN) for network namespaces")
	}
	dir, err := os.MkdirTemp("", "trial")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe, err := os.Executable()
	must(t, err)
	bin, fake := filepath.Join(dir, "bin"), filepath.Join(dir, "fake")
	must(t, os.Mkdir(bin, 0o755))
	must(t, os.Mkdir(fake, 0o755))
	for _, name := range []string{"manager", "arbiter", "fieldunit"} {
		must(t, os.Symlink(exe, filepath.Join(bin, name)))
	}
	t.Setenv("FAKE_DIR", fake)
	t.Setenv("FAKE_FLAW", flaw)
	l, err := lab.Open(lab.DefaultConfig(filepath.Join(dir, "lab"), slog.New(slog.DiscardHandler)))
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	b, err := trial.FindBinaries(bin)
	must(t, err)
	p := trial.New(l, trial.Config{Bin: b, VIP: lab.VirtualAddr, Patience: time.Minute, Say: t.Logf})
	ctx := context.Background()
	must(t, p.Start(ctx))
	must(t, p.Form(ctx))
	must(t, p.StartUnits(ctx, 3, 200))
	must(t, p.WaitUnits(ctx, time.Now(), time.Minute))
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, p *trial.Pool) *trial.Trial {
	t.Helper()
	tr, err := p.Open()
	must(t, err)
	t.Cleanup(func() { must(t, tr.Close()) })
	return tr
}

func TestSoundPoolPassesEveryFault(t *testing.T) {
	p := openPool(t, "")
	tr := open(t, p)
	rep := tr.Measure(context.Background(), 1, []trial.Fault{trial.Kill, trial.PowerOff, trial.HandOver})
	if rep.Failed() {
		t.Fatalf("problems: %v", rep.Problems)
	}
	if len(rep.Rounds) != 3 || len(rep.Final) != 2 || rep.Final[0].Acknowledged == 0 {
		t.Fatalf("the report is not complete:\n%s", rep.Text())
	}
	for _, r := range rep.Rounds {
		if !r.WasPrimary || r.VIPMovedMS < 0 || r.FirstWriteMS < 0 || r.FirstWriteMS < r.VIPMovedMS || r.AllUnitsMS < r.FirstWriteMS {
			t.Errorf("times of %s do not fit: %s", r.Fault, r.Line())
		}
	}
	if text := rep.Text(); !strings.Contains(text, "first acknowledged write") || !strings.Contains(text, "lost 0, twice 0") {
		t.Errorf("the report lacks its figures:\n%s", text)
	}
}

func TestAPoolMayKeepItsPrimaryWhileManagersAreApart(t *testing.T) {
	p := openPool(t, "")
	rep := open(t, p).Measure(context.Background(), 1, []trial.Fault{trial.Apart})
	if rep.Failed() || len(rep.Rounds) != 1 {
		t.Fatalf("problems: %v", rep.Problems)
	}
	if r := rep.Rounds[0]; r.VIPMovedMS >= 0 || r.SilenceMS <= 0 || r.Unasked != "" || !strings.Contains(r.Line(), "VIP stayed") {
		t.Errorf("a Primary that stayed is reported as: %s", r.Line())
	}
}

func TestRandomRoundsRepeatWithTheirSeed(t *testing.T) {
	p := openPool(t, "")
	tr := open(t, p)
	faults := []trial.Fault{trial.Kill, trial.PowerOff}
	rep := tr.Run(context.Background(), 3, 42, faults)
	again := tr.Run(context.Background(), 3, 42, faults)
	if rep.Failed() || again.Failed() || len(rep.Rounds) != 3 || len(again.Rounds) != 3 {
		t.Fatalf("rounds: %v, %v", rep.Problems, again.Problems)
	}
	for i := range rep.Rounds {
		if rep.Rounds[i].Fault != again.Rounds[i].Fault || rep.Rounds[i].Host != again.Rounds[i].Host {
			t.Errorf("round %d differs: %s, then %s", i+1, rep.Rounds[i].Line(), again.Rounds[i].Line())
		}
	}
}

func TestLostAndDoubledRecordsAreFound(t *testing.T) {
	tests := []struct{ name, flaw, want string }{
		{"a pool that acknowledges what it does not store", "lose", "acknowledged records lost"},
		{"a pool that stores a record twice", "double", "stored twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := openPool(t, tt.flaw)
			rep := open(t, p).Measure(context.Background(), 1, []trial.Fault{trial.Kill})
			if !rep.Failed() || !strings.Contains(strings.Join(rep.Problems, "\n"), tt.want) {
				t.Errorf("not found: %s", rep.Text())
			}
		})
	}
}

func TestOrdersOfAnotherTerminal(t *testing.T) {
	p := openPool(t, "")
	var said []string
	say := func(s string) { said = append(said, s) }
	do := func(o control.Order) error { return p.Operate(context.Background(), o, say) }
	must(t, do(control.Order{Verb: "status"}))
	if text := strings.Join(said, "\n"); !strings.Contains(text, "primary") || !strings.Contains(text, "guard pid") || !strings.Contains(text, "3 simulated") {
		t.Errorf("status says too little:\n%s", text)
	}
	for _, o := range []control.Order{
		{Verb: "freeze", Host: "backup", Options: map[string]string{"all": "true"}},
		{Verb: "thaw", Host: "backup"},
		{Verb: "cut", Host: "backup", Options: map[string]string{"path": "0"}},
		{Verb: "heal", Host: "backup"},
		{Verb: "cut", Host: "backup", Options: map[string]string{"path": "0", "carrier": "true"}},
		{Verb: "heal"},
		{Verb: "cut", Host: "backup", Peer: "arbiter"},
		{Verb: "heal", Host: "backup", Peer: "arbiter"},
		{Verb: "cut", Host: "backup", Peer: "arbiter", Options: map[string]string{"one-way": "true"}},
		{Verb: "impair", Host: "backup", Options: map[string]string{"path": "0", "delay": "1ms", "jitter": "0s", "loss": "0"}},
		{Verb: "heal"},
		{Verb: "stranger", Host: "stranger", Options: map[string]string{"address": "10.0.0.77"}},
		{Verb: "stranger", Host: "stranger", Options: map[string]string{"address": "10.0.0.77", "release": "true"}},
		{Verb: "poweroff", Host: "client"},
		{Verb: "poweron", Host: "client"},
		{Verb: "kill", Host: "backup", Options: map[string]string{"guard": "true"}},
		{Verb: "start", Host: "backup"},
		{Verb: "poweroff", Host: "backup"},
		{Verb: "poweron", Host: "backup"},
	} {
		if err := do(o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	for _, tt := range []struct {
		name string
		o    control.Order
		want string
	}{
		{"an unknown host is named", control.Order{Verb: "kill", Host: "nobody"}, "nobody"},
		{"an unknown order is named", control.Order{Verb: "explode", Host: "master"}, "explode"},
		{"a client has no Manager to kill", control.Order{Verb: "kill", Host: "client"}, "no Manager"},
		{"a running Manager is not started again", control.Order{Verb: "start", Host: "master"}, "runs already"},
		{"a disk needs the flag", control.Order{Verb: "disk", Host: "master", Options: map[string]string{"fault": "fill"}}, "faulty disks"},
		{"a disk fault must exist", control.Order{Verb: "disk", Host: "master", Options: map[string]string{"fault": "melt"}}, "melt"},
		{"there is no third path", control.Order{Verb: "cut", Host: "master", Options: map[string]string{"path": "2"}}, "eth2"},
		{"a delay needs a unit", control.Order{Verb: "impair", Host: "master", Options: map[string]string{"path": "0", "delay": "3"}}, "delay"},
		{"an address must be one", control.Order{Verb: "address", Host: "master", Options: map[string]string{"address": "x"}}, "address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := do(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
		})
	}
}
