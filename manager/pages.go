package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/vip"
	"redundancypool/web"
)

// desk is what the pages can do: the operations of the command line, in the pages' words.
type desk struct{ m *Manager }

func (d desk) faces() faces { return faces(d) }

// pageError turns an operation's error into the pages'.
func pageError(err error) error {
	var e *control.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e):
		p := &web.Problem{Code: e.Code, Message: e.Message, Fix: e.Fix}
		for _, f := range e.Fields {
			p.Fields = append(p.Fields, web.FieldProblem(f))
		}
		for _, q := range e.Confirm {
			p.Confirm = append(p.Confirm, web.Consequence{Text: q.Text, Word: q.Word})
		}
		return p
	case isRefusal(err):
		return &web.Problem{Code: "refused", Message: err.Error()}
	}
	return err
}

// plainly makes the pool's refusal to hand over fit to be shown: it tells the operator the reason.
func plainly(err error) error {
	if err == nil || errors.As(err, new(*web.Problem)) {
		return err
	}
	return &web.Problem{Code: "refused", Message: err.Error()}
}

func said(d control.Done, err error) (string, error) { return d.Message, pageError(err) }

// Settings implements web.Forming.
func (d desk) Settings() web.Settings {
	s, prog, e := d.m.snapshot()
	out := web.Settings{Values: settingsValues(s), Fingerprint: d.m.trust.Fingerprint().String(), Deactivated: s.Deactivated, Over: d.m.over(), Watched: d.m.webWatched()}
	if prog.Tried != nil {
		out.Tried = settingsValues(*prog.Tried)
	}
	if f := prog.FallBack; f != nil {
		out.FallBack = &web.FallBack{Code: f.Code, Text: f.Text, At: time.UnixMilli(f.TimeMS)}
	}
	out.InPool = e != nil && e.pool != nil && e.pool.Record().Phase == pool.PhaseEffective
	for _, p := range d.m.trust.List() {
		out.Peers = append(out.Peers, web.Peer{Fingerprint: p.Fingerprint.String(), Role: p.Role, Name: p.Name, Since: time.UnixMilli(p.ApprovedMS).UTC()})
	}
	all, err := vip.LocalAddresses()
	if err != nil {
		d.m.log.Warn("list addresses for the settings", "error", err)
	}
	for _, a := range all {
		ip := a.Address.Addr()
		if !ip.IsValid() || a.Loopback || ip.IsLinkLocalUnicast() || s.Mode != settings.Standalone && ip == s.VIP.Addr() {
			continue
		}
		out.Addresses = append(out.Addresses, web.Address{Address: a.Address.String(), Interface: a.Interface, Dynamic: a.Dynamic})
	}
	return out
}

// Verify implements web.Forming.
func (d desk) Verify(ctx context.Context, values map[string]string) ([]web.Check, error) {
	r, err := d.faces().Verify(ctx, control.Form{Values: values})
	if err != nil {
		return nil, pageError(err)
	}
	return webChecks(r.Checks), nil
}

// Connect implements web.Forming.
func (d desk) Connect(ctx context.Context, values map[string]string, member string) ([]web.Check, error) {
	r, err := d.faces().Verify(ctx, control.Form{Values: values, Member: member})
	return webChecks(r.Checks), pageError(err)
}

func webChecks(checks []control.Check) []web.Check {
	out := make([]web.Check, len(checks))
	for i, c := range checks {
		out[i] = web.Check(c)
	}
	return out
}

// atVIP puts the fault of a virtual IP outside the LAN beside the virtual IP: on the page its
// prefix is that of the local address, so none of the other addresses is to blame.
func atVIP(s settings.Settings, err error) error {
	var es settings.Errors
	if !errors.As(err, &es) || !slices.ContainsFunc(es, func(e settings.FieldError) bool { return e.Field == "local.address" && e.Code == "subnet" }) {
		return err
	}
	out := settings.Errors{outsideLAN(s)}
	for _, e := range es {
		if e.Code != "subnet" {
			out = append(out, e)
		}
	}
	return out
}

func outsideLAN(s settings.Settings) settings.FieldError {
	return settings.FieldError{Field: "vip", Code: "subnet", Message: fmt.Sprintf("%v is not in the network of the local address %v", s.VIP.Addr(), s.Local.Address), Fix: "choose a free address in that network"}
}

// Worst implements web.Forming.
func (d desk) Worst(values map[string]string) (time.Duration, error) {
	s, _, _ := d.m.snapshot()
	timing := map[string]string{}
	for k, v := range values {
		if len(k) > 7 && k[:7] == "timing." {
			timing[k] = v
		}
	}
	next, err := s.Apply(timing)
	if err != nil {
		return 0, pageError(fieldErrors(err))
	}
	t := poolTiming(next)
	if err := t.Validate(); err != nil {
		p := &web.Problem{Code: "timing", Message: err.Error()}
		var e *pool.TimingError
		if errors.As(err, &e) {
			p.Fields = []web.FieldProblem{{Field: "timing." + e.Field, Code: "timing", Message: e.Text, Fix: e.Fix}}
		}
		return 0, p
	}
	return t.WorstTakeover(), nil
}

// Set implements web.Forming.
func (d desk) Set(ctx context.Context, values map[string]string, pairing, arbiterPairing string) (string, error) {
	return said(d.faces().Set(ctx, control.Form{Values: values, Pairing: pairing, ArbiterPairing: arbiterPairing, Yes: true}))
}

// Token implements web.Forming.
func (d desk) Token(ctx context.Context) (string, error) {
	t, err := d.faces().Token(ctx)
	return t, pageError(err)
}

// Cancel implements web.Forming.
func (d desk) Cancel(ctx context.Context) (string, error) { return said(d.faces().Cancel(ctx)) }

// Dismiss implements web.Forming.
func (d desk) Dismiss(context.Context) error {
	m := d.m
	m.mu.Lock()
	if m.progress.Forming || m.progress.FallBack == nil {
		m.mu.Unlock()
		return nil
	}
	m.progress = settings.Progress{}
	m.mu.Unlock()
	return settings.SaveProgress(m.cfg.Dir, settings.Progress{})
}

// Leave implements web.Forming.
func (d desk) Leave(ctx context.Context, yes bool) (string, error) {
	return said(d.faces().Leave(ctx, yes))
}

// Activate implements web.Forming.
func (d desk) Activate(ctx context.Context) (string, error) { return said(d.faces().Activate(ctx)) }

// Deactivate implements web.Forming.
func (d desk) Deactivate(ctx context.Context, yes bool) (string, error) {
	text, err := said(d.faces().Deactivate(ctx, yes))
	return text, plainly(err)
}

// Recover implements web.Forming.
func (d desk) Recover(ctx context.Context, yes bool) (string, error) {
	return said(d.faces().Recover(ctx, yes))
}

var _ web.Operations = desk{}
