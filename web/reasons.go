package web

import (
	"maps"
	"slices"
	"strings"
)

// fixes say, for each code that a failover may be hindered by or that an operator must know, what
// to do about it. The key is the code, or with a leading "_" its end after the role of the member.
var fixes = map[string]string{
	"standalone":          "to have redundancy, choose a running mode in the settings and form a pool",
	"forming":             "wait until the pool is effective, or cancel",
	"restarting":          "wait a few seconds",
	"on_hold":             "configure the Master now",
	"not_running":         "remove the cause that is named; it is tried again every few seconds",
	"not_leading":         "wait a moment; the Primary can tell",
	"no_primary":          "look at the other members and at the network; when the other Manager is lost for good, go on alone",
	"voters":              "wait a moment; when it stays, look at the log of the Primary",
	"digest_differs":      "save both databases, then re-synchronise the Backup",
	"manager_missing":     "replace the Manager that is missing",
	"arbiter_missing":     "replace the Arbiter that is missing",
	"certificate_changed": "look at Connections: if that machine was set up anew on purpose, approve it there",
	"not_trusted":         "approve its fingerprint on the page Connections, or pair it with a token",
	"vip_conflict":        "find the other host by its hardware address and give it another address",
	"not_fit":             "remove the cause that is named; this Manager cannot be Primary until then",
	"_unreachable":        "check its power, its process and its cable; Try to connect shows the exact failure",
	"_disk":               "free space on its disk, or replace the disk",
	"_unfit":              "remove the cause that is named, on that machine",
	"_first_path":         "check its cable and switch port on the first path",
	"_maintenance":        "activate redundancy on that Manager when the work is done",
	"_starting":           "wait a second",
	"_behind":             "wait until it has caught up; when it does not, look at its disk and the network",
	"_applying":           "wait until its database has caught up; when it does not, look at its disk",
	"_arbiter_link":       "check the network between these two members",
	"_flapping":           "look at its cable, switch and power",
	"take_back_waits":     "",
	"fell_back_":          "correct what is named and form the pool again",
	"refused_":            "this member belongs to the pool no more: save what it has, then leave the pool here",
}

// rolesOf are the members that a code ending like one of fixes can be about.
var rolesOf = map[string][]string{
	"_unreachable": {"master", "backup", "arbiter"}, "_disk": {"master", "backup", "arbiter"}, "_flapping": {"master", "backup", "arbiter"},
}

// Fix returns what to do about a reason with this code; empty: nothing, or nobody knows.
func Fix(code string) string {
	if f, ok := fixes[code]; ok {
		return f
	}
	for _, begin := range []string{"fell_back_", "refused_"} {
		if strings.HasPrefix(code, begin) {
			return fixes[begin]
		}
	}
	for _, role := range []string{"master", "backup", "arbiter"} {
		if end, ok := strings.CutPrefix(code, role); ok && strings.HasPrefix(end, "_") {
			return fixes[end]
		}
	}
	return ""
}

// reasonCodes are all codes with a fix, for metrics that are there before they are needed.
func reasonCodes() []string {
	var out []string
	for _, code := range slices.Sorted(maps.Keys(fixes)) {
		switch {
		case strings.HasSuffix(code, "_"), fixes[code] == "":
		case strings.HasPrefix(code, "_"):
			roles := rolesOf[code]
			if roles == nil {
				roles = []string{"master", "backup"}
			}
			for _, role := range roles {
				out = append(out, role+code)
			}
		default:
			out = append(out, code)
		}
	}
	return out
}
