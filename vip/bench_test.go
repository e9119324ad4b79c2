package vip

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkAcquire reports how long Acquire takes on a silent link, its probe of
// DefaultConfig().ProbeWait included, and how long Release takes.
func BenchmarkAcquire(b *testing.B) {
	l := newLab(b)
	m := l.manager("a", managerSettings{}).opened()
	var acquire, release []time.Duration
	for b.Loop() {
		acquire = append(acquire, time.Duration(m.do("acquire").Micro)*time.Microsecond)
		release = append(release, time.Duration(m.do("release").Micro)*time.Microsecond)
		m.await("done")
	}
	reportSpread(b, "acquire", acquire)
	reportSpread(b, "release", release)
}

// BenchmarkKillManager reports how long after kill -9 of the manager its address is gone, and
// the guard's resident memory.
func BenchmarkKillManager(b *testing.B) {
	l := newLab(b)
	h := l.handle("a")
	var gone []time.Duration
	for b.Loop() {
		m := l.manager("a", managerSettings{}).opened()
		m.do("acquire")
		guard := m.guardPID()
		if rss := residentKB(b, guard); len(gone) == 0 {
			b.ReportMetric(rss, "guard-KB")
		}
		begin := time.Now()
		m.signal(unix.SIGKILL)
		for has(b, h, vip4.Addr()) {
		}
		gone = append(gone, time.Since(begin))
		await(b, "guard ended", soon, func() bool { return ended(guard) })
	}
	reportSpread(b, "gone", gone)
}

func reportSpread(b *testing.B, name string, d []time.Duration) {
	slices.Sort(d)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(d[len(d)/2]), name+"-median-ms")
	b.ReportMetric(ms(d[len(d)-1]), name+"-max-ms")
}

func residentKB(b *testing.B, pid int) float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kb := 0.0
	if _, err := fmt.Sscan(after, &kb); err != nil {
		b.Fatal(err)
	}
	return kb
}
