package manager

import (
	"context"
	"slices"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/web"
)

// Seats implements web.Membership.
func (d desk) Seats() []web.Seat {
	_, _, e := d.m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Phase != pool.PhaseEffective {
		return nil
	}
	st := e.pool.State()
	var out []web.Seat
	for _, role := range []pool.Role{pool.Master, pool.Backup, pool.Arbiter} {
		seat := web.Seat{Role: role.String()}
		for _, o := range st.Members {
			if o.Role == role {
				seat.Name, seat.Address, seat.Status, seat.Failure = o.Name, o.Address.String(), o.Status.String(), o.Failure
				seat.Self, seat.Deactivated = o.ID == st.Record.Self, o.Deactivated
				seat.Behind = o.Status != pool.Unreachable && (o.RunsOld || o.Revision < st.Record.Revision)
			}
		}
		out = append(out, seat)
	}
	slices.SortStableFunc(out, func(a, b web.Seat) int {
		switch {
		case a.Self == b.Self:
			return 0
		case a.Self:
			return -1
		}
		return 1
	})
	return out
}

// Change implements web.Membership.
func (d desk) Change() web.Change {
	w := d.m.work()
	steps, over, _, result, err := w.next()
	out := web.Change{Title: w.title, Result: result, Over: over}
	for _, s := range steps {
		out.Steps = append(out.Steps, web.Step{Text: s.Text, Done: s.done})
	}
	if err != nil {
		out.Problem = err.Error()
	}
	return out
}

// Replace implements web.Membership.
func (d desk) Replace(ctx context.Context, q web.Replacement) (string, error) {
	return said(d.faces().Replace(ctx, control.Replacement(q), nil))
}

// Resync implements web.Membership.
func (d desk) Resync(ctx context.Context, yes bool) (string, error) {
	return said(d.faces().Resync(ctx, yes, nil))
}

// Partner implements web.Membership.
func (d desk) Partner(ctx context.Context, member string, active, yes bool) (string, error) {
	return said(d.faces().Partner(ctx, member, active, yes))
}
