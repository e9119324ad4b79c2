package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
)

// worthTelling is from where on a difference of two clocks is a warning.
const worthTelling = time.Second

// verifyMembers asks all members at the same time.
func (m *Manager) verifyMembers(ctx context.Context, s settings.Settings, f *findings) {
	all := partners(s)
	found := make([]findings, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			m.verifyMember(ctx, s, p, &found[i])
			if p.role != pool.Arbiter { // the Arbiter never holds the virtual IP
				verifyLayer2(ctx, s, p, &found[i])
			}
		})
	}
	wg.Wait()
	for _, part := range found {
		f.checks = append(f.checks, part.checks...)
	}
}

// verifyMember connects to one member and judges what it says of itself.
func (m *Manager) verifyMember(ctx context.Context, s settings.Settings, p partner, f *findings) {
	role, at := p.role.String(), p.at
	add := func(code, result, text, fix string) { f.add(role+"_"+code, p.field, role, result, text, fix) }
	c, cancel := context.WithTimeout(ctx, max(s.Timing.ConnectTimeout, time.Second))
	defer cancel()
	self := m.introduction("")
	self.Role, self.Port = string(s.Mode), s.Local.MemberPort()
	met, err := arbiter.Greet(c, m.trust, at, self)
	if err != nil {
		var e *arbiter.ContactError
		var no *transport.Refusal
		if errors.As(err, &no) && (no.Code == "rejected" || no.Code == "refused") {
			fix := "correct the address"
			if no.Code == "rejected" {
				fix = "if that was wrong, approve this Manager there by its fingerprint"
			}
			add("connect", ok, fmt.Sprintf("%v answers over TLS", at), "")
			add("trust", failed, "it refuses this Manager: "+no.Text, fix)
			return
		}
		result := failed
		if errors.As(err, &e) && e.Stage == "not_now" {
			result = unknown
		}
		add("connect", result, err.Error(), connectFix(e))
		return
	}
	add("connect", ok, fmt.Sprintf("%s at %v answers after %v, over TLS with the fingerprint %s", nameOr(met.Name, "a node"), at, met.After, met.Fingerprint), "")
	if !m.verifyIdentity(p, met, add) {
		return
	}
	verifyRole(p, met, add)
	if met.Version == m.cfg.Version {
		add("version", ok, "the same version on both: "+nameOr(met.Version, "unnumbered"), "")
	} else {
		add("version", failed, fmt.Sprintf("it has version %s, this node %s", nameOr(met.Version, "unnumbered"), nameOr(m.cfg.Version, "unnumbered")), "install the same release on all members")
	}
	if d := met.Ahead; d.Abs() > worthTelling {
		add("clock", warning, fmt.Sprintf("its clock is %v %s this node's: events and history of the two are told in the wrong order, and nothing else depends on it", d.Abs(), aheadOrBehind(d)), "synchronise both with NTP")
	} else {
		add("clock", ok, fmt.Sprintf("its clock is %v %s this node's", d.Abs(), aheadOrBehind(d)), "")
	}
	if p.role != pool.Arbiter {
		state, text := compareModules(m.cfg.Modules, met.Modules)
		result, fix := ok, ""
		if state == licenceMismatch {
			result, fix = failed, "authorise the same modules on both Managers"
		}
		add("licence", result, "licences: "+text, fix)
	}
	if s.Mode == settings.Master && met.Standing == pool.Waiting && met.Trusts == pool.Master.String() && p.role == pool.Backup {
		m.verifyValues(c, s, p, met, f)
	}
}

// verifyIdentity judges the proven key; false: whatever else this node says is worth nothing.
func (m *Manager) verifyIdentity(p partner, met arbiter.Contact, add func(code, result, text, fix string)) bool {
	if met.Fingerprint == m.trust.Fingerprint() {
		add("trust", failed, "this is the very node that asks, or its data folder was copied from here", "correct the address; a copied Manager needs a data folder of its own")
		return false
	}
	known, trusted := m.trust.Lookup(met.Fingerprint)
	other, err := m.approvedAt(p.role, p.at)
	switch {
	case trusted && known.Role == p.role.String() && met.Trusts != "":
		add("trust", ok, "it is trusted here as "+p.title()+", and trusts this node", "")
	case trusted && known.Role == p.role.String():
		add("trust", warning, "it is trusted here as "+p.title()+", and does not trust this node yet", "approve this node there, or give its pairing token here")
	case trusted:
		add("trust", failed, fmt.Sprintf("this key is trusted here as %s, not as %s", known.Role, p.role), "exchange the two addresses, or withdraw that approval")
	case err == nil:
		add("trust", failed, fmt.Sprintf("another certificate than the approved one: expected %s, got %s", other.Fingerprint, met.Fingerprint),
			"if it was installed anew, withdraw the old approval and pair it again; if not, another node answers at this address")
	default:
		add("trust", warning, "it is not trusted yet; its fingerprint is "+met.Fingerprint.String(), "give its pairing token, or compare the fingerprint and approve it on both sides after Save")
	}
	return true
}

