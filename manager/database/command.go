package database

import (
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"

	"redundancypool/fieldunit"
)

// Limits of a command. Encode refuses more, Decode too.
const (
	MaxCommandSize = 8 << 20 // bytes of one encoded command
	MaxRecords     = 65536   // telemetries in one TelemetryBatch
	maxName        = 1024    // bytes of a name, tag, code
	maxText        = 1 << 20 // bytes of a value, message, JSON
	maxPrune       = 10000   // rows that one Prune may remove
)

// Envelope comes with every command. The proposer fixes all of it before it proposes.
type Envelope struct {
	// Client and Sequence make a repeated proposal harmless: the same pair is applied once and
	// gets the first result again, as long as it is among the last ResultWindow sequences of
	// its client. A client numbers its commands upwards, each with its own number, and has at
	// most ResultWindow of them under way. Client is at most 64 bytes; empty: not recognised.
	Client   string
	Sequence uint64
	// ProposedMS is the proposer's clock in Unix milliseconds.
	ProposedMS int64
}

// Command is what one log entry asks for.
type Command struct {
	Envelope
	Body Body
}

// Body is one of TelemetryBatch, UnitAdd, UnitSecret, UnitRemove, UserPut, UserRemove,
// SettingPut, SettingRemove, EventAppend, ChangeoverAppend, Canary, Prune, PoolPut, ReportPut, Once,
// NoticePut, SecretPut.
type Body interface {
	kind() kind
	validate() error
	encode(*encoder)
}

// kind is the second byte of an encoded command. Append only.
type kind uint8

const (
	kindTelemetry kind = iota + 1
	kindUnitAdd
	kindUnitSecret
	kindUnitRemove
	kindUserPut
	kindUserRemove
	kindSettingPut
	kindSettingRemove
	kindEvent
	kindChangeover
	kindCanary
	kindPrune
	kindPool
	kindReport
	kindOnce
	kindNotice
	kindSecret
)

// TelemetryBatch stores records of any number of units. Result.Records has one Outcome each.
type TelemetryBatch struct {
	Records []fieldunit.Telemetry
}

// UnitAdd creates a field unit. ErrUnitExists when there is one of this name.
type UnitAdd struct {
	Name   string
	Secret [32]byte // SHA-256 of the generated secret
}

// UnitSecret replaces a unit's secret. ErrUnknownUnit when there is none of this name.
type UnitSecret struct {
	Name   string
	Secret [32]byte
}

// UnitRemove removes a unit and its secret; its history stays readable. ErrUnknownUnit.
type UnitRemove struct{ Name string }

// UserPut creates a user or changes one.
type UserPut struct {
	Name       string
	Hash       string // argon2 string, made by the proposer; never logged
	Generation uint64 // raised to end all sessions of the user
}

// UserRemove removes a user. ErrUnknownUser.
type UserRemove struct{ Name string }

// SettingPut sets a replicated setting.
type SettingPut struct{ Key, Value string }

// SettingRemove removes a replicated setting. ErrUnknownSetting.
type SettingRemove struct{ Key string }

// EventAppend appends one event to the replicated history.
type EventAppend struct{ Event Event }

// ChangeoverAppend appends one record of a change of Primary. Logs of earlier versions have it; ReportPut
// is proposed now.
type ChangeoverAppend struct {
	AtMS int64
	JSON string // one JSON object
}

// Canary raises a counter: the health check of the whole write path.
type Canary struct{}

// Prune removes what is older than the retention, a bounded amount per command: at most Limit
// rows (1 to 10,000). Result.More says that another Prune would find more to look at.
type Prune struct {
	SamplesBeforeMS int64 // received (by the proposer's clock) before this and, unless its source clock is far ahead, measured before this; 0: none
	EventsBeforeMS  int64 // 0: none
	Limit           uint64
}

// PoolPut says which pool the data belong to. ErrPoolSet when that is another one already.
type PoolPut struct{ Pool string }

// OwnEvents is the category of the events that the database adds itself while it applies a command;
// all others come by EventAppend.
const OwnEvents = "data"

// Event is one entry of the replicated history.
type Event struct {
	ID       int64 // given by the database
	TimeMS   int64 // Unix milliseconds, clock of Node
	Node     string
	Severity string
	Category string
	Code     string
	Message  string
	Cause    string
	Details  string // JSON, or empty
}

func (TelemetryBatch) kind() kind   { return kindTelemetry }
func (UnitAdd) kind() kind          { return kindUnitAdd }
func (UnitSecret) kind() kind       { return kindUnitSecret }
func (UnitRemove) kind() kind       { return kindUnitRemove }
func (UserPut) kind() kind          { return kindUserPut }
func (UserRemove) kind() kind       { return kindUserRemove }
func (SettingPut) kind() kind       { return kindSettingPut }
func (SettingRemove) kind() kind    { return kindSettingRemove }
func (EventAppend) kind() kind      { return kindEvent }
func (ChangeoverAppend) kind() kind { return kindChangeover }
func (Canary) kind() kind           { return kindCanary }
func (Prune) kind() kind            { return kindPrune }
func (PoolPut) kind() kind          { return kindPool }

func (b TelemetryBatch) validate() error {
	if n := len(b.Records); n == 0 || n > MaxRecords {
		return fmt.Errorf("%w: %d records: need 1 to %d", ErrInvalid, n, MaxRecords)
	}
	for i := range b.Records {
		if err := validTelemetry(&b.Records[i]); err != nil {
			return fmt.Errorf("record %d: %w", i, err)
		}
	}
	return nil
}

