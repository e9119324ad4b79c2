package control

import (
	"context"
	"encoding/json"
	"maps"
)

// Manager is what a Manager's process can be told to do. Every method is safe for concurrent use,
// ends with ctx, and may return *Error. Where a request has Yes, a first call without it may be
// answered by an *Error with Confirm.
type Manager interface {
	// Status returns the object of GET /api/v1/redundancy. It must not wait for disk or network.
	Status(ctx context.Context) (any, error)
	Redundancy
	Trust
	Certificates
	Members
	Saves
	History
	Units
	Users
	Tokens
	Database
	Logs
	Notices
}

// Redundancy forms a pool, changes it and ends it.
type Redundancy interface {
	// Verify checks the present settings with the form's values put over them.
	Verify(ctx context.Context, f Form) (VerifyReport, error)
	// Set stores the settings and returns before the pool forms.
	Set(ctx context.Context, f Form) (Done, error)
	Cancel(ctx context.Context) (Done, error)
	Leave(ctx context.Context, yes bool) (Done, error)
	Activate(ctx context.Context) (Done, error)
	Deactivate(ctx context.Context, yes bool) (Done, error)
	// Token makes a pairing token that replaces any earlier one.
	Token(ctx context.Context) (string, error)
	// HandOver moves the Primary to "master" or "backup" ("": the other Manager) and reports its
	// steps; an error of step does not stop it.
	HandOver(ctx context.Context, to string, step func(Step) error) (HandOverResult, error)
	// Recover makes a lone survivor a pool of one.
	Recover(ctx context.Context, yes bool) (Done, error)
}

// Units are the field units that may log in.
type Units interface {
	// AddUnit returns the unit's destination profile with its new secret.
	AddUnit(ctx context.Context, name string) (json.RawMessage, error)
	ListUnits(ctx context.Context) ([]Unit, error)
	RemoveUnit(ctx context.Context, name string, yes bool) (Done, error)
}

// Users are the people who may log in to the pages.
type Users interface {
	AddUser(ctx context.Context, name, password string) (Done, error)
	SetPassword(ctx context.Context, name, password string) (Done, error)
	// EndSessions logs a user out everywhere.
	EndSessions(ctx context.Context, name string) (Done, error)
}

// Database is this node's copy of the data.
type Database interface {
	// SaveDatabase writes a consistent copy to file (absolute; empty: to the saves that the Manager
	// keeps), RestoreDatabase replaces the data by such a copy or by one of those, by its name.
	SaveDatabase(ctx context.Context, file string) (Done, error)
	RestoreDatabase(ctx context.Context, file string, yes bool) (Done, error)
	// Query runs one reading statement: columns is called once, then row for each row (its slice
	// is not kept). Their errors end the query.
	Query(ctx context.Context, sql string, columns func([]string) error, row func([]any) error) error
}

// Form are the values of the redundancy form that are given; the others stay as they are.
type Form struct {
	// Values by the key in the settings file: "mode", "local.address", "timing.heartbeat_period".
	Values         map[string]string `json:"values,omitempty"`
	Pairing        string            `json:"pairing,omitempty"`
	ArbiterPairing string            `json:"arbiter_pairing,omitempty"`
	Yes            bool              `json:"yes,omitempty"`
	// Member makes Verify try to connect to this one alone: master, backup or arbiter.
	Member string `json:"member,omitempty"`
}

// Done is the result of an operation: what was done, for people, and what happens next.
type Done struct {
	Message string `json:"message"`
}

// VerifyReport are the coded checks of a Verify.
type VerifyReport struct {
	OK     bool    `json:"ok"` // no check failed
	Checks []Check `json:"checks"`
}

// Check is one of them.
type Check struct {
	Code   string `json:"code"`
	Field  string `json:"field,omitempty"`  // the key of the setting to mend; empty: none
	Member string `json:"member,omitempty"` // master, backup or arbiter; empty: the pool
	Result string `json:"result"`           // ok, warning, failed or unknown (it could not be checked)
	Text   string `json:"text"`
	Fix    string `json:"fix,omitempty"`
}

// Step is one step of a hand over.
type Step struct {
	AtMS int64  `json:"at_ms"` // since the beginning
	Code string `json:"code"`
	Text string `json:"text"`
}

// HandOverResult is how a hand over went.
type HandOverResult struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	Term  uint64  `json:"term"`
	GapMS float64 `json:"gap_ms"` // between the last write before and the first write after
	Text  string  `json:"text,omitempty"`
}

