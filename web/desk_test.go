package web

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// fakeDesk is Operations that notes what it is told and answers from its fields.
type fakeDesk struct {
	mu       sync.Mutex
	told     []string
	settings Settings
	refusal  error         // of what changes something
	asked    []Consequence // wanted before Set and before what has yes
	unborn   bool          // nobody can log in yet
	waiting  Waiting
	both     *fakeKeys
	hold     chan struct{} // a hand over ends when it is closed; nil: at once
	past     []float64
	logs     fakeLogs
	trust    Connections
	cert     CertificateReport
	acts     []Act
	notices  fakeNotices
	seats    []Seat
	export   string
}

func (d *fakeDesk) tell(what string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refusal != nil {
		return "", d.refusal
	}
	d.told = append(d.told, what)
	return what + " is done", nil
}

func (d *fakeDesk) ask(what string, yes bool) (string, error) {
	if !yes && len(d.asked) > 0 {
		return "", &Problem{Code: "confirm", Message: "confirm it", Confirm: d.asked}
	}
	return d.tell(what)
}

func (d *fakeDesk) Founded(context.Context) (bool, error) { return !d.unborn, nil }
func (d *fakeDesk) Found(_ context.Context, code, name, _ string) error {
	if code != "" && code != "CODE" {
		return &Problem{Code: "code", Message: "the code is wrong"}
	}
	_, err := d.tell("found " + name)
	return err
}
func (d *fakeDesk) SetPassword(_ context.Context, name, _ string) error {
	_, err := d.tell("password " + name)
	return err
}
func (d *fakeDesk) Settings() Settings {
	s := d.settings
	if s.Values == nil {
		s.Values = map[string]string{"mode": "standalone"}
	}
	return s
}
func (d *fakeDesk) Verify(_ context.Context, values map[string]string) ([]Check, error) {
	_, err := d.tell("verify " + values["mode"])
	return []Check{{Code: "vip_free", Field: "vip", Result: "failed", Text: "held by a stranger", Fix: "choose another"}}, err
}
func (d *fakeDesk) Connect(_ context.Context, values map[string]string, member string) ([]Check, error) {
	_, err := d.tell("connect " + values["mode"] + " " + member)
	return []Check{{Code: member + "_connect", Field: "peer.address", Member: member, Result: "failed", Text: "connection refused", Fix: "start it"}}, err
}
func (d *fakeDesk) Review(context.Context, map[string]string) ([]Consequence, error) {
	return d.asked, d.refusal
}
func (d *fakeDesk) Clock() Clock {
	return Clock{Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Known: true, Others: []ClockOf{{Name: "b", Ahead: 2 * time.Second, Known: true}}}
}
func (d *fakeDesk) Worst(values map[string]string) (time.Duration, error) {
	if values["timing.heartbeat_period"] == "bad" {
		return 0, &Problem{Code: "timing", Message: "no time", Fields: []FieldProblem{{Field: "timing.heartbeat_period", Code: "timing", Message: "too short", Fix: "raise it"}}}
	}
	return 420 * time.Millisecond, nil
}
func (d *fakeDesk) Set(_ context.Context, values map[string]string, pairing, arbiterPairing string) (string, error) {
	return d.tell("set " + values["mode"] + " " + values["vip"] + " " + pairing + " " + arbiterPairing)
}
func (d *fakeDesk) Waiting() Waiting                                { return d.waiting }
func (d *fakeDesk) Token(context.Context) (string, error)           { return d.tell("token") }
func (d *fakeDesk) Cancel(context.Context) (string, error)          { return d.tell("cancel") }
func (d *fakeDesk) Dismiss(context.Context) error                   { _, err := d.tell("dismiss"); return err }
func (d *fakeDesk) Leave(_ context.Context, y bool) (string, error) { return d.ask("leave", y) }
func (d *fakeDesk) Activate(context.Context) (string, error)        { return d.tell("activate") }
func (d *fakeDesk) Deactivate(_ context.Context, y bool) (string, error) {
	return d.ask("deactivate", y)
}
func (d *fakeDesk) HandOver(_ context.Context, step func(MoveStep)) (Move, error) {
	step(MoveStep{AtMS: 3, Text: "laid down"})
	if d.hold != nil {
		<-d.hold
	}
	_, err := d.tell("handover")
	return Move{From: "m", To: "b", Term: 8, GapMS: 41.5, Text: "moved"}, err
}
func (d *fakeDesk) Interruptions(context.Context) ([]float64, error)  { return d.past, nil }
func (d *fakeDesk) Recover(_ context.Context, y bool) (string, error) { return d.ask("recover", y) }
func (d *fakeDesk) Saves(context.Context) ([]Save, error) {
	return []Save{{Name: "a.db", Bytes: 40960, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}, nil
}
func (d *fakeDesk) Save(context.Context, string) (string, error) { return d.tell("save") }
func (d *fakeDesk) SavePath(string) (string, error) {
	return "", &Problem{Code: "unknown", Message: "there is no such save"}
}
func (d *fakeDesk) Restore(_ context.Context, name string, y bool) (string, error) {
	return d.ask("restore "+name, y)
}
func (d *fakeDesk) Units(context.Context) ([]Unit, error) { return []Unit{{Name: "u1"}}, nil }
func (d *fakeDesk) AddUnit(_ context.Context, name string) (string, error) {
	_, err := d.tell("add " + name)
	return `{"name":"` + name + `"}`, err
}
func (d *fakeDesk) CheckToken(_ context.Context, text string) (Token, error) {
	switch text {
	case "rpt_1_reads":
		return Token{ID: "1", Name: "reader", Scope: ScopeRead}, nil
	case "rpt_2_operates":
		return Token{ID: "2", Name: "robot", Scope: ScopeOperate}, nil
	}
	return Token{}, ErrLogin
}
func (d *fakeDesk) Tokens(context.Context) ([]Token, error) {
	return []Token{{ID: "1", Name: "reader", Scope: ScopeRead, By: "ann", CreatedMS: 1}}, nil
}
func (d *fakeDesk) AddToken(_ context.Context, name, scope string, days int, by string) (Token, string, error) {
	_, err := d.tell(fmt.Sprintf("token %s %s %d %s", name, scope, days, by))
	return Token{ID: "3", Name: name, Scope: scope, By: by, CreatedMS: 1}, "rpt_3_new", err
}
func (d *fakeDesk) RemoveToken(_ context.Context, id string) (string, error) {
	return d.tell("end token " + id)
}
func (d *fakeDesk) RemoveUnit(_ context.Context, name string, y bool) (string, error) {
	return d.ask("remove "+name, y)
}

func (d *fakeDesk) Connections(context.Context) (Connections, error) { return d.trust, nil }
func (d *fakeDesk) Contact(_ context.Context, address, role string) (string, error) {
	return d.tell("contact " + address + " " + role)
}
func (d *fakeDesk) Approve(_ context.Context, fp, role string, y bool) (string, error) {
	return d.ask("approve "+fp+" "+role, y)
}
func (d *fakeDesk) Reject(_ context.Context, fp string) (string, error) {
	return d.tell("reject " + fp)
}
func (d *fakeDesk) Withdraw(_ context.Context, fp string, y bool) (string, error) {
	return d.ask("withdraw "+fp, y)
}

func (d *fakeDesk) Certificate(context.Context) (CertificateReport, error) { return d.cert, nil }
func (d *fakeDesk) InstallCertificate(_ context.Context, certificate, key string) (string, error) {
	return d.tell("install " + certificate + " " + key)
}
func (d *fakeDesk) RenewCertificate(context.Context) (string, error) { return d.tell("renew") }
func (d *fakeDesk) ResetCertificate(_ context.Context, y bool) (string, error) {
	return d.ask("reset", y)
}
func (d *fakeDesk) EndSessions(_ context.Context, name string) (string, error) {
	return d.tell("log out " + name)
}
