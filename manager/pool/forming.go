package pool

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"redundancypool/manager/pool/transport"
)

// The calls by which a pool is formed and left, on the pool port. All but MethodPair are taken
// only from an approved Master.
const (
	MethodPair    = "pair"    // a pairing token proves both sides to each other
	MethodJoin    = "join"    // will you be a member of this pool? answered with a fresh identity
	MethodPlan    = "plan"    // the whole pool: who is who; the member starts
	MethodAbandon = "abandon" // the attempt is over, forget it
	MethodDismiss = "dismiss" // the pool is being left, forget it
	MethodReopen  = "reopen"  // new values were agreed: open your services anew
	MethodResign  = "resign"  // a Manager goes on alone: the Arbiter must never vote in the old pool again
)

// PairRequest is the body of MethodPair; Proof is bound to the connection.
type PairRequest struct {
	Proof []byte `json:"proof"`
	Role  Role   `json:"role"`
	Name  string `json:"name"`
}

// PairAnswer answers it with the other side's proof.
type PairAnswer struct {
	Proof []byte `json:"proof"`
	Role  Role   `json:"role"`
	Name  string `json:"name"`
}

// JoinRequest is the body of MethodJoin: what the Master wants, for the other side to compare
// with its own settings.
type JoinRequest struct {
	Pool        string         `json:"pool"`
	Incarnation string         `json:"incarnation"`
	As          Role           `json:"as"`
	Address     netip.AddrPort `json:"address"` // where the Master reaches this member
	Master      netip.AddrPort `json:"master"`  // where the Master is
	VIP         string         `json:"vip"`
	Version     string         `json:"version"`
	Remaining   time.Duration  `json:"remaining"` // until the attempt is given up
}

// JoinAnswer names the member's fresh store.
type JoinAnswer struct {
	ID      MemberID       `json:"id"`
	Name    string         `json:"name"`
	MAC     string         `json:"mac,omitempty"`
	Second  netip.AddrPort `json:"second,omitzero"`
	Symbol  string         `json:"symbol,omitempty"`
	Comment string         `json:"comment,omitempty"`
}

// Plan is the body of MethodPlan. The receiver puts its own id in Record.Self.
type Plan struct {
	Record    Record        `json:"record"`
	Remaining time.Duration `json:"remaining"`
	// The certificate that both Managers show on the VIP, PEM; not for the Arbiter.
	Certificate []byte `json:"certificate,omitempty"`
	Key         []byte `json:"key,omitempty"`
}

// Attempt names what MethodAbandon and MethodDismiss are about.
type Attempt struct {
	Pool        string `json:"pool"`
	Incarnation string `json:"incarnation"`
	Why         string `json:"why"`
	// Removed: the Master's log has taken this member out again, even if it voted for a moment.
	Removed bool `json:"removed,omitempty"`
}

// Differences compares what the Master asks for with what this node is set to, field by field.
// Values that this node leaves open are not compared.
func (j JoinRequest) Differences(local, master netip.AddrPort, vip, version string) []string {
	var out []string
	diff := func(field, theirs, ours string) {
		if ours != "" && theirs != ours {
			out = append(out, fmt.Sprintf("%s: the Master has %s, this node has %s", field, theirs, ours))
		}
	}
	if local.IsValid() {
		diff("address of this node", j.Address.String(), local.String())
	}
	if master.IsValid() {
		diff("address of the Master", j.Master.String(), master.String())
	}
	diff("virtual IP", j.VIP, vip)
	diff("version", j.Version, version)
	return out
}

// MismatchError says which settings of two members differ.
func MismatchError(differences []string) error {
	return transport.Refuse("mismatch", "settings differ: %s; set the same on both", strings.Join(differences, "; "))
}

// CallMember asks a member one question of the forming protocol.
func CallMember(ctx context.Context, d *transport.Dialer, addr netip.AddrPort, fingerprint, method string, question, answer any) error {
	return d.Call(ctx, addr.String(), fingerprint, transport.Hello{Method: method},
		func(tls.ConnectionState) (any, error) { return question, nil }, answer)
}
