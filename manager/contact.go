package manager

import (
	"redundancypool/arbiter"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

// introduction is what this Manager says of itself to anybody on the pool port; fingerprint is the
// asker's, empty for nobody in particular.
func (m *Manager) introduction(fingerprint string) pool.Introduction {
	s, prog, e := m.snapshot()
	in := pool.Introduction{
		Role: string(s.Mode), Name: nodeName(s, m.trust), Version: m.cfg.Version, Standing: pool.Free, Modules: m.cfg.Modules,
		Trusts: arbiter.TrustedAs(m.trust, fingerprint),
	}
	if in.Role == "" {
		in.Role = string(settings.Standalone)
	}
	switch {
	case e == nil || e.settings.Mode != s.Mode: // restarting
		switch {
		case s.Mode == settings.Backup && prog.Forming:
			in.Standing = pool.Waiting
		case s.Mode != settings.Standalone && s.Mode != "":
			in.Standing = pool.Joining
		}
	case e.pool != nil:
		rec := e.pool.Record()
		in.Fellow = arbiter.IsFellow(rec, fingerprint)
		switch {
		case rec.Phase == pool.PhaseEffective:
			in.Standing = pool.Bound
		case rec.Phase == pool.PhaseForming || prog.Forming:
			in.Standing = pool.Joining
		}
	case s.Mode == settings.Backup:
		in.Standing = pool.Waiting
	}
	return in
}
