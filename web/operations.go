package web

import (
	"context"
	"strings"
	"time"
)

// Operations is what the pages ask of this Manager. It is the same code that the command line
// reaches. Every method is safe for concurrent use and ends with ctx; where something is wrong it
// returns *Problem, which the page shows beside the field or as a whole. Where a method has yes,
// a first call without it may be answered by a *Problem with Confirm.
type Operations interface {
	Administration
	Tokens
	Forming
	Membership
	Moving
	Trust
	Certificates
	Data
	Journals
	Auditor
	Notices
	History
	Drills
	Keys
	Telemetry
	// Units lists the field units.
	Units(ctx context.Context) ([]Unit, error)
	// AddUnit returns the unit's destination profile, with its secret, to be shown this once.
	AddUnit(ctx context.Context, name string) (string, error)
	RemoveUnit(ctx context.Context, name string, yes bool) (string, error)
}

// Administration is about the people who log in.
type Administration interface {
	// Founded reports whether somebody can log in already.
	Founded(ctx context.Context) (bool, error)
	// Found creates the first administrator. An empty code is for somebody at this very machine;
	// otherwise it is what the process printed when it started.
	Found(ctx context.Context, code, name, password string) error
	SetPassword(ctx context.Context, name, password string) error
	// EndSessions logs a user out everywhere, on both Managers.
	EndSessions(ctx context.Context, name string) (string, error)
}

// Forming sets redundancy up, changes it and ends it. A string is what was done, for people.
type Forming interface {
	// Settings returns this node's settings and what a form needs to know of this host.
	Settings() Settings
	// Verify checks the present settings with values put over them, and changes nothing.
	Verify(ctx context.Context, values map[string]string) ([]Check, error)
	// Connect tries to connect to one member of these values: master, backup or arbiter.
	Connect(ctx context.Context, values map[string]string, member string) ([]Check, error)
	// Review returns what storing these values would bring about. Nothing is changed.
	Review(ctx context.Context, values map[string]string) ([]Consequence, error)
	// Clock reads this node's clock and what is known of the other members'.
	Clock() Clock
	// Worst computes the worst-case takeover with values put over the present settings.
	Worst(values map[string]string) (time.Duration, error)
	// Set stores the values, agreed to. The tokens pair a Master with its Backup and its Arbiter.
	Set(ctx context.Context, values map[string]string, pairing, arbiterPairing string) (string, error)
	// Waiting tells how far the forming has come.
	Waiting() Waiting
	Token(ctx context.Context) (string, error)
	Cancel(ctx context.Context) (string, error)
	// Dismiss forgets the reason of the last fall back.
	Dismiss(ctx context.Context) error
	Leave(ctx context.Context, yes bool) (string, error)
	Activate(ctx context.Context) (string, error)
	Deactivate(ctx context.Context, yes bool) (string, error)
	Recover(ctx context.Context, yes bool) (string, error)
}

// Settings are what the form shows.
type Settings struct {
	Values      map[string]string // by the keys of the settings file; lower-case words, Go durations
	Tried       map[string]string // the values of the attempt that fell back; nil: there is none
	Addresses   []Address         // of this host
	Fingerprint string            // of this node
	Peers       []Peer            // that this node trusts, oldest first
	InPool      bool              // a member of a running pool: what all share cannot be changed here
	Deactivated bool              // for maintenance
	Over        map[string]string // settings that the command line of this process stands above, with its value
	Watched     Watched           // what a running pool checks by itself
	FallBack    *FallBack         // why the last forming ended; nil: nothing to tell
}

// Clock is this node's time of day.
type Clock struct {
	Now time.Time // in the node's zone
	// Known: the kernel says whether the clock is Synchronised, to within MaxError.
	Known, Synchronised bool
	MaxError            time.Duration
	Others              []ClockOf
}

// ClockOf is how far another member's clock is ahead of this node's.
type ClockOf struct {
	Name  string
	Ahead time.Duration
	Known bool
}

