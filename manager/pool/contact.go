package pool

// MethodGreet is the first contact of two nodes, before either trusts the other: each says what a
// login page would say too, and by TLS each proves its key, so that people can compare fingerprints.
const MethodGreet = "greet"

// Introduction is what a node says of itself to anybody on the pool port. Nothing in it may be
// believed before the peer's fingerprint is approved; until then it serves to show and to explain.
type Introduction struct {
	Role     string   `json:"role"` // standalone, master, backup or arbiter, as configured
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Standing Standing `json:"standing"`
	ClockMS  int64    `json:"clock_ms"`       // its wall clock, Unix milliseconds
	Port     uint16   `json:"port,omitempty"` // its pool port, when it is the one who asks
	// Modules are the licensed modules, sorted; none in this product.
	Modules []string `json:"modules,omitempty"`
	// Trusts is the role in which the other's key is approved here; empty: it is not.
	Trusts string `json:"trusts,omitempty"`
	// Fellow: the asker is a member of the pool that this node belongs to.
	Fellow bool `json:"fellow,omitempty"`
}

// Standing is how far a node is bound to a pool.
type Standing string

// The values of Standing.
const (
	Free    Standing = "free"    // belongs to no pool; a Manager works alone
	Waiting Standing = "on_hold" // a Backup that waits for its Master
	Joining Standing = "forming" // in a pool that is not effective yet
	Bound   Standing = "in_pool"
	Stray   Standing = "stray" // an Arbiter whose folder has state that no new Arbiter has
)
