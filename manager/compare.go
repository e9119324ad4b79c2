package manager

import (
	"context"
	"fmt"
	"slices"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

// mismatch is what the Master last asked for that this Backup is not set to.
type mismatch struct {
	differences []pool.Difference
	at          time.Time
}

// joinRequest is what a Master with these settings asks a member for, without the attempt.
func (m *Manager) joinRequest(s settings.Settings, as pool.Role, at settings.Member) pool.JoinRequest {
	return pool.JoinRequest{As: as, Address: at.AddrPort(), Second: at.SecondAddrPort(), Master: localAddr(s), VIP: s.VIP.String(), Version: m.cfg.Version}
}

// compareLocked keeps the differences for this Backup's own waiting page, and refuses with them;
// m.mu is held.
func (m *Manager) compareLocked(q pool.JoinRequest) error {
	s := m.settings
	diff := q.Differences(s.Local.AddrPort(), s.Local.SecondAddrPort(), s.Peer.AddrPort(), s.VIP, m.cfg.Version)
	m.mismatch = mismatch{diff, time.Now()}
	if len(diff) == 0 {
		return nil
	}
	return pool.MismatchError(diff)
}

func (m *Manager) differing() []pool.Difference {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mismatch.differences
}

// tellDifferences makes an event of differences that were not there before; m.mu is not held.
func (m *Manager) tellDifferences(before []pool.Difference) {
	if now := m.differing(); len(now) > 0 && !slices.Equal(now, before) {
		m.event(journal.Warning, "pool", "values_differ", "the Master asks for other values than this Backup has: "+pool.MismatchError(now).Error(), nil)
	}
}

// onCompare answers a Master that only wants to know what differs.
func (m *Manager) onCompare(_ context.Context, q pool.JoinRequest) (any, error) {
	defer m.tellDifferences(m.differing())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.settings.Mode != settings.Backup {
		return nil, refuseNotOnHold(m.settings)
	}
	return struct{}{}, m.compareLocked(q)
}

// differs puts a difference beside the Master's field; field is that of the member's address.
func differs(role pool.Role, field string, d pool.Difference) control.FieldError {
	at := map[string]string{"vip": "vip", "prefix": "vip", "master": "local.address", "second": "peer.second"}[d.Field]
	if at == "" {
		at = field
	}
	what := map[string]string{
		"vip": "virtual IP", "prefix": "prefix length", "master": "address of the Master", "member": "address of the " + role.String(),
		"second": "address on the second path", "version": "version",
	}[d.Field]
	fix := "set the same on both"
	if d.Field == "version" {
		fix = "install the same release on all members"
	}
	return control.FieldError{Field: at, Code: "differs", Message: fmt.Sprintf("%s: the %v has %s, this Master has %s", what, role, d.Asked, d.Asker), Fix: fix}
}