// verifyRole judges whether the node can be what it is wanted for.
func verifyRole(p partner, met arbiter.Contact, add func(code, result, text, fix string)) {
	want := p.role.String()
	switch {
	case met.Role == want:
		add("role", ok, "it is "+article(want), "")
	case p.role == pool.Master && met.Role == pool.Standalone.String():
		add("role", ok, "it is a Manager, and is set to Master after this one", "")
	case p.role == pool.Backup && met.Role == pool.Standalone.String():
		add("role", failed, "it is a Manager that works alone", "set it to Backup first: the order is Backup, Master, field units")
	default:
		add("role", failed, fmt.Sprintf("it is %s, not %s", article(met.Role), article(want)), "correct the address")
	}
	switch {
	case met.Fellow:
		add("free", ok, "it belongs to this node's pool", "")
	case met.Standing == pool.Stray:
		add("free", failed, "it is not newly installed: its folder has state of another pool", "run “arbiter reset” on its machine")
	case met.Standing == pool.Bound && p.role == pool.Arbiter:
		add("free", failed, "it belongs to another pool", "leave that pool first, or run “arbiter reset” on its machine if that pool no longer exists")
	case met.Standing == pool.Bound:
		add("free", failed, "it belongs to another pool", "leave that pool first")
	case met.Standing == pool.Joining && p.role == pool.Arbiter:
		add("free", warning, "another attempt to form a pool is under way there", "if it is none of this node's, wait until it ends, or run “arbiter reset” on its machine")
	case p.role == pool.Backup && met.Role == want && met.Standing == pool.Waiting:
		add("free", ok, "it is on hold and waits for its Master", "")
	case p.role == pool.Backup && met.Role == want:
		add("free", warning, "it is busy with an attempt to form a pool", "wait a moment and verify again")
	case p.role == pool.Arbiter && met.Role == want:
		add("free", ok, "it is fresh: it belongs to no pool and has no state of one", "")
	}
}

// verifyValues asks the Backup which of its values differ.
func (m *Manager) verifyValues(ctx context.Context, s settings.Settings, p partner, met arbiter.Contact, f *findings) {
	text, _ := met.Fingerprint.MarshalText()
	err := m.call(ctx, p.at, string(text), pool.MethodCompare, m.joinRequest(s, p.role, s.Peer), nil)
	diff := pool.DifferencesOf(err)
	for _, d := range diff {
		e := differs(p.role, p.field, d)
		f.add("same_values", e.Field, p.role.String(), failed, e.Message, e.Fix)
	}
	switch {
	case len(diff) > 0:
	case err != nil:
		f.add("same_values", "", p.role.String(), unknown, err.Error(), "")
	default:
		f.add("same_values", "", p.role.String(), ok, "virtual IP, prefix and addresses are the same on both", "")
	}
}

func connectFix(e *arbiter.ContactError) string {
	if e == nil {
		return ""
	}
	return map[string]string{
		"refused":       "start it there, or correct the port; the pool port is 8099 unless it was changed there",
		"timed_out":     fmt.Sprintf("check the address, that the machine runs, and that its firewall lets TCP port %d through", e.Address.Port()),
		"no_route":      "check the address, and the cable and addresses of this host",
		"network":       "check the address and this host's network",
		"not_a_member":  "correct the address or the port; the pool port is 8099 unless it was changed there",
		"other_release": "install the same release on all members",
		"not_now":       "try again in a moment",
	}[e.Stage]
}

func aheadOrBehind(d time.Duration) string {
	if d < 0 {
		return "behind"
	}
	return "ahead of"
}

func article(role string) string {
	switch role {
	case "arbiter":
		return "an Arbiter"
	case "master":
		return "a Master"
	case "backup":
		return "a Backup"
	case "standalone":
		return "a Manager that works alone"
	}
	return "an unknown " + role
}

func nameOr(name, none string) string {
	if name == "" {
		return none
	}
	return name
}

// The states of the pair's licences.
const (
	licenceUnknown  = "unknown" // the other Manager has not been heard
	licenceMatch    = "match"
	licenceMismatch = "mismatch"
)

// compareModules compares the authorised modules of two Managers. No modules on both is a match.
func compareModules(here, there []string) (state, text string) {
	missing := func(from, in []string) []string {
		var out []string
		for _, m := range from {
			if !slices.Contains(in, m) {
				out = append(out, m)
			}
		}
		return out
	}
	onlyHere, onlyThere := missing(here, there), missing(there, here)
	switch {
	case len(onlyHere)+len(onlyThere) > 0:
		var parts []string
		if len(onlyHere) > 0 {
			parts = append(parts, "only here: "+strings.Join(onlyHere, ", "))
		}
		if len(onlyThere) > 0 {
			parts = append(parts, "only there: "+strings.Join(onlyThere, ", "))
		}
		return licenceMismatch, "Mismatch; " + strings.Join(parts, "; ")
	case len(here) == 0:
		return licenceMatch, "Match; no licensed modules on either side"
	}
	return licenceMatch, "Match; " + strings.Join(here, ", ")
}