// Unit is one field unit.
type Unit struct {
	Name       string `json:"name"`
	Connected  bool   `json:"connected"`
	LastSeenMS int64  `json:"last_seen_ms"`        // Unix milliseconds; 0: never
	NoSecret   bool   `json:"no_secret,omitempty"` // it came from a restored copy; adding it again gives it a profile
}

// request is the JSON of every simple operation.
type request struct {
	To       string `json:"to,omitempty"`
	Name     string `json:"name,omitempty"`
	Password string `json:"password,omitempty"`
	File     string `json:"file,omitempty"`
	SQL      string `json:"sql,omitempty"`
	Yes      bool   `json:"yes,omitempty"`
}

// queryStep is one step of a query: the columns first, then rows.
type queryStep struct {
	Columns []string `json:"columns,omitempty"`
	Row     []any    `json:"row,omitempty"`
}

// ManagerOps returns the operations of m for Open.
func ManagerOps(m Manager) map[string]Handler {
	ops := map[string]Handler{
		"status": func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) { return m.Status(ctx) },
		"verify": withForm(func(ctx context.Context, f Form) (any, error) { return m.Verify(ctx, f) }),
		"set":    withForm(func(ctx context.Context, f Form) (any, error) { return m.Set(ctx, f) }),
		"cancel": simple(func(ctx context.Context, _ request) (any, error) { return m.Cancel(ctx) }),
		"leave":  simple(func(ctx context.Context, r request) (any, error) { return m.Leave(ctx, r.Yes) }),
		"activate": simple(func(ctx context.Context, _ request) (any, error) {
			return m.Activate(ctx)
		}),
		"deactivate": simple(func(ctx context.Context, r request) (any, error) { return m.Deactivate(ctx, r.Yes) }),
		"token":      simple(func(ctx context.Context, _ request) (any, error) { return m.Token(ctx) }),
		"handover": func(ctx context.Context, in json.RawMessage, step func(any) error) (any, error) {
			var r request
			if err := decodeRequest(in, &r); err != nil {
				return nil, err
			}
			return m.HandOver(ctx, r.To, func(s Step) error { return step(s) })
		},
		"recover":          simple(func(ctx context.Context, r request) (any, error) { return m.Recover(ctx, r.Yes) }),
		"unit/add":         simple(func(ctx context.Context, r request) (any, error) { return m.AddUnit(ctx, r.Name) }),
		"unit/list":        simple(func(ctx context.Context, _ request) (any, error) { return m.ListUnits(ctx) }),
		"unit/remove":      simple(func(ctx context.Context, r request) (any, error) { return m.RemoveUnit(ctx, r.Name, r.Yes) }),
		"user/add":         simple(func(ctx context.Context, r request) (any, error) { return m.AddUser(ctx, r.Name, r.Password) }),
		"user/passwd":      simple(func(ctx context.Context, r request) (any, error) { return m.SetPassword(ctx, r.Name, r.Password) }),
		"user/logout":      simple(func(ctx context.Context, r request) (any, error) { return m.EndSessions(ctx, r.Name) }),
		"database/save":    simple(func(ctx context.Context, r request) (any, error) { return m.SaveDatabase(ctx, r.File) }),
		"database/restore": simple(func(ctx context.Context, r request) (any, error) { return m.RestoreDatabase(ctx, r.File, r.Yes) }),
		"logs":             logsOp(m),
		"query": func(ctx context.Context, in json.RawMessage, step func(any) error) (any, error) {
			var r request
			if err := decodeRequest(in, &r); err != nil {
				return nil, err
			}
			return nil, m.Query(ctx, r.SQL,
				func(names []string) error { return step(queryStep{Columns: names}) },
				func(row []any) error { return step(queryStep{Row: row}) })
		},
	}
	maps.Copy(ops, tokenOps(m))
	maps.Copy(ops, noticeOps(m))
	maps.Copy(ops, trustOps(m))
	maps.Copy(ops, certificateOps(m))
	maps.Copy(ops, memberOps(m))
	maps.Copy(ops, saveOps(m))
	maps.Copy(ops, historyOps(m))
	return ops
}

func simple(do func(context.Context, request) (any, error)) Handler {
	return func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
		var r request
		if err := decodeRequest(in, &r); err != nil {
			return nil, err
		}
		return do(ctx, r)
	}
}

func withForm(do func(context.Context, Form) (any, error)) Handler {
	return func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
		var f Form
		if err := decodeRequest(in, &f); err != nil {
			return nil, err
		}
		return do(ctx, f)
	}
}
