package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"

	"redundancypool/manager/control"
)

type redundancyCmd struct {
	Verify      verifyCmd      `cmd:"" help:"Check the settings, and what the flags would change, without changing anything."`
	Set         setCmd         `cmd:"" help:"Store new settings and restart into them: the same as the form."`
	Cancel      cancelCmd      `cmd:"" help:"End the forming of a pool and return to Standalone."`
	Leave       leaveCmd       `cmd:"" help:"Leave the pool in order."`
	Activate    activateCmd    `cmd:"" help:"Take up redundancy again after deactivate."`
	Deactivate  deactivateCmd  `cmd:"" help:"Switch redundancy off and keep its configuration (maintenance)."`
	Token       tokenCmd       `cmd:"" help:"Print a one-time pairing token of this Manager."`
	Connections connectionsCmd `cmd:"" help:"Show whose certificates are trusted here, and who waits for approval."`
	Contact     contactCmd     `cmd:"" help:"Show this node's certificate to another one, and note that one's for approval."`
	Approve     approveCmd     `cmd:"" help:"Trust a node by its fingerprint."`
	Reject      rejectCmd      `cmd:"" help:"Refuse a node that waits for approval, for an hour."`
	Withdraw    withdrawCmd    `cmd:"" help:"End the trust in a node that no running pool needs."`
	Handover    handoverCmd    `cmd:"" help:"Move the Primary to the other Manager, in order."`
	Replace     replaceCmd     `cmd:"" help:"Put a new machine in the place of a member, on the Primary."`
	Resync      resyncCmd      `cmd:"" help:"Throw the other Manager's copy away and make it anew, on the Primary."`
	Drill       drillCmd       `cmd:"" help:"Move Primary to the other Manager and back, with a report; or say when that runs by itself."`
	History     historyCmd     `cmd:"" help:"The changes of Primary: cause, times, what each member saw, and the check of the records."`
	Recover     recoverCmd     `cmd:"" help:"Last resort: make a lone survivor work alone."`
}

// form are the flags of verify and set. What is not given stays as it is.
type form struct {
	Mode           string            `enum:"standalone,master,backup,-" default:"-" placeholder:"MODE" help:"standalone, master or backup."`
	Name           string            `help:"This node's name, free to change."`
	Local          string            `placeholder:"IP" help:"This node's own static address."`
	Peer           string            `placeholder:"IP" help:"Address of the other Manager."`
	Arbiter        string            `placeholder:"IP" help:"Address of the Redundancy Arbiter (on the Master)."`
	VIP            string            `name:"vip" placeholder:"IP/PREFIX" help:"Virtual IP with the LAN's prefix length."`
	Interface      string            `placeholder:"NAME" help:"Network interface that carries the virtual IP."`
	Active         *bool             `negatable:"" help:"The Master takes Primary back by itself (default: by hand)."`
	PoolPort       uint16            `placeholder:"PORT" help:"This node's pool port, 8099 by default."`
	PeerPort       uint16            `placeholder:"PORT" help:"The other Manager's pool port."`
	ArbiterPort    uint16            `placeholder:"PORT" help:"The Arbiter's pool port."`
	LocalSecond    string            `placeholder:"IP" help:"This node's address on the second path; none: no second path."`
	PeerSecond     string            `placeholder:"IP" help:"The other Manager's address on the second path."`
	ArbiterSecond  string            `placeholder:"IP" help:"The Arbiter's address on the second path."`
	Option         map[string]string `placeholder:"KEY=VALUE" help:"Any other setting by its key in settings.toml, like timing.heartbeat_period=25ms."`
	Pairing        string            `placeholder:"TOKEN" help:"Pairing token of the other Manager."`
	ArbiterPairing string            `placeholder:"TOKEN" help:"Pairing token of the Arbiter."`
}

// request returns the flags by the keys of the settings file.
func (f form) request() control.Form {
	values := map[string]string{}
	for key, value := range f.Option {
		values[key] = value
	}
	for key, value := range map[string]string{
		"name": f.Name, "local.address": f.Local, "peer.address": f.Peer, "arbiter.address": f.Arbiter, "vip": f.VIP,
		"interface": f.Interface, "local.second": f.LocalSecond, "peer.second": f.PeerSecond, "arbiter.second": f.ArbiterSecond,
	} {
		if value != "" {
			values[key] = value
		}
	}
	for key, port := range map[string]uint16{"local.port": f.PoolPort, "peer.port": f.PeerPort, "arbiter.port": f.ArbiterPort} {
		if port != 0 {
			values[key] = strconv.Itoa(int(port))
		}
	}
	if f.Mode != "-" {
		values["mode"] = f.Mode
	}
	if f.Active != nil {
		values["active"] = strconv.FormatBool(*f.Active)
	}
	return control.Form{Values: values, Pairing: f.Pairing, ArbiterPairing: f.ArbiterPairing}
}

type verifyCmd struct {
	data
	form
	Connect string `enum:"master,backup,arbiter,-" default:"-" placeholder:"MEMBER" help:"Only try to connect to this member."`
	JSON    bool   `help:"One JSON object."`
}

