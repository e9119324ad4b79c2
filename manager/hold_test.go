package manager

import (
	"log/slog"
	"net/netip"
	"testing"

	"redundancypool/manager/journal"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
)

// The deadline and a person's cancel may come at one moment. The second one must not take the
// settings of before away, nor the reason.
func TestFallingBackTwiceKeepsTheSettingsOfBeforeAndTheFirstReason(t *testing.T) {
	dir := t.TempDir()
	keys, err := trust.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := settings.Default()
	before.Mode, before.Name, before.Listen.MQTTRaw = settings.Standalone, "cell 2", ":1883"
	now := before
	now.Mode, now.Local.Address = settings.Backup, netip.MustParseAddr("10.0.0.2")
	m := &Manager{
		cfg: Config{Dir: dir}, log: slog.New(slog.DiscardHandler), trust: keys, journal: journal.Open(journal.Config{Dir: t.TempDir()}),
		restart: make(chan string, 1), settings: now, progress: settings.Progress{Forming: true, Before: &before},
	}
	defer m.journal.Close()
	m.fallBack("timeout", "no Master came")
	m.fallBack("cancelled", "cancelled by the operator")
	if m.settings != before {
		t.Errorf("settings %+v, want those of before", m.settings)
	}
	if f := m.progress.FallBack; f == nil || f.Code != "timeout" {
		t.Errorf("reason %+v, want the first", f)
	}
	if kept, err := settings.Load(dir); err != nil || kept != before {
		t.Errorf("on disk %+v, %v", kept, err)
	}
}
