package web

import (
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"
)

// settingsView is the page Settings → General.
type settingsView struct {
	shell
	S       Settings
	Chosen  string            // the running mode in the form
	Values  map[string]string // what the form shows
	Errors  map[string][]FieldProblem
	Checks  map[string][]Check // of Verify, by field
	General []Check            // those of no field
	Tested  bool
	Tried   string        // the role of the member that was tried alone
	Asked   []Consequence // to agree to before the values are stored
	Tokens  [2]string     // typed in, shown again as long as they are not used
	Worst   string
	Clock   Clock

	Certificate certificateView
}

func (s *Server) newSettingsView(c echo.Context) settingsView {
	v := settingsView{shell: s.shell(c, "Settings", "/settings"), S: s.cfg.Operations.Settings(), Errors: map[string][]FieldProblem{}, Checks: map[string][]Check{}}
	v.Values = v.S.Values
	v.Chosen = v.Values["mode"]
	return v
}

// settingsPage shows the present values; with ?again those of the attempt that fell back.
func (s *Server) settingsPage(c echo.Context) error {
	v := s.newSettingsView(c)
	if _, again := c.QueryParams()["again"]; again && v.S.Tried != nil {
		v.Values = v.S.Tried
		v.Chosen = v.Values["mode"]
	}
	return s.renderSettings(c, http.StatusOK, v)
}

func (s *Server) renderSettings(c echo.Context, code int, v settingsView) error {
	s.certificateOf(c, &v)
	d, err := s.cfg.Operations.Worst(v.Values)
	if err == nil {
		v.Worst = d.String()
	}
	var p *Problem
	if errors.As(err, &p) && len(v.Errors) == 0 {
		for _, f := range p.Fields {
			v.Errors[f.Field] = append(v.Errors[f.Field], f)
		}
	}
	v.Clock = s.cfg.Operations.Clock()
	return c.Render(code, "settings.html", v)
}

// settingsForm verifies, or reviews and stores, what was typed.
func (s *Server) settingsForm(c echo.Context) error {
	form, err := c.FormParams()
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "the form cannot be read")
	}
	v := s.newSettingsView(c)
	values := formValues(form, v.S)
	v.Chosen = values["mode"]
	v.Values = merged(v.S.Values, values)
	v.Tokens = [2]string{strings.TrimSpace(form.Get("master:pairing")), strings.TrimSpace(form.Get("master:arbiter_pairing"))}
	ctx := c.Request().Context()
	do, member, _ := strings.Cut(form.Get("do"), ":")
	if do == "agree" { // the Enter key in the dialog
		do = "store"
	}
	if do == "verify" || do == "connect" {
		var checks []Check
		if do == "verify" {
			checks, err = s.cfg.Operations.Verify(ctx, values)
		} else {
			v.Tried = member
			checks, err = s.cfg.Operations.Connect(ctx, values, member)
		}
		if err != nil {
			return s.refuseSettings(c, v, err)
		}
		v.checked(checks, do == "verify")
		return s.renderSettings(c, http.StatusOK, v)
	}
	asked, err := s.cfg.Operations.Review(ctx, values)
	if err != nil {
		return s.refuseSettings(c, v, err)
	}
	if v.Chosen == "master" && !v.S.InPool && (v.Tokens[0] == "" || v.Tokens[1] == "") {
		asked = append(slices.Clone(asked), Consequence{Text: "A member without a pairing token that is not trusted yet waits until its fingerprint is approved here and this Master's there; the waiting page shows both."})
	}
	if do != "store" || !agreed(c, asked) {
		if do == "store" {
			v.Problem = &Problem{Message: "The word was not typed as asked: nothing was changed."}
		}
		v.Asked = asked
		return s.renderSettings(c, http.StatusOK, v)
	}
	text, err := s.cfg.Operations.Set(ctx, values, v.Tokens[0], v.Tokens[1])
	if err != nil {
		return s.refuseSettings(c, v, err)
	}
	if to := movedTo(c, v.S, values); to != "" {
		c.Response().Header().Set("Refresh", "5; url="+to)
		return c.Render(http.StatusOK, "moved.html", struct {
			shell
			To string
		}{v.shell, to})
	}
	return done(c, "/waiting", text)
}

// movedTo is where these pages are once their listener has moved; empty: it stays.
func movedTo(c echo.Context, set Settings, values map[string]string) string {
	field := "listen.http"
	if c.IsTLS() {
		field = "listen.https"
	}
	to, given := values[field]
	if !given || to == set.Values[field] || set.Over[field] != "" {
		return ""
	}
	_, port, err := net.SplitHostPort(to)
	if err != nil {
		return ""
	}
	host, _, err := net.SplitHostPort(c.Request().Host)
	if err != nil {
		host = c.Request().Host
	}
	return c.Scheme() + "://" + net.JoinHostPort(host, port) + "/"
}

// checked puts each check beside its field, what is wrong first.
func (v *settingsView) checked(checks []Check, all bool) {
	v.Tested = all
	for _, k := range sortedChecks(checks) {
		if shownFields[k.Field] || k.Field == "timing" {
			v.Checks[k.Field] = append(v.Checks[k.Field], k)
		} else {
			v.General = append(v.General, k)
		}
	}
}

