package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
)

// The calls by which the pool's values are changed while it runs, between its Managers.
const (
	methodChange  = "change"  // to the Primary: change these values
	methodPrepare = "prepare" // to a Manager: can you be reached at this address of yours?
)

// wish is the body of methodChange: values by role instead of local and peer, "backup.address".
type wish struct {
	Pool   string            `json:"pool"`
	Values map[string]string `json:"values"`
	Yes    bool              `json:"yes"`
}

// granted answers it. Error: what the Primary would have answered to its own operator.
type granted struct {
	Message string         `json:"message"`
	Error   *control.Error `json:"error,omitempty"`
}

// shared reports whether a setting is the pool's, so that it is changed for all members at once.
func shared(key string) bool {
	head, rest, _ := strings.Cut(key, ".")
	switch head {
	case "vip", "active", "timing":
		return true
	case "local", "peer", "arbiter":
		return rest != ""
	}
	return false
}

// names maps this Manager's words for the members to their roles, and back.
func names(mode settings.Mode) *strings.Replacer {
	if mode == settings.Backup {
		return strings.NewReplacer("local.", "backup.", "peer.", "master.")
	}
	return strings.NewReplacer("local.", "master.", "peer.", "backup.")
}

func namesBack(mode settings.Mode) *strings.Replacer {
	if mode == settings.Backup {
		return strings.NewReplacer("backup.", "local.", "master.", "peer.")
	}
	return strings.NewReplacer("master.", "local.", "backup.", "peer.")
}

// changeRunning changes values of a running pool, asked for on either Manager: what is the pool's
// by the Primary for all, the rest here.
func (m *Manager) changeRunning(ctx context.Context, e *engine, form control.Form) (control.Done, error) {
	old, prog, _ := m.snapshot()
	pools, own := map[string]string{}, map[string]string{}
	for key, text := range form.Values {
		one, err := old.Apply(map[string]string{key: text})
		if err != nil {
			return control.Done{}, fieldErrors(err)
		}
		same := one == old
		if key == "active" { // on a Backup its own settings do not say
			want, _ := strconv.ParseBool(text)
			same = want == e.pool.Record().Active
		}
		switch {
		case same:
		case shared(key):
			pools[names(old.Mode).Replace(key)] = text
		default:
			own[key] = text
		}
	}
	next, err := old.Apply(own)
	if err != nil {
		return control.Done{}, fieldErrors(err)
	}
	if err := next.Validate(); err != nil {
		return control.Done{}, fieldErrors(err)
	}
	if err := m.checkListeners(old, next); err != nil {
		return control.Done{}, err
	}
	var done control.Done
	if len(pools) > 0 {
		if done, err = e.askChange(ctx, wish{Pool: e.pool.Record().Pool, Values: pools, Yes: form.Yes}); err != nil {
			return control.Done{}, inWordsOf(old.Mode, err)
		}
		next, err = m.settingsNow().Apply(own)
		if err != nil {
			return control.Done{}, fieldErrors(err)
		}
	}
	if len(own) == 0 {
		if len(pools) == 0 {
			done.Message = "nothing differs from the present settings"
		}
		return done, nil
	}
	if prog.Forming {
		return control.Done{}, refuse("forming", "try again in a moment", "the pool has just been formed")
	}
	if !form.Yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "this Manager restarts its services", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "restart", Text: "This Manager restarts its services with the new settings. If it is Primary, the other Manager takes over meanwhile."}}}
	}
	d, err := m.store(next, prog, "settings changed")
	if done.Message != "" {
		d.Message = done.Message + "; " + d.Message
	}
	return d, err
}

func (m *Manager) settingsNow() settings.Settings { s, _, _ := m.snapshot(); return s }

// inWordsOf puts the fields of an error into this Manager's words.
func inWordsOf(mode settings.Mode, err error) error {
	var e *control.Error
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	out.Fields = slices.Clone(e.Fields)
	for i := range out.Fields {
		out.Fields[i].Field = namesBack(mode).Replace(out.Fields[i].Field)
	}
	return &out
}

// askChange lets the Primary change the pool, here or on the other Manager.
func (e *engine) askChange(ctx context.Context, w wish) (control.Done, error) {
	if e.onDuty(ctx) {
		return e.change(ctx, w)
	}
	for _, o := range e.pool.State().Members {
		if o.Status != pool.Primary || o.ID == e.pool.Record().Self {
			continue
		}
		var g granted
		if err := e.m.call(ctx, o.Address, o.Fingerprint, methodChange, w, &g); err != nil {
			return control.Done{}, fmt.Errorf("ask %s, which is Primary: %w", o.Name, err)
		}
		if g.Error != nil {
			return control.Done{}, g.Error
		}
		return control.Done{Message: g.Message}, nil
	}
	return control.Done{}, refuse("no_primary", "look at \"manager status\"", "no Manager is Primary now, so nothing can be changed for all")
}

