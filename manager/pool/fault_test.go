package pool

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// hangingLog is a log store whose writes hang while the gate is closed.
type hangingLog struct {
	*raft.InmemStore
	mu   sync.Mutex
	hang chan struct{}
}

func (h *hangingLog) StoreLogs(ls []*raft.Log) error {
	h.mu.Lock()
	hang := h.hang
	h.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return h.InmemStore.StoreLogs(ls)
}

func (h *hangingLog) StoreLog(l *raft.Log) error { return h.StoreLogs([]*raft.Log{l}) }

// nothing is a state machine without state.
type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nil, errors.New("none") }
func (nothing) Restore(io.ReadCloser) error         { return nil }

// This is what the watchdog is for: the library alone keeps a leader whose disk hangs, because
// its heartbeats never touch the disk.
func TestTheLibraryAloneKeepsALeaderWhoseDiskHangs(t *testing.T) {
	var rafts []*raft.Raft
	var stores []*hangingLog
	var transports []*raft.InmemTransport
	var servers []raft.Server
	for i := range 3 {
		addr, tr := raft.NewInmemTransport(raft.ServerAddress(fmt.Sprint("n", i)))
		transports = append(transports, tr)
		servers = append(servers, raft.Server{ID: raft.ServerID(addr), Address: addr})
	}
	for i, a := range transports {
		for k, b := range transports {
			if i != k {
				a.Connect(servers[k].Address, b)
			}
		}
		c := raft.DefaultConfig()
		c.LocalID, c.LogOutput = servers[i].ID, io.Discard
		c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
		st := &hangingLog{InmemStore: raft.NewInmemStore()}
		if err := raft.BootstrapCluster(c, st, st, raft.NewDiscardSnapshotStore(), a, raft.Configuration{Servers: servers}); err != nil {
			t.Fatal(err)
		}
		r, err := raft.NewRaft(c, nothing{}, st, st, raft.NewDiscardSnapshotStore(), a)
		if err != nil {
			t.Fatal(err)
		}
		rafts, stores = append(rafts, r), append(stores, st)
	}
	leader := -1
	for end := time.Now().Add(20 * time.Second); leader < 0; time.Sleep(5 * time.Millisecond) {
		for i, r := range rafts {
			if r.State() == raft.Leader && r.Barrier(time.Second).Error() == nil {
				leader = i
			}
		}
		if time.Now().After(end) {
			t.Fatal("no leader")
		}
	}
	hang := make(chan struct{})
	stores[leader].mu.Lock()
	stores[leader].hang = hang
	stores[leader].mu.Unlock()
	term := rafts[leader].CurrentTerm()
	f := rafts[leader].Apply([]byte("x"), time.Second)
	// Ten election timeouts later it still leads, and nobody has stood against it.
	time.Sleep(2 * time.Second)
	for i, r := range rafts {
		if r.CurrentTerm() != term || (r.State() == raft.Leader) != (i == leader) {
			t.Errorf("node %d is %v in term %d: the library has learned to replace a leader whose disk hangs; the watchdog may be simplified", i, r.State(), r.CurrentTerm())
		}
	}
	close(hang)
	if err := f.Error(); err != nil {
		t.Logf("the held write: %v", err)
	}
	for _, r := range rafts {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}
}

// faultyDisk makes one node's store hang or fail on demand.
type faultyDisk struct {
	mu   sync.Mutex
	hang chan struct{}
	err  error
}

func (f *faultyDisk) set(hang chan struct{}, err error) {
	f.mu.Lock()
	f.hang, f.err = hang, err
	f.mu.Unlock()
}

func (f *faultyDisk) write(string) error {
	f.mu.Lock()
	hang, err := f.hang, f.err
	f.mu.Unlock()
	if hang != nil {
		<-hang
	}
	return err
}

func faultyTrio(t *testing.T) (*trio, *faultyDisk) {
	disk := &faultyDisk{}
	tr := newTrioWith(t, options{masterDisk: disk.write, timing: func(d *Timing) { d.DiskTimeout = 300 * time.Millisecond }})
	return tr, disk
}

func TestAPrimaryWhoseLogHangsGivesUpAndTheOtherTakesOver(t *testing.T) {
	tr, disk := faultyTrio(t)
	w := tr.write(2)
	hang := make(chan struct{})
	began := time.Now()
	disk.set(hang, nil)
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	t.Logf("replaced after %v", time.Since(began))
	if c := tr.b.pool.State().Change; c != nil {
		t.Logf("%+v", *c)
	}
	at := w.count()
	tr.wait("writes go on", func() bool { return w.count() > at+10 })
	disk.set(nil, nil)
	close(hang)
	w.end()
}

func TestAPrimaryWhoseLogCannotBeWrittenGivesUpAndRecovers(t *testing.T) {
	tr, disk := faultyTrio(t)
	w := tr.write(2)
	disk.set(nil, errors.New("no space left on device"))
	began := time.Now()
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	t.Logf("replaced after %v", time.Since(began))
	tr.wait("the Master says why", func() bool { return tr.m.pool.State().Sick != "" })
	disk.set(nil, nil)
	w.end()
}

