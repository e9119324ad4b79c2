package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Status is the part of `manager status --json` that trials read. Words are lower case, as the
// command prints them.
type Status struct {
	Role             string      `json:"role"`
	Status           string      `json:"status"`
	Health           string      `json:"health"`
	Term             uint64      `json:"term"`
	Node             string      `json:"node"`
	Pool             string      `json:"pool"`
	VIP              VIP         `json:"vip"`
	Members          []Member    `json:"members"`
	FieldUnits       int         `json:"field_units"`
	FailoverPossible bool        `json:"failover_possible"`
	Reasons          []Reason    `json:"reasons"`
	WorstCaseMS      float64     `json:"worst_case_takeover_ms"`
	GuardPID         int         `json:"guard_pid"`
	LastChangeover   *Changeover `json:"last_changeover"`
}

// VIP is the virtual IP as one Manager sees it.
type VIP struct {
	Address   string `json:"address"`
	Bound     bool   `json:"bound"`
	Interface string `json:"interface"`
}

// Member is one line of a Manager's list of members.
type Member struct {
	Name        string  `json:"name"`
	Role        string  `json:"role"`
	Status      string  `json:"status"`
	Address     string  `json:"address"`
	LastHeardMS float64 `json:"last_heard_ms"`
	InStep      bool    `json:"in_step"`
	Behind      float64 `json:"behind"`
}

// Reason says why something is not as it should be.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Changeover is the Manager's own account of the last change of Primary; times are in ms after
// the cause, as far as the Manager knows it.
type Changeover struct {
	Kind         string  `json:"kind"`
	Cause        string  `json:"cause"`
	Term         uint64  `json:"term"`
	From         string  `json:"from"`
	To           string  `json:"to"`
	DetectedMS   float64 `json:"detected_ms"`
	ElectedMS    float64 `json:"elected_ms"`
	VIPMS        float64 `json:"vip_ms"`
	FirstWriteMS float64 `json:"first_write_ms"`
	FirstUnitMS  float64 `json:"first_unit_ms"`
	AllUnitsMS   float64 `json:"all_units_ms"`
}

func parseStatus(data []byte) (Status, error) {
	var s Status
	if err := json.Unmarshal(data, &s); err != nil {
		return Status{}, fmt.Errorf("status is not JSON: %w", err)
	}
	if s.Role == "" || s.Status == "" {
		return Status{}, errors.New("status has no role or no status")
	}
	return s, nil
}

// Primary says whether this Manager says that it is Primary.
func (s Status) Primary() bool { return s.Status == "primary" }

// Protected says whether the pool survives any single failure.
func (s Status) Protected() bool { return s.Health == "protected" }

// why lists the reasons in one line.
func (s Status) why() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, pool %s", s.Role, s.Status, s.Health)
	for _, r := range s.Reasons {
		fmt.Fprintf(&b, "; %s: %s", r.Code, r.Text)
	}
	return b.String()
}
