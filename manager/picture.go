package manager

import (
	"fmt"
	"slices"
	"time"

	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/web"
)

// complete adds what holds in every mode: when, in which maintenance, what to do about each reason,
// and a reason whenever a failover is not possible.
func (m *Manager) complete(r *web.Redundancy, set settings.Settings) {
	r.At, r.Maintenance = time.Now().UTC(), set.Deactivated
	if !slices.ContainsFunc(r.Members, func(o web.Member) bool { return o.Self }) {
		known := configuredMembers(*r, set, m.cfg.Version)
		if len(r.Members) > 0 {
			known = known[:1]
		}
		r.Members = append(known, r.Members...)
	}
	number(r.Members, r.Role)
	for i := range r.Members {
		if r.Members[i].Role != pool.Arbiter.String() {
			r.Members[i].Licence = r.Licence.State
		}
	}
	if !r.FailoverPossible && len(r.Hindrances()) == 0 {
		code, text := "no_primary", "no Manager is Primary, as far as this member can tell"
		if len(r.Members) < 2 {
			code, text = "standalone", "no redundancy is configured: there is no other Manager"
		}
		r.Reasons = append(r.Reasons, web.Reason{Code: code, Text: text})
	}
	for i := range r.Reasons {
		if r.Reasons[i].Fix == "" {
			r.Reasons[i].Fix = web.Fix(r.Reasons[i].Code)
		}
	}
}

// configuredMembers are the members as the settings name them, while nothing runs that could know
// more of them.
func configuredMembers(r web.Redundancy, set settings.Settings, version string) []web.Member {
	member := func(name string, role pool.Role, status string, at settings.Member, self bool) web.Member {
		row := web.Member{Name: name, Role: role.String(), Status: status, Self: self, Symbol: at.Symbol, Comment: at.Comment}
		if at.Address.IsValid() {
			row.Address, row.Host, row.Port = at.AddrPort().String(), at.Address.String(), int(at.AddrPort().Port())
		}
		return row
	}
	role, other := pool.Standalone, pool.Standalone
	switch set.Mode {
	case settings.Master:
		role, other = pool.Master, pool.Backup
	case settings.Backup:
		role, other = pool.Backup, pool.Master
	}
	self := member(r.Node, role, r.Status, set.Local, true)
	self.Version, self.LastHeardMS, self.ReportAgeMS = version, ref(int64(0)), ref(int64(0))
	out := []web.Member{self}
	unknown := pool.Unknown.String()
	if other != pool.Standalone {
		out = append(out, member("", other, unknown, set.Peer, false))
	}
	if set.Mode == settings.Master {
		out = append(out, member("", pool.Arbiter, unknown, set.Arbiter, false))
	}
	return out
}

// number counts the rows, and says each status in the words of other systems.
func number(rows []web.Member, role string) {
	for i := range rows {
		rows[i].Index, rows[i].EquivalentTo = i+1, web.Equivalent(rows[i].Status, role)
		rows[i].IsPrimary = rows[i].Status == pool.Primary.String()
		rows[i].Active = !rows[i].Maintenance
		if rows[i].Licence == "" {
			rows[i].Licence = "unknown"
		}
		if rows[i].Database == "" {
			rows[i].Database = "unknown"
		}
	}
}

// describeMembers adds the members, this node first, and who hears whom.
func (e *engine) describeMembers(r *web.Redundancy, st pool.State) {
	r.Members = nil
	for _, m := range st.Members {
		row := e.memberRow(m, st)
		if m.ID == st.Record.Self {
			row.Status, row.Role, row.Self = r.Status, memberRole(m.Role, r.Role), true
			row.LastHeardMS, row.ReportAgeMS = ref(int64(0)), ref(int64(0))
			row.FieldUnits, row.Browsers = ref(len(e.sessions())), ref(e.m.pages.Browsers())
			if st.Sick != "" {
				row.Fault = st.Sick
			}
			r.Members = append([]web.Member{row}, r.Members...)
			continue
		}
		r.Members = append(r.Members, row)
	}
	r.Links = linksOf(st)
}

func (e *engine) memberRow(m pool.MemberState, st pool.State) web.Member {
	row := web.Member{
		Name: m.Name, Role: m.Role.String(), Status: m.Status.String(),
		Symbol: m.Symbol, Comment: m.Comment, Maintenance: m.Maintenance, Version: m.Version, Fault: faultOf(m),
	}
	if row.Symbol == "" && row.Comment == "" {
		row.Symbol, row.Comment = e.ownWords(m.Role)
	}
	if m.Address.IsValid() {
		row.Address, row.Host, row.Port = m.Address.String(), m.Address.Addr().String(), int(m.Address.Port())
	}
	if m.Second.IsValid() {
		row.Second = m.Second.String()
	}
	if m.Heard >= 0 {
		row.LastHeardMS = ref(m.Heard.Milliseconds())
	}
	current := m.Reported >= 0 && m.Reported <= st.Record.Timing.Detect() // what it says of itself still holds
	if f, ok := st.Record.Member(m.Follows); ok && m.Follows != m.ID && current {
		row.ConnectedTo = f.Name
	}
	if m.Role == pool.Arbiter {
		row.Database = "none"
	} else {
		row.InStep = ref(m.InStep)
		if st.Leader != "" {
			row.Behind = ref(m.Behind) // the Primary alone can count
		}
		row.Database = databaseWord(m, st)
		if st.Verified != 0 && len(st.Record.Members) > 1 {
			row.Verified, row.VerifiedAt = ref(!st.Differs), ref(st.Verified)
		}
	}
	if m.Reported < 0 {
		return row
	}
	row.ReportAgeMS = ref(m.Reported.Milliseconds())
	row.Term, row.Position = ref(m.Term), ref(m.Last.Index)
	row.CommitMS = ref(inMS(m.Commit))
	if m.Role != pool.Arbiter {
		row.Stored = ref(m.Applied)
		if current {
			row.FieldUnits, row.Browsers = ref(m.Facts.FieldUnits), ref(m.Facts.Browsers)
		}
	}
	if m.ID != st.Record.Self {
		row.ClockMS, row.RoundTripMS = ref(inMS(m.ClockOff)), ref(inMS(m.RTT))
	}
	if m.Facts.StartedMS != 0 {
		row.Since = ref(time.UnixMilli(m.Facts.StartedMS).UTC())
	}
	if m.Facts.Bytes != 0 {
		row.BytesOnDisk = ref(m.Facts.Bytes)
	}
	return row
}

