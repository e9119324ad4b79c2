package agent_test

import (
	"slices"
	"testing"
	"time"

	"redundancypool/fieldunit/agent"
)

// BenchmarkTakeover measures the time without acknowledgements that an agent adds to a takeover: the old
// Primary's broker closes, the new one's opens at once on the same address.
func BenchmarkTakeover(b *testing.B) {
	d := newDatabase()
	m := manager(b, "127.0.0.1:0", d, nil)
	address := m.Addrs()[0].String()
	s := spool(b, "")
	acked := make(chan time.Time, 1024)
	start(b, agent.Config{Profile: profile(m), Spool: s, Stored: func(_ *agent.Record, at time.Time) {
		select {
		case acked <- at:
		default:
		}
	}})
	var gaps []time.Duration
	for b.Loop() {
		fill(b, s, 1)
		<-acked
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
		m = manager(b, address, d, nil)
		from := time.Now()
		fill(b, s, 1)
		gaps = append(gaps, (<-acked).Sub(from))
	}
	slices.Sort(gaps)
	b.ReportMetric(float64(gaps[len(gaps)/2].Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(gaps[len(gaps)-1].Microseconds())/1000, "ms/worst")
}
