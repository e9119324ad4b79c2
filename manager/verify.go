package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
)

// The results of a check.
const (
	ok      = "ok"
	warning = "warning"
	failed  = "failed"
	unknown = "unknown" // it could not be checked
)

// findings are the checks made so far, in the order they are shown.
type findings struct{ checks []control.Check }

func (f *findings) add(code, field, member, result, text, fix string) {
	f.checks = append(f.checks, control.Check{Code: code, Field: field, Member: member, Result: result, Text: text, Fix: fix})
}

func (f *findings) report() control.VerifyReport {
	r := control.VerifyReport{OK: true, Checks: f.checks}
	for _, c := range f.checks {
		r.OK = r.OK && c.Result != failed
	}
	return r
}

// refusal returns what failed as an error beside its fields; nil: nothing did.
func (f *findings) refusal() error {
	out := &control.Error{Code: "invalid", Message: "the settings cannot be used"}
	for _, c := range f.checks {
		if c.Result == failed {
			out.Fields = append(out.Fields, control.FieldError{Field: c.Field, Code: c.Code, Message: c.Text, Fix: c.Fix})
		}
	}
	if len(out.Fields) == 0 {
		return nil
	}
	return out
}

// Verify implements control.Redundancy: everything that can be known of the settings, on this
// host, on the wire and from the members; nothing is changed.
func (f faces) Verify(ctx context.Context, form control.Form) (control.VerifyReport, error) {
	m := f.m
	old, _, _ := m.snapshot()
	next, err := old.Apply(form.Values)
	if err != nil {
		return control.VerifyReport{}, fieldErrors(err)
	}
	var out findings
	if form.Member != "" {
		return m.connect(ctx, next, form.Member)
	}
	if err := verifyForm(next, &out); err != nil {
		return control.VerifyReport{}, err
	}
	m.verifyHost(old, next, &out)
	m.around(ctx, next, &out, m.verifyWire, m.verifyMembers)
	return out.report(), nil
}

// connect tries to connect to one member.
func (m *Manager) connect(ctx context.Context, s settings.Settings, member string) (control.VerifyReport, error) {
	for _, o := range partners(s) {
		if o.role.String() == member {
			var out findings
			m.verifyMember(ctx, s, o, &out)
			return out.report(), nil
		}
	}
	return control.VerifyReport{}, refuse("no_member", "give the mode and the member's address", "these settings name no %s", member)
}

// checkBeforeSet refuses settings that cannot work, beside their field; nothing is changed then.
func (m *Manager) checkBeforeSet(ctx context.Context, old, next settings.Settings) error {
	var f findings
	m.verifyHost(old, next, &f)
	if next.Mode == settings.Master { // a Backup is set first: its Master may be away
		m.around(ctx, next, &f, m.verifyWire, m.verifyMembers)
	} else {
		m.around(ctx, next, &f, m.verifyWire)
	}
	// Whom to trust the tokens decide, which come next.
	f.checks = slices.DeleteFunc(f.checks, func(c control.Check) bool { return strings.HasSuffix(c.Code, "_trust") })
	return f.refusal()
}

// checkListeners refuses listeners that cannot be, beside their field.
func (m *Manager) checkListeners(old, next settings.Settings) error {
	var f findings
	m.verifyListeners(old, next, &f)
	return f.refusal()
}

// around runs checks that wait for others at the same time, and keeps their order.
func (m *Manager) around(ctx context.Context, s settings.Settings, f *findings, checks ...func(context.Context, settings.Settings, *findings)) {
	if s.Mode == settings.Standalone || s.Mode == "" {
		return
	}
	found := make([]findings, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { check(ctx, s, &found[i]) })
	}
	wg.Wait()
	for _, part := range found {
		f.checks = append(f.checks, part.checks...)
	}
}

// verifyForm compares the values with one another. It returns an error only for one that is none
// of the settings' own.
func verifyForm(s settings.Settings, f *findings) error {
	if s.Mode == settings.Standalone || s.Mode == "" {
		f.add("mode", "mode", "", ok, "Standalone needs no partner", "")
	}
	wrong := map[string]bool{}
	if err := atVIP(s, s.Validate()); err != nil {
		var es settings.Errors
		if !errors.As(err, &es) {
			return err
		}
		for _, e := range es {
			code := formCodes[e.Code]
			if code == "" {
				code = "value_" + e.Code
			}
			wrong[code] = true
			f.add(code, e.Field, "", failed, e.Message, e.Fix)
		}
	}
	if s.Mode == settings.Standalone || s.Mode == "" {
		return nil
	}
	for _, c := range []struct{ code, field, text string }{
		{"addresses_distinct", "", "every member and the virtual IP have an address of their own"},
		{"same_subnet", "vip", fmt.Sprintf("all addresses are in %v", s.VIP.Masked())},
		{"not_reserved", "vip", "the virtual IP is neither the network's nor its broadcast address"},
	} {
		if !wrong[c.code] && s.VIP.IsValid() && s.Local.Address.IsValid() && s.Peer.Address.IsValid() {
			f.add(c.code, c.field, "", ok, c.text, "")
		}
	}
	for _, o := range partners(s) {
		if o.at.Addr().IsLoopback() {
			f.add("only_this_node", o.field, o.role.String(), failed, fmt.Sprintf("%v means each node itself: only one on the same machine is reached by it", o.at.Addr()), "give the address that the other has in the LAN")
		}
	}
	verifyTiming(s, f)
	return nil
}

// formCodes are the codes of the checks that a fault of the settings fails.
var formCodes = map[string]string{"duplicate": "addresses_distinct", "subnet": "same_subnet", "reserved": "not_reserved"}

func verifyTiming(s settings.Settings, f *findings) {
	var e *pool.TimingError
	switch err := poolTiming(s).Validate(); {
	case errors.As(err, &e):
		f.add("timing", "timing."+e.Field, "", failed, e.Text, e.Fix)
	default:
		f.add("timing", "timing", "", ok, fmt.Sprintf("worst-case takeover %v", poolTiming(s).WorstTakeover()), "")
	}
}

// title is a member's role for people.
func (p partner) title() string {
	word := p.role.String()
	return strings.ToUpper(word[:1]) + word[1:]
}