func TestAStandaloneManagerWhoseDiskWasFullForAMomentIsPrimaryAgain(t *testing.T) {
	n := newNode(t, newNetwork(), "m")
	disk := &faultyDisk{}
	n.disk = disk.write
	n.timing.DiskTimeout = 200 * time.Millisecond
	rec, err := Create(n.dir, n.member(Standalone, ""), n.timing)
	if err != nil {
		t.Fatal(err)
	}
	n.open(rec)
	defer n.close()
	wait := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited in vain for: %s; %+v", what, n.pool.State())
			}
		}
	}
	wait("Standalone", func() bool { return n.pool.State().Status == Alone })
	disk.set(nil, errors.New("no space left on device"))
	if err := write(n, "x"); err == nil {
		t.Error("a write on a full disk is acknowledged")
	}
	wait("not writing", func() bool { return n.pool.State().Status != Alone })
	disk.set(nil, nil)
	wait("Standalone again", func() bool { return n.pool.State().Status == Alone })
	wait("writes", func() bool { return write(n, "y") == nil })
}

func TestAPrimaryWhoseDatabaseHangsOrFailsGivesUp(t *testing.T) {
	for _, name := range []string{"hangs", "fails"} {
		t.Run(name, func(t *testing.T) {
			tr := newTrioWith(t, options{timing: func(d *Timing) { d.DiskTimeout = 300 * time.Millisecond }})
			w := tr.write(2)
			hang := make(chan struct{})
			tr.m.machine.mu.Lock()
			if name == "hangs" {
				tr.m.machine.hang = hang
			} else {
				tr.m.machine.fail = errors.New("database or disk is full")
			}
			tr.m.machine.mu.Unlock()
			tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
			at := w.count()
			tr.wait("writes go on", func() bool { return w.count() > at+10 })
			tr.m.machine.mu.Lock()
			tr.m.machine.hang, tr.m.machine.fail = nil, nil
			tr.m.machine.mu.Unlock()
			close(hang)
			w.end()
		})
	}
}

func TestCloseReturnsAlthoughTheDiskHangs(t *testing.T) {
	n := newNode(t, newNetwork(), "m")
	disk := &faultyDisk{}
	n.disk = disk.write
	rec, err := Create(n.dir, n.member(Standalone, ""), n.timing)
	if err != nil {
		t.Fatal(err)
	}
	n.open(rec)
	for end := time.Now().Add(20 * time.Second); n.pool.State().Status != Alone; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never Standalone")
		}
	}
	hang := make(chan struct{})
	disk.set(hang, nil)
	defer close(hang)
	go func() { _ = write(n, "x") }()
	for end := time.Now().Add(20 * time.Second); n.pool.watch.sick() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the hang goes unnoticed")
		}
	}
	began := time.Now()
	err = n.pool.Close()
	if err == nil {
		t.Error("Close says nothing about what hangs")
	}
	if d := time.Since(began); d > 3*closeLimit+5*time.Second {
		t.Errorf("Close took %v", d)
	}
	t.Logf("%v: %v", time.Since(began), err)
	n.port.Close()
}

func TestAPrimaryThatWasPausedEnds(t *testing.T) {
	tr := newTrio(t)
	w := tr.write(2)
	for _, to := range []string{"b", "a"} { // a paused process neither sends nor receives
		tr.net.part("m", to)
	}
	tr.wait("the Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	time.Sleep(time.Second) // the pause
	if s := tr.m.pool.State(); s.Status == Primary {
		t.Error("still Primary")
	}
	tr.net.heal()
	tr.wait("the Master follows", func() bool {
		s := tr.m.pool.State()
		return s.Status == Online && s.Primary == tr.b.pool.self
	})
	w.end()
}

func TestAMemberWithoutItsStoreDoesNotStart(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	if err := write(tr.m, "x"); err != nil {
		t.Fatal(err)
	}
	tr.b.close()
	if err := os.Remove(filepath.Join(tr.b.dir, storeFile)); err != nil {
		t.Fatal(err)
	}
	rec, err := ReadRecord(tr.b.dir)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Open(Config{Dir: tr.b.dir, Record: rec, Port: tr.b.port, Log: tr.b.log(), Machine: tr.b.machine}); !errors.Is(err, ErrLostStore) {
		t.Errorf("%v, want ErrLostStore", err)
		if p != nil {
			p.Close()
		}
	}
}

func TestARolledBackStoreDoesNotVoteUntilItHasCaughtUp(t *testing.T) {
	tr := newTrioWith(t, options{direct: true})
	path := filepath.Join(tr.b.dir, storeFile)
	tr.b.close()
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tr.b.reopen()
	tr.waitProtected()
	for i := range 50 {
		if err := write(tr.m, fmt.Sprint("row ", i)); err != nil {
			t.Fatal(err)
		}
	}
	tr.waitProtected()
	tr.b.close()
	tr.m.close() // now only the Arbiter runs, and it knows how far the Backup was
	if err := os.WriteFile(path, old, 0o600); err != nil {
		t.Fatal(err)
	}
	rec, err := ReadRecord(tr.b.dir)
	if err != nil {
		t.Fatal(err)
	}
	delete(rec.Highest, rec.Self) // the whole folder is that old
	if err := WriteRecord(tr.b.dir, rec); err != nil {
		t.Fatal(err)
	}
	tr.b.reopen()
	tr.wait("the Backup knows", func() bool { return tr.b.pool.remembers() != nil })
	if err := (rules{tr.b.pool}).MayVote(raftID(tr.m), 99, true); err == nil {
		t.Error("it votes")
	}
	time.Sleep(time.Second)
	if s := tr.b.pool.State(); s.Status == Primary {
		t.Error("it is Primary")
	}
	tr.m.reopen()
	tr.waitProtected()
	tr.wait("the Backup has caught up", func() bool {
		return tr.b.pool.remembers() == nil && len(tr.b.machine.texts()) == 50
	})
}

func raftID(n *node) raft.ServerID {
	rec, err := ReadRecord(n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	return raft.ServerID(rec.Self)
}