// ownWords are what this node's settings call a member that has no symbol and comment of its own.
func (e *engine) ownWords(role pool.Role) (symbol, comment string) {
	at := e.settings.Peer
	switch {
	case role == pool.Arbiter:
		at = e.settings.Arbiter
	case role == pool.Standalone, role.String() == string(e.settings.Mode):
		at = e.settings.Local
	}
	return at.Symbol, at.Comment
}

// faultOf says what is wrong with a member, as it says itself or as this one sees; empty: nothing.
func faultOf(m pool.MemberState) string {
	switch {
	case m.Status == pool.Unreachable && m.Failure != "":
		return m.Failure
	case m.Status == pool.Unreachable && m.Heard >= 0:
		return fmt.Sprintf("silent for %v", m.Heard.Round(100*time.Millisecond))
	case m.Disk != "":
		return m.Disk
	}
	return m.Unfit
}

func databaseWord(m pool.MemberState, st pool.State) string {
	switch {
	case st.Differs && m.Role != pool.Arbiter:
		return "differs"
	case m.InStep:
		return "in_step"
	case m.Status == pool.Unknown || st.Leader == "":
		return "unknown"
	}
	return "behind"
}

func inMS(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// linksOf is the matrix of who hears whom. What a member says itself ages with its report; when it
// is not heard, its side is not known.
func linksOf(st pool.State) []web.Link {
	limit := st.Record.Timing.Detect()
	var out []web.Link
	second := slices.ContainsFunc(st.Members, func(m pool.MemberState) bool { return m.Second.IsValid() })
	for _, by := range st.Members {
		for _, of := range st.Members {
			if by.ID == of.ID {
				continue
			}
			for path := range 2 {
				if path == 1 && !(second && by.Second.IsValid() && of.Second.IsValid()) {
					continue
				}
				l := web.Link{By: by.Role.String(), Of: of.Role.String(), Path: path + 1, State: "unknown"}
				if seen, ok := by.Hears[of.ID]; ok && by.HearsAge >= 0 {
					l.State, l.HeardMS = hears(seen[path], by.HearsAge, limit)
				}
				out = append(out, l)
			}
		}
	}
	return out
}

// hears judges one direction: ago is in ms, -1 never, as reported that long before now.
func hears(ago int64, reported, limit time.Duration) (state string, heard *int64) {
	if ago >= 0 {
		heard = ref(ago + reported.Milliseconds())
	}
	switch {
	case reported > limit:
		return "unknown", heard
	case heard == nil:
		return "never", nil
	case *heard > limit.Milliseconds():
		return "silent", heard
	}
	return "heard", heard
}

// describeRecovery says what Manual and Automatic mean now.
func describeRecovery(r *web.Redundancy, st pool.State) {
	t := st.Record.Timing
	r.Timing = &web.Timing{
		PeriodMS: t.HeartbeatPeriod.Milliseconds(), TimeoutMS: t.HeartbeatTimeout.Milliseconds(), Retries: t.MissedHeartbeats,
		ConnectTimeoutMS: t.ConnectTimeout.Milliseconds(), DetectionMS: t.Detect().Milliseconds(),
	}
	if len(st.Record.Members) < 2 {
		return
	}
	v := st.Recovery
	out := &web.Recovery{Mode: "manual", WaitsMS: v.Waits.Milliseconds(), Longer: v.Longer}
	byBackup := slices.ContainsFunc(st.Members, func(m pool.MemberState) bool {
		return m.Role == pool.Backup && m.Status == pool.Primary
	})
	waits := v.Waits.String()
	switch {
	case !v.Active && byBackup:
		out.Text = "the Backup stays Primary until somebody hands back to the Master"
	case !v.Active:
		out.Text = "after a takeover the Backup stays Primary until somebody hands back to the Master"
	case !byBackup:
		out.Text = "after a takeover the Master takes Primary back by itself, once the pool has been Protected for " + waits
	case v.Left >= 0:
		out.LeftMS = ref(v.Left.Milliseconds())
		out.Text = "the Master takes Primary back"
	default:
		out.Text = "the Master takes Primary back once the pool has been Protected for " + waits
	}
	if v.Active {
		out.Mode = "automatic"
		if v.Longer && byBackup {
			out.Text += fmt.Sprintf(" (the wait is longer than %v because of what happened lately)", t.StabilityDelay)
		}
	}
	r.Recovery = out
}
