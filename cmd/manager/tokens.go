package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/user"
	"text/tabwriter"
	"time"

	"redundancypool/manager/control"
)

type apiTokenCmd struct {
	Add    apiTokenAddCmd    `cmd:"" help:"Make a token for a program, and print it this once."`
	List   apiTokenListCmd   `cmd:"" help:"List the tokens, without their texts."`
	Remove apiTokenRemoveCmd `cmd:"" help:"End a token."`
}

type apiTokenAddCmd struct {
	Name  string `arg:"" help:"What the token is for."`
	Scope string `help:"read: looks only; operate: may change things too." enum:"read,operate" default:"read"`
	Days  int    `help:"Days until it expires; 0: never." default:"365"`
	data
}

func (a *apiTokenAddCmd) Run(ctx context.Context, con console) error {
	by := "a local command"
	if u, err := user.Current(); err == nil {
		by = "local user " + u.Username
	}
	t, err := con.connect(a.Data).AddToken(ctx, a.Name, a.Scope, a.Days, by)
	if err != nil {
		return err
	}
	fmt.Fprintln(con.out, t.Text)
	return nil
}

type apiTokenListCmd struct {
	data
	JSON bool `help:"One JSON object with the list tokens."`
}

func (l *apiTokenListCmd) Run(ctx context.Context, con console) error {
	all, err := con.connect(l.Data).ListTokens(ctx)
	if err != nil {
		return err
	}
	if l.JSON {
		if all == nil {
			all = []control.Token{}
		}
		raw, err := json.Marshal(map[string]any{"tokens": all})
		if err != nil {
			return err
		}
		return printJSON(con.out, raw)
	}
	w := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "Id\tName\tScope\tMade by\tMade\tExpires")
	for _, t := range all {
		expires := "never"
		if t.ExpiresMS != 0 {
			expires = time.UnixMilli(t.ExpiresMS).UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Name, t.Scope, t.By, time.UnixMilli(t.CreatedMS).UTC().Format(time.RFC3339), expires)
	}
	return w.Flush()
}

type apiTokenRemoveCmd struct {
	ID string `arg:"" help:"The token's id, as in the list."`
	data
}

func (r *apiTokenRemoveCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(r.Data).RemoveToken(ctx, r.ID))
}
