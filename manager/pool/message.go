package pool

import "time"

// linkMessage is one frame on a link; exactly one field is set.
type linkMessage struct {
	Beat    *beat    `json:"b,omitempty"`
	Answer  *answer  `json:"a,omitempty"`
	Release *release `json:"r,omitempty"`
	Ask     *ask     `json:"q,omitempty"`
	Verdict *verdict `json:"v,omitempty"`
	// Bye: the sender's process ends now, in order; what it would have stored is not to be waited for.
	Bye    bool    `json:"z,omitempty"`
	Record *Record `json:"rc,omitempty"` // to an Arbiter: what was agreed meanwhile
}

// beat is a heartbeat. With Lead the sender leads in Term and asks for a lease.
type beat struct {
	Seq  uint64 `json:"n"`
	Term uint64 `json:"t"`
	Lead bool   `json:"l,omitempty"`
	// Epoch counts how often the sender has let its voters go; with Term it orders a heartbeat
	// and a release that came over different paths.
	Epoch uint64 `json:"e,omitempty"`
	// Lease is what the sender counts on, in ns: a voter promises that much whatever its own
	// settings say.
	Lease time.Duration `json:"ls,omitempty"`
	// Boot is new at each start of the sender, so that a log that went backwards is told from
	// heartbeats that overtook one another.
	Boot   string `json:"bt,omitempty"`
	Report report `json:"r"`
	// Laid repeats a release while the sender still leads in Raft without being Primary: the
	// message itself may have been lost.
	Laid *release `json:"rl,omitempty"`
	// Farewell is the SHA-256 of the secret that the sender's guard gives away once the sender's
	// process is dead and the VIP gone.
	Farewell string `json:"f,omitempty"`
	View     *View  `json:"v,omitempty"`
}

// answer goes back on the same link at once, off the disk path.
type answer struct {
	Seq     uint64 `json:"n"`
	Term    uint64 `json:"t"`
	Epoch   uint64 `json:"e,omitempty"`
	Granted bool   `json:"g,omitempty"`
	// Boot is that of the answering process.
	Boot string `json:"bt,omitempty"`
	// Stale says that the asker's log ends before where it once was: its store was lost or
	// rolled back, and it must not vote until it has caught up.
	Stale bool `json:"s,omitempty"`
	// Revision of the sender's record.
	Revision uint64 `json:"rv,omitempty"`
}

// release says that the sender no longer is Primary in Term and names who may follow.
type release struct {
	Term  uint64   `json:"t"`
	Epoch uint64   `json:"e,omitempty"`
	To    MemberID `json:"to,omitempty"`
	Kind  string   `json:"k,omitempty"` // hand_over or take_back when To was chosen by someone
	Why   string   `json:"w,omitempty"`
	Code  string   `json:"c,omitempty"` // of the cause
}

func (r release) at() tenure { return tenure{r.Term, r.Epoch} }

// ask is a Manager's question to the third member: is that leader dead for you too?
type ask struct {
	Seq    uint64   `json:"n"`
	Leader MemberID `json:"l"`
	Term   uint64   `json:"t"`
}

// verdict answers an ask. With Dead the sender's vote is free.
type verdict struct {
	Seq  uint64    `json:"n"`
	Dead bool      `json:"d"`
	Why  string    `json:"w"`
	Last Position  `json:"p"`           // the end of the sender's log
	Saw  *Sighting `json:"o,omitempty"` // with Dead: on what evidence
}

// report is what a member says of itself in every heartbeat.
type report struct {
	Status  Status   `json:"s"`
	Last    Position `json:"p"`           // end of its log
	Applied uint64   `json:"x,omitempty"` // stored in its database
	// ApplyLag is how long the oldest committed entry that its database lacks has been waiting.
	ApplyLag time.Duration `json:"al,omitempty"`
	Disk     string        `json:"k,omitempty"` // why its disk is not healthy; empty: it is
	// Hears is, by member, how long ago it heard it, in ms; -1 never, first path and second.
	Hears       map[MemberID][2]int64 `json:"h,omitempty"`
	Digest      string                `json:"d,omitempty"`
	DigestAt    uint64                `json:"da,omitempty"`
	Maintenance bool                  `json:"m,omitempty"` // votes, but takes no Primary
	WallMS      int64                 `json:"w,omitempty"` // its wall clock
	CommitUS    int64                 `json:"c,omitempty"` // smoothed time of a write to its disk
	Version     string                `json:"ver,omitempty"`
	Name        string                `json:"nm,omitempty"`
	Unfit       string                `json:"u,omitempty"`  // why it could not serve although its disk is well
	Starting    bool                  `json:"st,omitempty"` // has just started and votes for nobody yet
	Revision    uint64                `json:"rv,omitempty"` // of its record
	RunsOld     bool                  `json:"ro,omitempty"` // must be opened anew to work by its record
	Term        uint64                `json:"t,omitempty"`  // of its log
	Follows     MemberID              `json:"fo,omitempty"` // whom it takes for the leader
	Facts       Facts                 `json:"fx,omitzero"`
}

// View is the leader's picture of the pool, handed to all so that it reads the same everywhere.
type View struct {
	Term       uint64         `json:"term"`
	Leader     MemberID       `json:"leader,omitempty"` // whose picture this is
	Primary    MemberID       `json:"primary,omitempty"`
	Health     Health         `json:"health"`
	Members    []MemberView   `json:"members"`
	Reasons    []Reason       `json:"reasons,omitempty"` // why a failover would not succeed now
	Notes      []Reason       `json:"notes,omitempty"`   // what hinders no failover, but is to be known
	Changeover *Changeover    `json:"changeover,omitempty"`
	Extra      map[string]any `json:"extra,omitempty"` // facts the composer wants on every page
	Recovery   Recovery       `json:"recovery,omitzero"`
}

// MemberView is one row of a View.
type MemberView struct {
	ID     MemberID `json:"id"`
	Status Status   `json:"status"`
	InStep bool     `json:"in_step"`
	Behind uint64   `json:"behind"`
	// Hears is what it said of whom it hears, aged by the leader; nil: it is not heard by the leader.
	Hears map[MemberID][2]int64 `json:"h,omitempty"`
}

// Reason says why something is not safe now.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Changeover is the account of one change of Primary. Times in ms count from the moment that the
// old Primary was last heard (takeover) or asked to leave (hand over); -1: not yet.
type Changeover struct {
	Kind        string    `json:"kind"` // takeover, hand_over, take_back, start
	Cause       string    `json:"cause"`
	Code        string    `json:"code"` // of the cause, one of the Cause constants
	At          time.Time `json:"at"`
	Term        uint64    `json:"term"`
	From        string    `json:"from"` // member name
	To          string    `json:"to"`
	DetectedMS  float64   `json:"detected_ms"`
	ElectedMS   float64   `json:"elected_ms"`
	FencedMS    float64   `json:"fenced_ms"` // the new term has committed: no older one can
	VIPMS       float64   `json:"vip_ms"`
	FirstWrite  float64   `json:"first_write_ms"`
	FirstUnit   float64   `json:"first_unit_ms"`
	AllUnits    float64   `json:"all_units_ms"`
	Lost        int64     `json:"lost"`
	StoredTwice int64     `json:"stored_twice"`
	Audited     bool      `json:"audited"` // Lost and StoredTwice have been checked
	// FromTerm is the term of the old Primary, Evidence what each member had seen of it; both are
	// not spread with every heartbeat.
	FromTerm uint64     `json:"-"`
	Evidence []Sighting `json:"-"`

	Began Instant `json:"-"`
}
