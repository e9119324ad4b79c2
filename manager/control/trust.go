package control

import (
	"context"
	"encoding/json"
)

// Trust is about whose keys this Manager believes. Fingerprints are 64 hex digits; blanks between
// them do not matter.
type Trust interface {
	// Connections lists whom this Manager trusts, and who waits for that.
	Connections(ctx context.Context) (Connections, error)
	// Contact calls the pool port at address (host, or host:port) and notes the key that answers for
	// approval as role: master, backup or arbiter. The other side sees this one's key likewise.
	Contact(ctx context.Context, address, role string) (Done, error)
	// Approve trusts the node with this fingerprint; role is needed for one that never came. What it
	// replaces is asked first.
	Approve(ctx context.Context, fingerprint, role string, yes bool) (Done, error)
	// Reject forgets a contact and refuses that key for a while.
	Reject(ctx context.Context, fingerprint string) (Done, error)
	// Withdraw ends an approval that no running pool needs.
	Withdraw(ctx context.Context, fingerprint string, yes bool) (Done, error)
}

// Connections are this Manager's own key, the keys that it trusts, and those that came and are not
// trusted.
type Connections struct {
	Fingerprint string     `json:"fingerprint"`
	Approved    []Approval `json:"approved"`
	Contacts    []Contact  `json:"contacts"`
}

// Approval is one trusted key.
type Approval struct {
	Fingerprint string `json:"fingerprint"`
	Role        string `json:"role"` // master, backup or arbiter
	Name        string `json:"name"`
	Address     string `json:"address"` // empty: not known
	How         string `json:"how"`     // token, fingerprint, master (it named a member of its pool); empty: not known
	SinceMS     int64  `json:"since_ms"`
	InPool      bool   `json:"in_pool"` // the running pool needs it
}

// Contact is a key that came and is not trusted. Role and name are its own words.
type Contact struct {
	Fingerprint string `json:"fingerprint"`
	Role        string `json:"role"` // empty: a Manager that is not set to anything yet
	Name        string `json:"name"`
	Address     string `json:"address"`
	FirstMS     int64  `json:"first_ms"`
	LastMS      int64  `json:"last_ms"`
	// RejectedUntilMS: a person rejected it, and it is not listened to until then; 0: nobody did.
	RejectedUntilMS int64 `json:"rejected_until_ms"`
	// Instead is the approved key that was expected from there: the certificate has changed.
	Instead string `json:"instead"`
	// InPool: the running pool has the key Instead, so this one cannot be approved beside it.
	InPool bool `json:"in_pool"`
}

// trustRequest is the JSON of the operations above.
type trustRequest struct {
	Fingerprint string `json:"fingerprint,omitempty"`
	Address     string `json:"address,omitempty"`
	Role        string `json:"role,omitempty"`
	Yes         bool   `json:"yes,omitempty"`
}

// trustOps returns the operations of t for ManagerOps.
func trustOps(t Trust) map[string]Handler {
	with := func(do func(context.Context, trustRequest) (any, error)) Handler {
		return func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var r trustRequest
			if err := decodeRequest(in, &r); err != nil {
				return nil, err
			}
			return do(ctx, r)
		}
	}
	return map[string]Handler{
		"trust/list":    with(func(ctx context.Context, _ trustRequest) (any, error) { return t.Connections(ctx) }),
		"trust/contact": with(func(ctx context.Context, r trustRequest) (any, error) { return t.Contact(ctx, r.Address, r.Role) }),
		"trust/approve": with(func(ctx context.Context, r trustRequest) (any, error) {
			return t.Approve(ctx, r.Fingerprint, r.Role, r.Yes)
		}),
		"trust/reject":   with(func(ctx context.Context, r trustRequest) (any, error) { return t.Reject(ctx, r.Fingerprint) }),
		"trust/withdraw": with(func(ctx context.Context, r trustRequest) (any, error) { return t.Withdraw(ctx, r.Fingerprint, r.Yes) }),
	}
}

// Connections implements Trust.
func (r *Remote) Connections(ctx context.Context) (Connections, error) {
	return call[Connections](ctx, r, "trust/list", trustRequest{})
}

// Contact implements Trust.
func (r *Remote) Contact(ctx context.Context, address, role string) (Done, error) {
	return call[Done](ctx, r, "trust/contact", trustRequest{Address: address, Role: role})
}

// Approve implements Trust.
func (r *Remote) Approve(ctx context.Context, fingerprint, role string, yes bool) (Done, error) {
	return call[Done](ctx, r, "trust/approve", trustRequest{Fingerprint: fingerprint, Role: role, Yes: yes})
}

// Reject implements Trust.
func (r *Remote) Reject(ctx context.Context, fingerprint string) (Done, error) {
	return call[Done](ctx, r, "trust/reject", trustRequest{Fingerprint: fingerprint})
}

// Withdraw implements Trust.
func (r *Remote) Withdraw(ctx context.Context, fingerprint string, yes bool) (Done, error) {
	return call[Done](ctx, r, "trust/withdraw", trustRequest{Fingerprint: fingerprint, Yes: yes})
}
