package main

import (
	"context"
	"fmt"

	"redundancypool/manager/control"
)

type replaceCmd struct {
	data
	Member  string `required:"" enum:"backup,master,arbiter" placeholder:"ROLE" help:"Whose place: backup, master or arbiter."`
	Address string `placeholder:"IP" help:"Address of the new machine; the old one's when not given."`
	Port    uint16 `placeholder:"PORT" help:"Its pool port, 8099 by default."`
	Second  string `placeholder:"IP" help:"Its address on the second path."`
	Pairing string `placeholder:"TOKEN" help:"Its pairing token."`
	yes
}

// Run prints the steps as they come.
func (r *replaceCmd) Run(ctx context.Context, con console) error {
	q := control.Replacement{Member: r.Member, Address: r.Address, Port: r.Port, Second: r.Second, Pairing: r.Pairing}
	return con.confirmed(r.Yes, func(yes bool) (control.Done, error) {
		q.Yes = yes
		return con.connect(r.Data).Replace(ctx, q, con.step)
	})
}

type resyncCmd struct {
	data
	yes
}

// Run prints the steps as they come.
func (r *resyncCmd) Run(ctx context.Context, con console) error {
	return con.confirmed(r.Yes, func(yes bool) (control.Done, error) { return con.connect(r.Data).Resync(ctx, yes, con.step) })
}

// step prints one step of a longer operation.
func (c console) step(s control.Step) error {
	_, err := fmt.Fprintf(c.out, "%6d ms  %s\n", s.AtMS, s.Text)
	return err
}
