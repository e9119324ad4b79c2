package web

import (
	"encoding/json"
	"time"
)

// Redundancy is the object of GET /api/v1/redundancy and of "manager status --json". Every key is
// always there; a pointer that is nil is null: not known, or there is no such thing. The words are
// those of the API document, in lower case.
type Redundancy struct {
	Role   string  `json:"role"`
	Status string  `json:"status"`
	Health string  `json:"health"`
	Term   uint64  `json:"term"`
	Node   string  `json:"node"`
	Pool   *string `json:"pool"`
	VIP    VIP     `json:"vip"`
	// Members has one row for each member, this node first; never null.
	Members          []Member `json:"members"`
	FieldUnits       *int     `json:"field_units"`
	FailoverPossible bool     `json:"failover_possible"`
	// Reasons say why a failover would not succeed now, and what else an operator must know, such as
	// the kept reason of a fall back; never null.
	Reasons         []Reason    `json:"reasons"`
	WorstTakeoverMS *int64      `json:"worst_case_takeover_ms"`
	Deadline        *Deadline   `json:"deadline"`
	GuardPID        *int        `json:"guard_pid"`
	LastChangeover  *Changeover `json:"last_changeover"`
	Licence         Licence     `json:"licence"`
}

// Licence is how the authorised modules of the two Managers compare.
type Licence struct {
	State string `json:"state"` // unknown, match or mismatch
	Text  string `json:"text"`  // with the modules, and those that differ
}

// VIP is the virtual IP as this node sees it.
type VIP struct {
	Address   *string `json:"address"` // with the prefix length; null: none configured
	Bound     bool    `json:"bound"`   // by this node
	Interface *string `json:"interface"`
}

// Member is one member of the pool.
type Member struct {
	Name        string  `json:"name"`
	Role        string  `json:"role"`
	Status      string  `json:"status"`
	Address     string  `json:"address"`
	LastHeardMS *int64  `json:"last_heard_ms"` // ago; 0: this node itself; null: never
	InStep      *bool   `json:"in_step"`       // null: unknown, or it stores no data (the Arbiter)
	Behind      *uint64 `json:"behind"`        // changes; null like InStep
}

// Reason is a coded fact with its text for people.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Deadline is what happens by itself if nobody acts.
type Deadline struct {
	RemainingMS int64  `json:"remaining_ms"`
	Text        string `json:"text"`
}

// Changeover is the last change of Primary. A time is in ms since the fault, or since the order
// of a hand over; null: it did not happen or is not known.
type Changeover struct {
	Kind         string    `json:"kind"` // handover, takeover, takeback
	Cause        string    `json:"cause"`
	At           time.Time `json:"at"`
	Term         uint64    `json:"term"`
	From         string    `json:"from"`
	To           string    `json:"to"`
	DetectedMS   *float64  `json:"detected_ms"`
	ElectedMS    *float64  `json:"elected_ms"`
	VIPMS        *float64  `json:"vip_ms"`
	FirstWriteMS *float64  `json:"first_write_ms"`
	FirstUnitMS  *float64  `json:"first_unit_ms"`
	AllUnitsMS   *float64  `json:"all_units_ms"`
	Lost         *int64    `json:"lost"`
	StoredTwice  *int64    `json:"stored_twice"`
}

// MarshalJSON writes empty lists as [] instead of null.
func (r Redundancy) MarshalJSON() ([]byte, error) {
	type plain Redundancy
	if r.Members == nil {
		r.Members = []Member{}
	}
	if r.Reasons == nil {
		r.Reasons = []Reason{}
	}
	return json.Marshal(plain(r))
}

// The words of Status that this package acts on.
const statusPrimary = "primary"

// words are what people read for the words of the API; equivalent are those of other systems.
var words = map[string]string{
	"standalone": "Standalone", "master": "Master", "backup": "Backup", "arbiter": "Arbiter",
	"primary": "Primary", "online": "Online", "on_hold": "On hold", "configuring": "Configuring",
	"unreachable": "Unreachable", "unknown": "Unknown",
	"protected": "Protected", "degraded": "Degraded", "failure": "Failure",
	"handover": "Hand over", "takeover": "Takeover", "takeback": "Take back",
}

// Word returns the word of the API as people read it.
func Word(code string) string {
	if w, ok := words[code]; ok {
		return w
	}
	return code
}

// Equivalent returns the word that other systems use for a member's status, seen from a node with
// the given role; empty: there is none.
func Equivalent(status, seenFrom string) string {
	switch status {
	case "primary":
		return "Running"
	case "online":
		return "Standby"
	case "unreachable":
		if seenFrom == "master" {
			return "Disconnected"
		}
		return "Faulted"
	}
	return ""
}
