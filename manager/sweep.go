package manager

import (
	"fmt"
	"log/slog"

	"redundancypool/manager/control"
	"redundancypool/manager/settings"
	"redundancypool/vip"
)

// Sweep removes what a Manager that ended without a word may have left on this host: the virtual
// IP of the settings in dir, and its rules. It is what a service manager runs after the process
// has ended, and refuses while one runs on dir.
func Sweep(dir string) error {
	s, err := settings.Load(dir)
	if err != nil {
		return err
	}
	if !s.VIP.IsValid() {
		return nil
	}
	lock, err := control.Open(dir, nil, slog.New(slog.DiscardHandler)) // nobody starts meanwhile
	if err != nil {
		return fmt.Errorf("sweep %v: %w", s.VIP.Addr(), err)
	}
	defer lock.Close()
	return vip.Sweep(s.VIP, s.Interface)
}
