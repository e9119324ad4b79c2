package manager

import (
	"context"
	"fmt"
	"slices"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
)

// Partner deactivates or activates one member for maintenance, from the Primary's side. It is part
// of what all members agreed on, so it survives every restart and is shown everywhere.
func (f faces) Partner(ctx context.Context, member string, active, yes bool) (control.Done, error) {
	e, err := f.m.primaryEngine(ctx)
	if err != nil {
		return control.Done{}, err
	}
	role, who, err := e.place(member)
	if err != nil {
		return control.Done{}, err
	}
	if who.ID == "" {
		return control.Done{}, refuse("missing", "put one in its place first", "this pool has no %v now", role)
	}
	if !active && !yes {
		text := who.Name + " votes and follows, but takes no Primary until it is activated; a failover is not possible meanwhile."
		if role == pool.Arbiter {
			text = who.Name + " may be stopped: its absence is expected until it is activated. A failover is not possible while it is away."
		}
		return control.Done{}, &control.Error{Code: "confirm", Message: "a deactivated member does not count for failover", Fix: "confirm it, or give --yes",
			Confirm: []control.Question{{Code: "deactivate", Text: text}}}
	}
	word := "deactivated"
	if active {
		word = "activated"
	}
	err = e.agree(ctx, who.Name+" is "+word, func(a *agreement) error {
		a.Members = slices.Clone(a.Members)
		for i := range a.Members {
			if a.Members[i].ID == who.ID {
				a.Members[i].Deactivated = !active
			}
		}
		return nil
	})
	if err != nil {
		return control.Done{}, err
	}
	return control.Done{Message: fmt.Sprintf("redundancy is %s on %s", word, who.Name)}, nil
}
