package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"redundancypool/manager/control"
)

type connectionsCmd struct {
	data
	JSON bool `help:"One JSON object."`
}

func (c *connectionsCmd) Run(ctx context.Context, con console) error {
	all, err := con.connect(c.Data).Connections(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		raw, err := json.Marshal(all)
		if err != nil {
			return err
		}
		return printJSON(con.out, raw)
	}
	return printConnections(con.out, all)
}

// printConnections shows fingerprints on lines of their own, so that they can be compared and copied.
func printConnections(w io.Writer, all control.Connections) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(what, role, name, address, more, fingerprint string) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n  %s\n", what, role, name, address, more, fingerprint)
	}
	when := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	fmt.Fprintf(t, "This node\n  %s\n", all.Fingerprint)
	for _, c := range all.Contacts {
		what := "waits"
		switch {
		case c.RejectedUntilMS != 0:
			what = "rejected until " + when(c.RejectedUntilMS)
		case c.Instead != "":
			what = "CHANGED, approved is " + c.Instead
		}
		row(what, c.Role, c.Name, c.Address, "since "+when(c.FirstMS), c.Fingerprint)
	}
	for _, p := range all.Approved {
		row("approved", p.Role, p.Name, p.Address, "since "+when(p.SinceMS)+" by "+p.How, p.Fingerprint)
	}
	return t.Flush()
}

type contactCmd struct {
	Address string `arg:"" help:"IP address of the other node, with its pool port where that is not 8099."`
	As      string `required:"" enum:"master,backup,arbiter" placeholder:"ROLE" help:"What the other node is: master, backup or arbiter."`
	data
}

func (c *contactCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(c.Data).Contact(ctx, c.Address, c.As))
}

type approveCmd struct {
	Fingerprint string `arg:"" help:"All 64 digits, as the other node shows them itself."`
	As          string `enum:"master,backup,arbiter,-" default:"-" placeholder:"ROLE" help:"What the other node is, if it has not said so."`
	data
	yes
}

func (a *approveCmd) Run(ctx context.Context, con console) error {
	role := a.As
	if role == "-" {
		role = ""
	}
	return con.confirmed(a.Yes, func(yes bool) (control.Done, error) {
		return con.connect(a.Data).Approve(ctx, a.Fingerprint, role, yes)
	})
}

type rejectCmd struct {
	Fingerprint string `arg:"" help:"Fingerprint of a node that waits for approval."`
	data
}

func (r *rejectCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(r.Data).Reject(ctx, r.Fingerprint))
}

type withdrawCmd struct {
	Fingerprint string `arg:"" help:"Fingerprint of an approved node."`
	data
	yes
}

func (w *withdrawCmd) Run(ctx context.Context, con console) error {
	return con.confirmed(w.Yes, func(yes bool) (control.Done, error) {
		return con.connect(w.Data).Withdraw(ctx, w.Fingerprint, yes)
	})
}