func (v *verifyCmd) Run(ctx context.Context, con console) error {
	f := v.request()
	if v.Connect != "-" {
		f.Member = v.Connect
	}
	report, err := con.connect(v.Data).Verify(ctx, f)
	if err != nil {
		return err
	}
	if v.JSON {
		raw, err := json.Marshal(report)
		if err != nil {
			return err
		}
		if err := printJSON(con.out, raw); err != nil {
			return err
		}
	} else if err := printChecks(con, report); err != nil {
		return err
	}
	if !report.OK {
		return errors.New("verify found faults: mend what is marked fail and verify again")
	}
	return nil
}

// resultWords are what people read for the results of the checks.
var resultWords = map[string]string{"ok": "pass", "warning": "warning", "failed": "fail", "unknown": "not tested"}

func printChecks(con console, report control.VerifyReport) error {
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	for _, c := range report.Checks {
		text := c.Text
		if c.Fix != "" {
			text += ": " + c.Fix
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", resultWords[c.Result], c.Member, c.Code, text)
	}
	return t.Flush()
}

type setCmd struct {
	data
	form
	yes
}

func (s *setCmd) Run(ctx context.Context, con console) error {
	f := s.request()
	if len(f.Values) == 0 {
		return usageError{errors.New("redundancy set: nothing to set: give --mode and the addresses, see manager redundancy set --help")}
	}
	return con.confirmed(s.Yes, func(yes bool) (control.Done, error) {
		f.Yes = yes
		return con.connect(s.Data).Set(ctx, f)
	})
}

type cancelCmd struct{ data }

func (c *cancelCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(c.Data).Cancel(ctx))
}

type leaveCmd struct {
	data
	yes
}

func (l *leaveCmd) Run(ctx context.Context, con console) error {
	return con.confirmed(l.Yes, func(yes bool) (control.Done, error) { return con.connect(l.Data).Leave(ctx, yes) })
}

type activateCmd struct {
	data
	Member string `enum:"backup,master,arbiter,-" default:"-" placeholder:"ROLE" help:"A partner, on the Primary; this Manager when not given."`
}

func (a *activateCmd) Run(ctx context.Context, con console) error {
	if a.Member != "-" {
		return con.done(con.connect(a.Data).Partner(ctx, a.Member, true, true))
	}
	return con.done(con.connect(a.Data).Activate(ctx))
}

type deactivateCmd struct {
	data
	Member string `enum:"backup,master,arbiter,-" default:"-" placeholder:"ROLE" help:"A partner, on the Primary; this Manager when not given."`
	yes
}

func (d *deactivateCmd) Run(ctx context.Context, con console) error {
	if d.Member != "-" {
		return con.confirmed(d.Yes, func(yes bool) (control.Done, error) {
			return con.connect(d.Data).Partner(ctx, d.Member, false, yes)
		})
	}
	return con.confirmed(d.Yes, func(yes bool) (control.Done, error) { return con.connect(d.Data).Deactivate(ctx, yes) })
}

type tokenCmd struct{ data }

// Run prints the token alone on the last line, so that a script finds it.
func (t *tokenCmd) Run(ctx context.Context, con console) error {
	text, err := con.connect(t.Data).Token(ctx)
	if err != nil {
		return err
	}
	if con.terminal {
		fmt.Fprintln(con.err, "Valid once, for one hour; a newer token replaces it. Give it to the Master with --pairing.")
	}
	_, err = fmt.Fprintln(con.out, text)
	return err
}

type handoverCmd struct {
	data
	To   string `enum:"backup,master,-" default:"-" placeholder:"ROLE" help:"backup or master; the other Manager when not given."`
	JSON bool   `help:"One JSON object instead of the steps."`
}

func (h *handoverCmd) Run(ctx context.Context, con console) error {
	to := h.To
	if to == "-" {
		to = ""
	}
	res, err := con.connect(h.Data).HandOver(ctx, to, func(s control.Step) error {
		if h.JSON {
			return nil
		}
		_, err := fmt.Fprintf(con.out, "%6d ms  %s\n", s.AtMS, s.Text)
		return err
	})
	if err != nil {
		return err
	}
	if h.JSON {
		raw, err := json.Marshal(res)
		if err != nil {
			return err
		}
		return printJSON(con.out, raw)
	}
	if res.Text != "" {
		fmt.Fprintln(con.out, res.Text)
	}
	_, err = fmt.Fprintf(con.out, "%s is Primary at term %d; no write was possible for %.1f ms\n", res.To, res.Term, res.GapMS)
	return err
}

type recoverCmd struct {
	data
	ForceAlone bool `help:"Make this Manager a pool of one although the others cannot agree."`
	yes
}

func (r *recoverCmd) Run(ctx context.Context, con console) error {
	if !r.ForceAlone {
		return usageError{errors.New("redundancy recover: acknowledged records may be lost: if no other member can come back, say --force-alone")}
	}
	return con.confirmed(r.Yes, func(yes bool) (control.Done, error) { return con.connect(r.Data).Recover(ctx, yes) })
}