// sortedChecks returns them with what is wrong first.
func sortedChecks(checks []Check) []Check {
	sorted := slices.Clone(checks)
	slices.SortStableFunc(sorted, func(a, b Check) int { return weight[a.Result] - weight[b.Result] })
	return sorted
}

var weight = map[string]int{"failed": 0, "warning": 1, "unknown": 2, "ok": 3}

// Count is how many checks came out so, for the summary.
func (v settingsView) Count(result string) int {
	n := 0
	count := func(list []Check) {
		for _, k := range list {
			if k.Result == result {
				n++
			}
		}
	}
	for _, list := range v.Checks {
		count(list)
	}
	count(v.General)
	return n
}

// refuseSettings shows what is wrong beside its field. Nothing was changed.
func (s *Server) refuseSettings(c echo.Context, v settingsView, err error) error {
	v.Problem = s.problemOf(c, err)
	code := http.StatusUnprocessableEntity
	if v.Problem.Code == "internal" {
		code = http.StatusInternalServerError
	}
	other := v.Problem.Fields[:0:0]
	for _, f := range v.Problem.Fields {
		if shownFields[f.Field] {
			v.Errors[f.Field] = append(v.Errors[f.Field], f)
		} else {
			other = append(other, f)
		}
	}
	v.Problem = &Problem{Code: v.Problem.Code, Message: v.Problem.Message, Fix: v.Problem.Fix, Fields: other}
	if len(v.Errors) > 0 && v.Problem.Fix == "" {
		v.Problem.Fix = "nothing was changed: correct what is marked below"
	}
	return s.renderSettings(c, code, v)
}

// formValues turns a form into values by the keys of the settings. Fields of one mode have its
// name before a colon; the virtual IP is completed with the prefix length of the local address.
func formValues(form url.Values, set Settings) map[string]string {
	mode := form.Get("mode")
	if mode == "" {
		mode = set.Values["mode"]
	}
	values := map[string]string{"mode": mode}
	for key, list := range form {
		if len(list) == 0 {
			continue
		}
		if of, rest, ok := strings.Cut(key, ":"); ok {
			if of != mode {
				continue
			}
			key = rest
		}
		if shownFields[key] && key != "mode" && key != "pairing" && key != "arbiter_pairing" {
			values[key] = strings.TrimSpace(list[len(list)-1])
		}
	}
	if mode == "master" {
		values["active"] = "false"
		if form.Get("master:active") != "" {
			values["active"] = "true"
		}
	} else if !set.InPool { // a Backup of a running pool does not decide it
		values["active"] = "false"
	}
	if text, ok := values["vip"]; ok {
		values["vip"] = completed(text, values["local.address"], set.Addresses)
	}
	return values
}

// completed returns the virtual IP with the prefix length of the local address.
func completed(vip, local string, all []Address) string {
	if vip == "" || strings.Contains(vip, "/") {
		return vip
	}
	for _, a := range all {
		if host, bits, ok := strings.Cut(a.Address, "/"); ok && host == local {
			return vip + "/" + bits
		}
	}
	return vip
}

func merged(old, over map[string]string) map[string]string {
	out := make(map[string]string, len(old))
	for k, v := range old {
		out[k] = v
	}
	for k, v := range over {
		out[k] = v
	}
	return out
}

// worst answers with the worst-case takeover of values as they are being typed.
func (s *Server) worst(c echo.Context) error {
	noStore(c)
	values := map[string]string{}
	for key, list := range c.QueryParams() {
		if strings.HasPrefix(key, "timing.") && shownFields[key] {
			values[key] = list[0]
		}
	}
	d, err := s.cfg.Operations.Worst(values)
	var p *Problem
	if errors.As(err, &p) {
		return c.JSON(http.StatusUnprocessableEntity, map[string]any{"error": p})
	}
	if err != nil {
		return c.JSON(http.StatusUnprocessableEntity, map[string]any{"error": map[string]string{"message": err.Error()}})
	}
	return c.JSON(http.StatusOK, map[string]any{"worst_case_takeover_ms": d.Milliseconds()})
}

// Field and Fields are for the template.
func (v settingsView) Field(prefix, key string) field { return v.field(prefix, key) }

// Fields returns the fields of a group.
func (v settingsView) Fields(group string) []field {
	var out []field
	for _, key := range groups[group] {
		out = append(out, v.field("", key))
	}
	return out
}

// AdvancedWrong reports whether the collapsed part has something to show.
func (v settingsView) AdvancedWrong() bool {
	for _, g := range []string{"timing", "announce", "paths", "names"} {
		for _, key := range groups[g] {
			bad := slices.ContainsFunc(v.Checks[key], func(c Check) bool { return c.Result == "failed" })
			if len(v.Errors[key]) > 0 || bad {
				return true
			}
		}
	}
	return len(v.Errors["timing"]) > 0
}

// Derived says which prefix and interface the virtual IP gets.
func (v settingsView) Derived() string {
	full := completed(hostOf(v.Values["vip"]), v.Values["local.address"], v.S.Addresses)
	if _, err := netip.ParsePrefix(full); err != nil {
		return ""
	}
	for _, a := range v.S.Addresses {
		if hostOf(a.Address) == v.Values["local.address"] {
			return full + " on " + a.Interface
		}
	}
	return full
}
