package pool

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
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
	MethodCompare = "compare" // the question of MethodJoin, for its differences alone
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
	Second      netip.AddrPort `json:"second,omitzero"` // where it does on the second path
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

// Difference is one value that two members have differently.
type Difference struct {
	// Field is vip, prefix, master, member, second or version: the virtual IP, its prefix length, the Master's
	// address and port, the asked member's, its address on the second path, the release.
	Field string `json:"field"`
	Asker string `json:"asker"` // what the Master has
	Asked string `json:"asked"` // what the asked member has
}

var differenceNames = map[string]string{
	"vip": "virtual IP", "prefix": "prefix length of the virtual IP", "master": "address of the Master", "member": "address of this node",
	"second": "address of this node on the second path", "version": "version",
}

// DifferenceName is what people call a Difference's field, on the asked member.
func DifferenceName(field string) string { return differenceNames[field] }

func (d Difference) String() string {
	return fmt.Sprintf("%s: the Master has %s, this node has %s", differenceNames[d.Field], d.Asker, d.Asked)
}

// Differences compares what the Master asks for with what the asked member is set to, field by
// field. Values that one of them leaves open are not compared.
func (j JoinRequest) Differences(member, second, master netip.AddrPort, vip netip.Prefix, version string) []Difference {
	var out []Difference
	diff := func(field, asker, asked string) {
		if asked != asker {
			out = append(out, Difference{field, asker, asked})
		}
	}
	ports := func(field string, asker, asked netip.AddrPort) {
		if asker.IsValid() && asked.IsValid() {
			diff(field, asker.String(), asked.String())
		}
	}
	if theirs, err := netip.ParsePrefix(j.VIP); err == nil && vip.IsValid() {
		diff("vip", theirs.Addr().String(), vip.Addr().String())
		diff("prefix", fmt.Sprint("/", theirs.Bits()), fmt.Sprint("/", vip.Bits()))
	}
	ports("member", j.Address, member)
	ports("second", j.Second, second)
	ports("master", j.Master, master)
	if version != "" {
		diff("version", j.Version, version)
	}
	return out
}

// MismatchError says which settings of two members differ; its data are the Differences.
func MismatchError(differences []Difference) error {
	text := make([]string, len(differences))
	for i, d := range differences {
		text[i] = d.String()
	}
	data, err := json.Marshal(differences)
	if err != nil {
		return err
	}
	return &transport.Refusal{Code: "mismatch", Text: fmt.Sprintf("settings differ: %s; set the same on both", strings.Join(text, "; ")), Data: string(data)}
}

// DifferencesOf returns what a member's refusal says that differs; nil: it is another refusal.
func DifferencesOf(err error) []Difference {
	var no *transport.Refusal
	var out []Difference
	if !errors.As(err, &no) || no.Code != "mismatch" || json.Unmarshal([]byte(no.Data), &out) != nil {
		return nil
	}
	return out
}

// CallMember asks a member one question of the forming protocol.
func CallMember(ctx context.Context, d *transport.Dialer, addr netip.AddrPort, fingerprint, method string, question, answer any) error {
	return d.Call(ctx, addr.String(), fingerprint, transport.Hello{Method: method},
		func(tls.ConnectionState) (any, error) { return question, nil }, answer)
}
