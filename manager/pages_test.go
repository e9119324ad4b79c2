package manager

import (
	"net/netip"
	"testing"

	"redundancypool/manager/settings"
)

func TestValuesOfTheFormLeadBackToTheSettings(t *testing.T) {
	full := settings.Default()
	full.Mode, full.Name, full.Active = settings.Master, "cell 1", true
	full.VIP = netip.MustParsePrefix("10.0.0.50/24")
	full.Local.Address, full.Peer.Second = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.1.0.2")
	for _, s := range []settings.Settings{settings.Default(), full} {
		back, err := settings.Settings{}.Apply(settingsValues(s))
		if err != nil {
			t.Fatal(err)
		}
		if back != s {
			t.Errorf("went in\n%+v\ncame back\n%+v", s, back)
		}
	}
}
