package manager_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// profile is the part of a unit's destination profile that a client needs.
type profile struct {
	Host, CA, Username, Password string
	Port                         int
}

func (s *site) profile(name, unit string) (p profile) {
	s.t.Helper()
	s.await(10*time.Second, "unit "+unit+" is added", func() (bool, string) {
		raw, err := s.remote(name).AddUnit(s.t.Context(), unit)
		if err == nil {
			err = json.Unmarshal(raw, &p)
		}
		return err == nil, fmt.Sprint(err)
	})
	return p
}

// connect opens one MQTT connection to the virtual IP, from the client's host.
func (s *site) connect(ctx context.Context, p profile) (*paho.Client, error) {
	raw, err := s.host(clientHost).Dial(ctx, "tcp", p.Host+":"+strconv.Itoa(p.Port))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(p.CA))
	conn := packets.NewThreadSafeConn(tls.Client(raw, &tls.Config{RootCAs: pool, ServerName: p.Host}))
	c := paho.NewClient(paho.ClientConfig{Conn: conn, ClientID: p.Username, PacketTimeout: 10 * time.Second})
	_, err = c.Connect(ctx, &paho.Connect{
		ClientID: p.Username, Username: p.Username, UsernameFlag: true, Password: []byte(p.Password), PasswordFlag: true, KeepAlive: 30, CleanStart: true,
	})
	return c, err
}

// load publishes records with 10 values each from some units at once, until ctx ends or limit is
// reached (0: none), and returns how many were acknowledged.
func (s *site) load(ctx context.Context, on string, units int, marker string, limit int64) int64 {
	s.t.Helper()
	var acked, sent atomic.Int64
	var wg sync.WaitGroup
	for u := range units {
		p := s.profile(on, fmt.Sprintf("load%d-%d", u, time.Now().UnixNano()))
		c, err := s.connect(ctx, p)
		if err != nil {
			s.t.Fatalf("connect %s: %v", p.Username, err)
		}
		values := map[string]any{"marker": marker}
		for v := range 9 {
			values[fmt.Sprintf("v%d", v)] = 1.5 * float64(v)
		}
		var seq atomic.Int64
		for range 16 { // records on their way per unit
			wg.Go(func() {
				for ctx.Err() == nil && (limit == 0 || sent.Add(1) <= limit) {
					n := seq.Add(1)
					body, _ := json.Marshal(map[string]any{"timestamp": time.Now().UnixMilli(), "seq": n, "node": "n", "group": "g", "values": values})
					if _, err := c.Publish(ctx, &paho.Publish{QoS: 1, Topic: "fieldunit/" + p.Username + "/telemetry", Payload: body}); err != nil {
						if ctx.Err() == nil {
							s.t.Errorf("publish: %v", err)
						}
						return
					}
					acked.Add(1)
				}
			})
		}
	}
	wg.Wait()
	return acked.Load()
}

// BenchmarkSamplesThroughThePool is the whole path: MQTT with TLS to the virtual IP, broker, group commit,
// the log on two disks, SQLite, acknowledgement; a record has 10 samples. Beside it stand SQLite's
// own figures: BenchmarkPlainInsert of manager/database. All three machines share this one here.
func BenchmarkSamplesThroughThePool(b *testing.B) {
	s := newSite(b, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	b.ResetTimer()
	n := s.load(b.Context(), masterHost, 16, "x", int64(b.N))
	b.ReportMetric(float64(n*10)/b.Elapsed().Seconds(), "samples/s")
}

// The Arbiter of a busy pool stays small, and no byte of what units send is in its folder or memory,
// whether the Backup is there or not.
func TestArbiterStaysSmallAndLearnsNoPayload(t *testing.T) {
	s := newSite(t, time.Minute)
	s.start(masterHost, backupHost, arbiterHost)
	s.form()
	before := s.arbiterStatus().LastIndex
	const marker = "PAYLOADMARKER"
	run := func(what string) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		began := time.Now()
		n := s.load(ctx, masterHost, 8, marker, 0)
		t.Logf("%s: %.0f records with 10 values a second acknowledged", what, float64(n)/time.Since(began).Seconds())
		if n == 0 {
			t.Error("nothing was acknowledged")
		}
	}
	run("the Backup in step")
	s.kill(backupHost)
	s.awaitHealth(masterHost, "degraded")
	run("the Backup away")
	st := s.arbiterStatus()
	pid := s.process(arbiterHost).PID()
	t.Logf("the Arbiter took %d entries, has %d bytes on disk and %d kB in memory", st.LastIndex-before, st.BytesOnDisk, resident(t, pid))
	if kb := resident(t, pid); kb > 32<<10 {
		t.Errorf("the Arbiter uses %d kB of memory, more than 32 MB", kb)
	}
	if found := searchMemory(t, pid, marker); found != "" {
		t.Errorf("payload is in the Arbiter's memory at %s", found)
	}
	if searchMemory(t, s.process(masterHost).PID(), marker) == "" {
		t.Error("the search finds nothing in the Primary's memory either: it proves nothing")
	}
	err := filepath.WalkDir(s.dir(arbiterHost), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(marker)) {
			t.Errorf("payload is in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// resident is a process' memory in kB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			n, _ := strconv.Atoi(f[1])
			return n
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// searchMemory looks for text in everything that a process may write to, and returns where it is; empty: nowhere.
func searchMemory(t *testing.T, pid int, text string) string {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Skipf("read another process' memory: %v", err)
	}
	defer mem.Close()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[1], "rw") || strings.Contains(line, program) {
			continue // what is only read cannot hold what came; this program's own file holds the marker
		}
		from, to, _ := strings.Cut(f[0], "-")
		lo, err1 := strconv.ParseUint(from, 16, 64)
		hi, err2 := strconv.ParseUint(to, 16, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("memory map line %q", line)
		}
		const step, overlap = 1 << 20, 64
		buf := make([]byte, step+overlap)
		for at := lo; at < hi; at += step {
			n, _ := mem.ReadAt(buf[:min(uint64(len(buf)), hi-at)], int64(at)) // pages that are not there end it early
			if i := bytes.Index(buf[:n], []byte(text)); i >= 0 {
				return fmt.Sprintf("%x in %s", at+uint64(i), strings.TrimSpace(line))
			}
		}
	}
	return ""
}