// onChange answers the other Manager.
func (m *Manager) onChange(ctx context.Context, w wish) (any, error) {
	_, _, e := m.snapshot()
	if e == nil || e.pool == nil || e.pool.Record().Pool != w.Pool {
		return nil, transport.Refuse("unknown_pool", "this Manager is not in that pool")
	}
	if !e.onDuty(ctx) {
		return nil, transport.Refuse("not_primary", "this Manager is not Primary any more")
	}
	d, err := e.change(ctx, w)
	var ce *control.Error
	if errors.As(err, &ce) {
		return granted{Error: ce}, nil
	}
	return granted{Message: d.Message}, err
}

// change checks what is wished against what all members agreed on, says what it brings about, and
// agrees on it. It returns before everybody works by it; tend sees to that.
func (e *engine) change(ctx context.Context, w wish) (control.Done, error) {
	a, err := e.present(ctx)
	if err != nil {
		return control.Done{}, err
	}
	was := a.seen(e.m.settingsNow(), pool.Master)
	next, err := was.Apply(translated(w.Values, namesBack(settings.Master)))
	if err != nil {
		return control.Done{}, byRole(fieldErrors(err))
	}
	if err := next.Validate(); err != nil {
		if err = notOfMissing(a, err); err != nil {
			return control.Done{}, byRole(fieldErrors(err))
		}
	}
	if err := poolTiming(next).Validate(); err != nil {
		return control.Done{}, fieldError("timing", "invalid", err.Error(), "correct the times")
	}
	if next == was {
		return control.Done{Message: "nothing differs from what the pool works by"}, nil
	}
	asked, err := e.weigh(ctx, &a, was, next)
	if err != nil {
		return control.Done{}, err
	}
	if !w.Yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "the running pool is changed", Fix: "confirm it, or give --yes", Confirm: asked}
	}
	if err := e.certify(&a, was, next); err != nil {
		return control.Done{}, err
	}
	a.VIP, a.Timing, a.Active = next.VIP, next.Timing, next.Active
	self := e.pool.Record().Self
	if e.runsOld(a.applied(e.m.settingsNow(), self)) {
		a.Home = self
	}
	work := e.m.startWork("Changing the pool")
	err = e.agree(ctx, "the pool's values were changed", func(now *agreement) error {
		if now.Revision != a.Revision {
			return refuse("changed", "look at it and try again", "the pool was changed by somebody else meanwhile")
		}
		*now = a
		return nil
	})
	if err != nil {
		work.finish("", err)
		return control.Done{}, err
	}
	work.step("agreed", "stored by the pool", true)
	if a.Home == "" {
		work.finish("all members learn it at once", nil)
		return control.Done{Message: "changed for all members"}, nil
	}
	return control.Done{Message: "stored for all members; they restart their services one after another, and then all work by it"}, nil
}

// seen is the pool as settings from the place of a role.
func (a agreement) seen(s settings.Settings, role pool.Role) settings.Settings {
	s.Local, s.Peer, s.Arbiter = settings.Member{}, settings.Member{}, settings.Member{}
	self := pool.MemberID("nobody")
	for _, m := range a.Members {
		if m.Role == role {
			self = m.ID
		}
	}
	s = a.applied(s, self)
	s.Mode, s.Active = settings.Master, a.Active
	return s
}

func translated(values map[string]string, r *strings.Replacer) map[string]string {
	out := map[string]string{}
	for k, v := range values {
		out[r.Replace(k)] = v
	}
	return out
}

// byRole names the fields of a Master's settings by role.
func byRole(err error) error {
	var e *control.Error
	if errors.As(err, &e) {
		for i := range e.Fields {
			e.Fields[i].Field = names(settings.Master).Replace(e.Fields[i].Field)
		}
	}
	return err
}

// notOfMissing drops what is only wrong because a member's place is empty.
func notOfMissing(a agreement, err error) error {
	var es settings.Errors
	if len(a.Members) == 3 || !errors.As(err, &es) {
		return err
	}
	es = slices.DeleteFunc(slices.Clone(es), func(e settings.FieldError) bool { return e.Code == "required" })
	if len(es) == 0 {
		return nil
	}
	return es
}
