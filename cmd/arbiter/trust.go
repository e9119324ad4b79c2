package main

import (
	"context"
	"encoding/json"
	"fmt"
	"text/tabwriter"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
)

type connectionsCmd struct {
	data
	JSON bool `help:"One JSON object."`
}

// Run shows fingerprints on lines of their own, so that they can be compared and copied.
func (c *connectionsCmd) Run(ctx context.Context, con console) error {
	var all arbiter.Connections
	if err := control.NewClient(c.Data).Call(ctx, "connections", nil, nil, &all); err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(con.out).Encode(all)
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "This node\n  %v\n", all.Fingerprint)
	for _, k := range all.Contacts {
		what := "waits"
		switch {
		case !k.Rejected.IsZero():
			what = "rejected until " + k.Rejected.UTC().Format(time.RFC3339)
		case !k.Instead.IsZero():
			what = "CHANGED, approved is " + k.Instead.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\tsince %s\n  %v\n", what, k.Role, k.Name, k.Address, k.First.UTC().Format(time.RFC3339), k.Fingerprint)
	}
	for _, p := range all.Approved {
		fmt.Fprintf(t, "approved\t%s\t%s\t%s\tsince %s by %s\n  %v\n", p.Role, p.Name, p.Address, time.UnixMilli(p.ApprovedMS).UTC().Format(time.RFC3339), p.How, p.Fingerprint)
	}
	return t.Flush()
}

// aboutKey is a command about one key.
type aboutKey struct {
	Fingerprint string `arg:"" help:"All 64 digits, as the other node shows them itself."`
	data
}

func (a aboutKey) call(ctx context.Context, con console, op string) error {
	var d control.Done
	if err := control.NewClient(a.Data).Call(ctx, op, map[string]string{"fingerprint": a.Fingerprint}, nil, &d); err != nil {
		return err
	}
	_, err := fmt.Fprintln(con.out, d.Message)
	return err
}

type approveCmd struct{ aboutKey }

func (a *approveCmd) Run(ctx context.Context, con console) error { return a.call(ctx, con, "approve") }

type rejectCmd struct{ aboutKey }

func (r *rejectCmd) Run(ctx context.Context, con console) error { return r.call(ctx, con, "reject") }

type withdrawCmd struct{ aboutKey }

func (w *withdrawCmd) Run(ctx context.Context, con console) error {
	return w.call(ctx, con, "withdraw")
}