// validTelemetry refuses what cannot be stored without loss.
func validTelemetry(t *fieldunit.Telemetry) error {
	if err := validText("unit", t.Unit, 1, maxName); err != nil {
		return err
	}
	for _, f := range [...]struct{ field, text string }{{"boot", t.Boot}, {"node", t.Node}, {"group", t.Group}} {
		if err := validText(f.field, f.text, 0, maxName); err != nil {
			return err
		}
	}
	if t.HasSeq && t.Seq > math.MaxInt64 {
		return fmt.Errorf("%w: seq %d exceeds %d", ErrInvalid, t.Seq, int64(math.MaxInt64))
	}
	if n := len(t.Readings); n == 0 || n > fieldunit.MaxReadings {
		return fmt.Errorf("%w: %d readings: need 1 to %d", ErrInvalid, n, fieldunit.MaxReadings)
	}
	for i := range t.Readings {
		r := &t.Readings[i]
		if err := validText("tag", r.Tag, 1, maxName); err != nil {
			return err
		}
		if r.Value.Kind > fieldunit.JSON {
			return fmt.Errorf("%w: tag %q: value kind %d", ErrInvalid, r.Tag, r.Value.Kind)
		}
		if err := validText("value", r.Value.Str, 0, maxText); err != nil {
			return err
		}
		switch r.Value.Kind {
		case fieldunit.Bool:
			if r.Value.Num > 1 {
				return fmt.Errorf("%w: tag %q: bool %d", ErrInvalid, r.Tag, r.Value.Num)
			}
		case fieldunit.None, fieldunit.Text, fieldunit.JSON:
			if r.Value.Num != 0 {
				return fmt.Errorf("%w: tag %q: a number inside a value without one", ErrInvalid, r.Tag)
			}
		case fieldunit.Int, fieldunit.Float:
		}
		if r.Value.Str != "" && r.Value.Kind != fieldunit.Text && r.Value.Kind != fieldunit.JSON {
			return fmt.Errorf("%w: tag %q: text inside a value without one", ErrInvalid, r.Tag)
		}
	}
	return nil
}

func (b UnitAdd) validate() error       { return validText("unit", b.Name, 1, maxName) }
func (b UnitSecret) validate() error    { return validText("unit", b.Name, 1, maxName) }
func (b UnitRemove) validate() error    { return validText("unit", b.Name, 1, maxName) }
func (b UserRemove) validate() error    { return validText("user", b.Name, 1, maxName) }
func (b SettingRemove) validate() error { return validText("setting", b.Key, 1, maxName) }
func (b PoolPut) validate() error       { return validText("pool", b.Pool, 1, maxName) }
func (Canary) validate() error          { return nil }

func (b UserPut) validate() error {
	if b.Generation > math.MaxInt64 {
		return fmt.Errorf("%w: generation %d exceeds %d", ErrInvalid, b.Generation, int64(math.MaxInt64))
	}
	if err := validText("user", b.Name, 1, maxName); err != nil {
		return err
	}
	return validText("hash", b.Hash, 0, maxName)
}

func (b SettingPut) validate() error {
	if err := validText("setting", b.Key, 1, maxName); err != nil {
		return err
	}
	return validText("value", b.Value, 0, maxText)
}

func (b EventAppend) validate() error {
	e := &b.Event
	if e.ID != 0 {
		return fmt.Errorf("%w: event id %d: the database gives it", ErrInvalid, e.ID)
	}
	for _, f := range [...]struct {
		field, text string
		max         int
	}{
		{"node", e.Node, maxName}, {"severity", e.Severity, maxName}, {"category", e.Category, maxName}, {"code", e.Code, maxName},
		{"message", e.Message, maxText}, {"cause", e.Cause, maxText}, {"details", e.Details, maxText},
	} {
		if err := validText(f.field, f.text, 0, f.max); err != nil {
			return err
		}
	}
	if e.Details != "" && !json.Valid([]byte(e.Details)) {
		return fmt.Errorf("%w: details of event %q are not JSON", ErrInvalid, e.Code)
	}
	return nil
}

func (b ChangeoverAppend) validate() error {
	if err := validText("changeover", b.JSON, 1, maxText); err != nil {
		return err
	}
	if !json.Valid([]byte(b.JSON)) {
		return fmt.Errorf("%w: changeover record is not JSON", ErrInvalid)
	}
	return nil
}

func (b Prune) validate() error {
	if b.Limit == 0 || b.Limit > maxPrune {
		return fmt.Errorf("%w: prune limit %d: need 1 to %d", ErrInvalid, b.Limit, maxPrune)
	}
	return nil
}

// validText refuses what SQLite would not give back unchanged: other encodings than UTF-8,
// and NUL, at which its text functions stop.
func validText(field, s string, least, most int) error {
	if len(s) < least || len(s) > most {
		return fmt.Errorf("%w: %s has %d bytes: need %d to %d", ErrInvalid, field, len(s), least, most)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%w: %s is not UTF-8", ErrInvalid, field)
	}
	for i := range len(s) {
		if s[i] == 0 {
			return fmt.Errorf("%w: %s contains NUL", ErrInvalid, field)
		}
	}
	return nil
}

func (c Command) validate() error {
	if c.Body == nil {
		return fmt.Errorf("%w: no body", ErrInvalid)
	}
	if err := validText("client", c.Client, 0, 64); err != nil {
		return err
	}
	if c.Sequence > math.MaxInt64 {
		return fmt.Errorf("%w: sequence %d exceeds %d", ErrInvalid, c.Sequence, int64(math.MaxInt64))
	}
	return c.Body.validate()
}
