package manager

import (
	"net/netip"

	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
	"redundancypool/web"
)

// Waiting implements web.Forming.
func (d desk) Waiting() web.Waiting {
	m := d.m
	s, prog, e := m.snapshot()
	w := web.Waiting{Forming: prog.Forming, ToCopy: -1}
	if !prog.Forming {
		return w
	}
	if e != nil {
		if p, begun := e.transfer.view(); begun {
			w.Copy = &web.Copy{Bytes: p.Done, Total: p.Total, PerSecond: p.PerSecond, LeftMS: p.Left.Milliseconds()}
		}
	}
	if s.Mode == settings.Master {
		m.mu.Lock()
		a := m.attempt
		m.mu.Unlock()
		var steps []pool.Step
		if a != nil {
			steps, w.Problem = a.view()
		}
		w.Members, w.ToCopy = masterList(s, steps)
	} else {
		w.HoldsToken = e == nil || e.pool == nil
		w.Members, w.ToCopy = m.backupList(s, e)
		for _, x := range m.differing() {
			w.Differences = append(w.Differences, web.Difference{What: pool.DifferenceName(x.Field), Master: x.Asker, Here: x.Asked})
		}
	}
	m.addStatus(e, s, w.Members)
	return w
}

// todo is a step to come, by the code that the forming reports it with.
type todo struct{ code, text string }

// masterList is the Master's checklist: for each member what has been done, and what is still to
// come. toCopy is how many changes the Backup lacks; -1: not known.
func masterList(s settings.Settings, taken []pool.Step) (list []web.WaitingMember, toCopy int64) {
	toCopy = -1
	part := func(role pool.Role, title string, at settings.Member, done string, todos ...todo) {
		w := web.WaitingMember{Title: title, Role: role.String(), Address: at.AddrPort().String()}
		if done != "" {
			w.Steps = append(w.Steps, web.Step{Text: done, Done: true})
		}
		for _, want := range todos {
			step := web.Step{Text: want.text}
			for _, t := range taken {
				switch {
				case t.Code != want.code:
				case t.Done:
					step.Done = true
				case t.Text != want.text:
					step.Problem = t.Text
				}
				if t.Code == want.code && t.Code == "synchronise" && !t.Done {
					toCopy, step.Problem = int64(t.Behind), ""
				}
			}
			w.Steps = append(w.Steps, step)
		}
		list = append(list, w)
	}
	part(pool.Master, "This Master", s.Local, "settings stored, database saved", todo{"voters", "all members agree: the pool is effective"})
	part(pool.Backup, "Backup", s.Peer, "", todo{"backup_trust", "it and this Master trust each other"}, todo{"backup_join", "it agrees to join"},
		todo{"backup_connect", "it is connected"}, todo{"synchronise", "it has all data"})
	part(pool.Arbiter, "Arbiter", s.Arbiter, "", todo{"arbiter_trust", "it and this Master trust each other"}, todo{"arbiter_join", "it agrees to join"},
		todo{"arbiter_connect", "it is connected"})
	return list, toCopy
}

// backupList is the Backup's checklist.
func (m *Manager) backupList(s settings.Settings, e *engine) (list []web.WaitingMember, toCopy int64) {
	toCopy = -1
	record, err := m.approvedAt(pool.Master, s.Peer.AddrPort())
	trusted := err == nil
	joined := e != nil && e.pool != nil
	self := web.WaitingMember{Title: "This Backup", Role: pool.Backup.String(), Address: s.Local.AddrPort().String(),
		Steps: []web.Step{{Text: "settings stored, own data saved and put aside", Done: true}}}
	master := web.WaitingMember{Title: "Master", Role: pool.Master.String(), Address: s.Peer.AddrPort().String(), Steps: []web.Step{
		{Text: "it has proved itself with this node's token, or is approved here by its fingerprint", Done: trusted},
		{Text: "it has approved this Backup", Done: joined || trusted && (record.How == trust.ByToken || m.known.trusts(record.Fingerprint))},
		{Text: "it has configured this Backup", Done: joined},
	}}
	var third []web.WaitingMember
	inStep, effective := false, false
	if joined {
		st := e.pool.State()
		effective = st.Record.Phase == pool.PhaseEffective
		for _, o := range st.Members {
			answers := web.Step{Text: "it answers", Done: o.Status == pool.Online || o.Status == pool.Primary || o.Status == pool.Alone, Problem: o.Failure}
			switch {
			case o.ID == st.Record.Self:
				inStep, toCopy = o.InStep, int64(o.Behind)
			case o.Role == pool.Arbiter:
				third = append(third, web.WaitingMember{Title: "Arbiter", Role: pool.Arbiter.String(), Address: o.Address.String(), Steps: []web.Step{answers}})
			default:
				master.Steps = append(master.Steps, answers)
			}
		}
	}
	self.Steps = append(self.Steps, web.Step{Text: "the Master's data are copied", Done: inStep}, web.Step{Text: "all members agree: the pool is effective", Done: effective})
	return append([]web.WaitingMember{self, master}, third...), toCopy
}

// addStatus puts each member's name and status to its part of the list, as far as they are known.
func (m *Manager) addStatus(e *engine, s settings.Settings, list []web.WaitingMember) {
	known := map[string]pool.MemberState{}
	if e != nil && e.pool != nil {
		st := e.pool.State()
		for _, o := range st.Members {
			if o.ID != st.Record.Self {
				known[o.Role.String()] = o
			}
		}
	}
	for i := range list {
		w := &list[i]
		if i == 0 {
			w.Status = pool.Configuring.String()
			if s.Mode == settings.Backup && (e == nil || e.pool == nil) {
				w.Status = pool.OnHold.String()
			}
			continue
		}
		w.Status = pool.Unknown.String()
		if o, ok := known[w.Role]; ok {
			w.Status, w.Title = o.Status.String(), w.Title+" "+o.Name
			continue
		}
		at, _ := netip.ParseAddrPort(w.Address)
		var role pool.Role
		if role.UnmarshalText([]byte(w.Role)) == nil {
			p, err := m.approvedAt(role, at)
			if w.Untrusted = err != nil; w.Untrusted {
				w.Status = pool.Unreachable.String()
			} else if p.Name != "" {
				w.Title += " " + p.Name
			}
		}
	}
}