// Address is one address of this host.
type Address struct {
	Address   string // with its prefix length
	Interface string
	Dynamic   bool // has a limited lifetime, as one from DHCP
}

// Peer is an approved partner.
type Peer struct {
	Fingerprint string    `json:"fingerprint"`
	Role        string    `json:"role"`
	Name        string    `json:"name"`
	Address     string    `json:"address"` // empty: not known
	How         string    `json:"how"`     // token, fingerprint, master (it named a member of its pool); empty: not known
	Since       time.Time `json:"since"`
	InPool      bool      `json:"in_pool"` // the running pool needs it
}

// FallBack is why this node returned to Standalone.
type FallBack struct {
	Code, Text string
	At         time.Time
}

// Check is one result of Verify. Result is ok, warning, failed or unknown; Field is the key of
// the field it belongs to, or empty.
type Check struct {
	Code   string `json:"code"`
	Field  string `json:"field"`
	Member string `json:"member"`
	Result string `json:"result"`
	Text   string `json:"text"`
	Fix    string `json:"fix"`
}

// Consequence is one thing that will happen; Word is to be typed by whoever agrees, if not empty.
type Consequence struct {
	Text string `json:"text"`
	Word string `json:"word,omitempty"`
}

// Waiting is how far a pool's forming has come on this node.
type Waiting struct {
	Forming bool
	// HoldsToken: this node is on hold and can make a pairing token.
	HoldsToken bool
	Members    []WaitingMember // this node first
	Problem    string          // what the last try came to; empty: nothing went wrong
	// Differences are the values that the Master last asked for and this Backup does not have.
	Differences []Difference
	// Copy is how far the whole copy of the database has come; nil: none was begun.
	Copy *Copy
	// ToCopy is how many changes the Backup still lacks; negative: not known.
	ToCopy int64
}

// WaitingMember is one member's part of the checklist.
type WaitingMember struct {
	Title   string `json:"title"`   // "Backup b"
	Address string `json:"address"` // with the port
	Role    string `json:"role"`
	Status  string `json:"status"`
	// Untrusted: nobody has approved it here yet, so nothing works with it.
	Untrusted bool   `json:"untrusted,omitempty"`
	Steps     []Step `json:"steps"`
}

// Step is one step of the forming.
type Step struct {
	Text string `json:"text"`
	Done bool   `json:"done"`
	// Problem is why it is not done yet, as far as that is known.
	Problem string `json:"problem,omitempty"`
}

// Difference is one value that the two Managers have differently.
type Difference struct {
	What   string `json:"what"`
	Master string `json:"master"`
	Here   string `json:"here"`
}

// Copy is a whole copy of the database on its way.
type Copy struct {
	Bytes     int64   `json:"bytes"`
	Total     int64   `json:"total"`
	PerSecond float64 `json:"bytes_per_second"`
	LeftMS    int64   `json:"left_ms"` // at this rate; negative: cannot be told
}

// Percent of it that has been copied.
func (c Copy) Percent() int {
	if c.Total == 0 {
		return 0
	}
	return int(100 * c.Bytes / c.Total)
}

// Unit is one field unit.
type Unit struct {
	Name      string
	Connected bool
	LastSeen  time.Time // zero: never
	NoSecret  bool      // it came from a restored copy and needs a new profile
}

// Problem is why something was not done.
type Problem struct {
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Fix     string         `json:"fix,omitempty"`
	Fields  []FieldProblem `json:"fields,omitempty"`
	Confirm []Consequence  `json:"confirm,omitempty"`
}

// FieldProblem is what is wrong with one field.
type FieldProblem struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Fix     string `json:"fix"`
}

func (p *Problem) Error() string {
	text := p.Message
	for _, f := range p.Fields {
		text += "; " + f.Field + ": " + f.Message
	}
	if p.Fix != "" {
		text += ": " + p.Fix
	}
	return strings.TrimSpace(text)
}
