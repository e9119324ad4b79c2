package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"redundancypool/manager/control"
)

type unitCmd struct {
	Add    unitAddCmd    `cmd:"" help:"Let a field unit log in, and print its destination profile with its new secret."`
	List   unitListCmd   `cmd:"" help:"List the field units."`
	Remove unitRemoveCmd `cmd:"" help:"End a field unit's right to log in; its data stay."`
}

type unitAddCmd struct {
	Name string `arg:"" help:"The unit's name: letters, digits, _ and -, up to 64."`
	data
}

func (u *unitAddCmd) Run(ctx context.Context, con console) error {
	profile, err := con.connect(u.Data).AddUnit(ctx, u.Name)
	if err != nil {
		return err
	}
	return printJSON(con.out, profile)
}

type unitListCmd struct {
	data
	JSON bool `help:"One JSON object with the list units."`
}

func (u *unitListCmd) Run(ctx context.Context, con console) error {
	units, err := con.connect(u.Data).ListUnits(ctx)
	if err != nil {
		return err
	}
	if u.JSON {
		if units == nil {
			units = []control.Unit{}
		}
		raw, err := json.Marshal(map[string]any{"units": units})
		if err != nil {
			return err
		}
		return printJSON(con.out, raw)
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "Unit\tState\tLast seen")
	for _, unit := range units {
		state, seen := "not connected", "never"
		switch {
		case unit.Connected:
			state = "connected"
		case unit.NoSecret:
			state = "needs a new profile: add it again"
		}
		if unit.LastSeenMS != 0 {
			seen = time.UnixMilli(unit.LastSeenMS).UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", unit.Name, state, seen)
	}
	return t.Flush()
}

type unitRemoveCmd struct {
	Name string `arg:"" help:"The unit's name."`
	data
	yes
}

func (u *unitRemoveCmd) Run(ctx context.Context, con console) error {
	return con.confirmed(u.Yes, func(yes bool) (control.Done, error) { return con.connect(u.Data).RemoveUnit(ctx, u.Name, yes) })
}

type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Add a user; the password is read from standard input."`
	Passwd userPasswdCmd `cmd:"" help:"Change a user's password, read from standard input; all sessions of the user end."`
	Logout userLogoutCmd `cmd:"" help:"End all sessions of a user, on both Managers."`
}

type userAddCmd struct {
	Name string `arg:"" help:"The user's name."`
	data
}

func (u *userAddCmd) Run(ctx context.Context, con console) error {
	password, err := con.password()
	if err != nil {
		return err
	}
	return con.done(con.connect(u.Data).AddUser(ctx, u.Name, password))
}

type userPasswdCmd struct {
	Name string `arg:"" help:"The user's name."`
	data
}

func (u *userPasswdCmd) Run(ctx context.Context, con console) error {
	password, err := con.password()
	if err != nil {
		return err
	}
	return con.done(con.connect(u.Data).SetPassword(ctx, u.Name, password))
}

type userLogoutCmd struct {
	Name string `arg:"" help:"The user's name."`
	data
}

func (u *userLogoutCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(u.Data).EndSessions(ctx, u.Name))
}
