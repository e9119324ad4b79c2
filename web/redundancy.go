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

	// At is when this picture was made, by this node's clock.
	At time.Time `json:"at"`
	// PictureAgeMS is how old the Primary's own picture of the pool is, which all members show; null:
	// there is none, and this is what this member alone sees.
	PictureAgeMS *int64 `json:"picture_age_ms"`
	// Maintenance: this member votes and follows, but takes no Primary.
	Maintenance bool `json:"maintenance"`
	// NotRunning: this Manager cannot start into its mode.
	NotRunning bool      `json:"not_running"`
	Recovery   *Recovery `json:"recovery"`
	Timing     *Timing   `json:"timing"`
	// Links are all directions of all links, by who hears; never null.
	Links []Link `json:"links"`
}

// Licence is how the authorised modules of the two Managers compare.
type Licence struct {
	State string `json:"state"` // unknown, match or mismatch
	Text  string `json:"text"`  // with the modules, and those that differ
}

// Recovery is how Primary returns to the Master after a takeover.
type Recovery struct {
	Mode    string `json:"mode"`     // manual or automatic
	Text    string `json:"text"`     // what that means now
	LeftMS  *int64 `json:"left_ms"`  // until the Master takes back; null: nothing is under way
	WaitsMS int64  `json:"waits_ms"` // how long the pool must be Protected before that
	Longer  bool   `json:"longer"`   // than the stability delay, because of what happened lately
}

// Timing are the times by which the members watch one another, in ms.
type Timing struct {
	PeriodMS         int64 `json:"period_ms"`
	TimeoutMS        int64 `json:"timeout_ms"`
	Retries          int   `json:"retries"`
	ConnectTimeoutMS int64 `json:"connect_timeout_ms"`
	DetectionMS      int64 `json:"detection_ms"` // a longer silence makes a member unreachable
}

// Link is what one member hears of another one on one path. Members are named by their role, which
// is unique in a pool.
type Link struct {
	By      string `json:"by"`
	Of      string `json:"of"`
	Path    int    `json:"path"`     // 1: where the virtual IP is; 2: the second one
	State   string `json:"state"`    // heard, silent, never, or unknown: By itself is not heard
	HeardMS *int64 `json:"heard_ms"` // ago; null: never, or not known
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

	Index       int    `json:"index"` // 1: this node
	Self        bool   `json:"self"`
	Symbol      string `json:"symbol"`
	Comment     string `json:"comment"`
	Host        string `json:"host"` // Address in two parts
	Port        int    `json:"port"` // 0: none
	Second      string `json:"second"`
	Active      bool   `json:"active"` // takes part: it is not in maintenance
	Maintenance bool   `json:"maintenance"`
	IsPrimary   bool   `json:"is_primary"`
	ConnectedTo string `json:"connected_to"` // the member that it follows; empty: none known
	FieldUnits  *int   `json:"field_units"`  // connected to it
	Browsers    *int   `json:"browsers"`     // pages with live updates that it serves
	Fault       string `json:"fault"`        // empty: none
	// Database is in_step, behind, differs, none (the Arbiter) or unknown.
	Database     string     `json:"database"`
	Verified     *bool      `json:"verified"`    // equal to the other Manager's when compared last; null: not yet
	VerifiedAt   *uint64    `json:"verified_at"` // at which position
	Term         *uint64    `json:"term"`
	Position     *uint64    `json:"position"`        // end of its log
	Stored       *uint64    `json:"stored"`          // position up to which its database is
	ClockMS      *float64   `json:"clock_offset_ms"` // its clock minus this node's
	RoundTripMS  *float64   `json:"round_trip_ms"`
	CommitMS     *float64   `json:"disk_commit_ms"`
	Version      string     `json:"version"`
	Licence      string     `json:"licence"` // match, mismatch or unknown
	Since        *time.Time `json:"since"`   // when its process began, by its own clock
	BytesOnDisk  *int64     `json:"bytes_on_disk"`
	ReportAgeMS  *int64     `json:"report_age_ms"` // of what it says of itself; null: it said nothing yet
	EquivalentTo string     `json:"equivalent"`    // the word of other systems for its status
}

// Reason is a coded fact with its text for people and what to do about it.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
	Fix  string `json:"fix"` // empty: nothing needs to be done
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

// MarshalJSON writes empty lists as [] instead of null, and adds the verdict.
func (r Redundancy) MarshalJSON() ([]byte, error) {
	type plain Redundancy
	if r.Members == nil {
		r.Members = []Member{}
	}
	if r.Reasons == nil {
		r.Reasons = []Reason{}
	}
	if r.Links == nil {
		r.Links = []Link{}
	}
	return json.Marshal(struct {
		plain
		Verdict Verdict `json:"verdict"`
	}{plain(r), r.Verdict()})
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
	case "unknown":
		if seenFrom == "master" {
			return "Disconnected"
		}
		return "Unknown"
	}
	return ""
}
