package manager

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"redundancypool/manager/journal"
	"redundancypool/web"
)

// The codes of what the watch over this machine tells.
const (
	codeSpace       = "disk_space"
	codeCertificate = "certificate_expires"
)

// When the data folder's disk is nearly full: below a part of it and below an amount, so that a small
// disk warns in time and a large one not too early. It is well again a fifth above.
const (
	spaceEvery                = 15 * time.Second
	warnPart, warnBytes       = 10, int64(5 << 30) // a tenth, 5 GiB
	alarmPart, alarmBytes     = 33, int64(1 << 30) // three in a hundred, 1 GiB
	certificateEvery          = time.Hour
	day                       = 24 * time.Hour
	spaceOK                   = spaceLevel(0)
	spaceWarning, spaceDanger = spaceLevel(1), spaceLevel(2)
)

// spaceLevel is how full a disk is.
type spaceLevel int

// levelOf judges free bytes of total, before being the level until now.
func levelOf(free, total int64, before spaceLevel) spaceLevel {
	below := func(part, bytes int64, already bool) bool {
		limit := min(total/part, bytes)
		if already {
			limit += limit / 5
		}
		return free < limit
	}
	switch {
	case below(alarmPart, alarmBytes, before == spaceDanger):
		return spaceDanger
	case below(warnPart, warnBytes, before != spaceOK):
		return spaceWarning
	}
	return spaceOK
}

// space is what the watch over the disk found; guarded by Manager.mu.
type space struct {
	level spaceLevel
	text  string
}

// reason returns what pages and API tell; false: nothing.
func (s space) reason() (web.Reason, bool) {
	return web.Reason{Code: codeSpace, Text: s.text}, s.level != spaceOK
}

// watchMachine looks at the room on the disk and at the certificates that people see, until ctx ends.
func (m *Manager) watchMachine(ctx context.Context) {
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	told := map[string]int{} // days before the end that were told, by certificate
	var certs time.Time
	for {
		m.lookAtSpace()
		if time.Since(certs) > certificateEvery {
			certs = time.Now()
			m.lookAtCertificates(told)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Manager) lookAtSpace() {
	var st unix.Statfs_t
	if err := unix.Statfs(m.cfg.Dir, &st); err != nil {
		return // what the disk does not tell, writing to it does
	}
	free, total := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize //nolint:unconvert // Bsize differs by architecture
	m.mu.Lock()
	before := m.space.level
	now := levelOf(free, total, before)
	m.space = space{level: now, text: fmt.Sprintf("the disk of the data folder is nearly full: %s of %s are free", megabytes(free), megabytes(total))}
	text := m.space.text
	m.mu.Unlock()
	if now == before {
		return
	}
	details := map[string]any{"free_bytes": free, "total_bytes": total}
	switch now {
	case spaceDanger:
		m.event(journal.Error, "node", codeSpace, text, details)
	case spaceWarning:
		if before == spaceOK {
			m.event(journal.Warning, "node", codeSpace, text, details)
		}
	case spaceOK:
		m.event(journal.Info, "node", codeSpace, "the disk of the data folder has room again: "+megabytes(free)+" are free", details)
	}
}

func megabytes(n int64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// certificateDays are how many days before its end a certificate is told of.
var certificateDays = []int{1, 7, 14, 30}

// daysLeft returns the step of certificateDays that a certificate has reached; 0: it has ended; false:
// there is time.
func daysLeft(end, now time.Time) (int, bool) {
	left := end.Sub(now)
	if left <= 0 {
		return 0, true
	}
	for _, d := range certificateDays {
		if left <= time.Duration(d)*day {
			return d, true
		}
	}
	return 0, false
}

// lookAtCertificates tells of the certificates of the pages and of the virtual IP that end soon, once
// for each step.
func (m *Manager) lookAtCertificates(told map[string]int) {
	s, _, _ := m.snapshot()
	for name, at := range map[string]netip.Addr{"of this node's pages": {}, "of the virtual IP": s.VIP.Addr()} {
		if name == "of the virtual IP" && !at.IsValid() {
			continue
		}
		c, err := m.pageCertificate(at)
		if err != nil || len(c.Certificate) == 0 {
			continue
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			continue
		}
		step, soon := daysLeft(leaf.NotAfter, time.Now())
		sum := sha256.Sum256(leaf.Raw)
		key := hex.EncodeToString(sum[:8])
		if before, known := told[key]; !soon || known && before <= step {
			continue
		}
		told[key] = step
		text, sev := fmt.Sprintf("the certificate %s ends on %s", name, leaf.NotAfter.UTC().Format("2006-01-02 15:04 UTC")), journal.Warning
		if step == 0 {
			text, sev = fmt.Sprintf("the certificate %s has ended on %s", name, leaf.NotAfter.UTC().Format("2006-01-02 15:04 UTC")), journal.Error
		}
		m.event(sev, "trust", codeCertificate, text, map[string]any{"notice": fmt.Sprintf("certificate %s %d", key, step), "ends": leaf.NotAfter.UTC().Format(time.RFC3339)})
	}
}
