package web

import (
	"slices"
	"strings"
)

// field is one input of the form.
type field struct {
	Key, Name, Label, Help, Kind string
	Value                        string
	Errors                       []FieldProblem
	Checks                       []Check
	Choices                      []choice
	// Try is the role of the member at this address, which can be tried alone.
	Try string
	// Note is a standing remark on the value, shown beside it.
	Note string
	// Only names the running mode that has this field; empty: all.
	Only string
	// Over is what the command line says instead of this setting.
	Over string
}

type choice struct {
	Value, Text string
	Chosen      bool
	// Prefix, Interface and Dynamic are of an address, for the script.
	Prefix, Interface string
	Dynamic           bool
}

// Bad and Good are the checks beside the field that have something to say, and those that pass.
func (f field) Bad() []Check {
	return slices.DeleteFunc(slices.Clone(f.Checks), func(c Check) bool { return c.Result == "ok" })
}

// Good returns the checks that pass.
func (f field) Good() []Check {
	return slices.DeleteFunc(slices.Clone(f.Checks), func(c Check) bool { return c.Result != "ok" })
}

// DynamicNote stands beside an address that may change by itself.
func (f field) DynamicNote() string { return dynamicNote }

// ID is the element's id: a colon or a dot in it would not be seen by a style sheet.
func (f field) ID() string { return strings.NewReplacer(":", "-", ".", "-", "_", "-").Replace(f.Name) }

func (v settingsView) field(prefix, key string) field {
	d := described[key]
	f := field{Key: key, Name: prefix + key, Label: d.label, Help: d.help, Kind: d.kind, Value: v.Values[key], Errors: v.Errors[key], Checks: v.Checks[key]}
	if key == "peer.address" && prefix == "master:" {
		f.Label = "Backup address"
	}
	switch key {
	case "vip":
		f.Value, f.Note = hostOf(f.Value), v.Derived()
	case "peer.address":
		f.Try = map[string]string{"master:": "backup", "backup:": "master"}[prefix]
	case "arbiter.address":
		f.Try = "arbiter"
	}
	f.Over = v.S.Over[key]
	if prefix == "" && strings.HasPrefix(key, "arbiter.") {
		f.Only = "master"
	}
	if prefix != "" && v.Chosen+":" != prefix {
		f.Errors, f.Checks = nil, nil
	}
	switch key {
	case "local.address":
		f.Choices = v.addresses(f.Value)
		for _, c := range f.Choices {
			if c.Chosen && c.Dynamic {
				f.Note = dynamicNote
			}
		}
	case "timing.standby_activity":
		f.Choices = []choice{{Value: "cold", Text: "cold: no collection while Online", Chosen: f.Value == "cold"},
			{Value: "warm", Text: "warm: connected and reading, nothing stored", Chosen: f.Value == "warm"}}
	case "pairing":
		f.Value = v.Tokens[0]
	case "arbiter_pairing":
		f.Value = v.Tokens[1]
	}
	return f
}

// dynamicNote stands beside an address that may change by itself.
const dynamicNote = "This address has a limited lifetime, as one from DHCP: give this host a static address, or the pool breaks when it changes."

// addresses lists this host's, the present value first if it is not there any more.
func (v settingsView) addresses(now string) []choice {
	out := []choice{{Text: "choose one of this host's addresses", Chosen: now == ""}}
	found := now == ""
	for _, a := range v.S.Addresses {
		kind := "static"
		if a.Dynamic {
			kind = "DHCP"
		}
		host, bits, _ := strings.Cut(a.Address, "/")
		found = found || host == now
		out = append(out, choice{Value: host, Text: a.Address + " on " + a.Interface + ", " + kind, Chosen: host == now, Prefix: bits, Interface: a.Interface, Dynamic: a.Dynamic})
	}
	if !found {
		out = append(out, choice{Value: now, Text: now + ", which this host does not have now", Chosen: true})
	}
	return out
}
