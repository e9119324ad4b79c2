// Package control connects a command line to the process that it commands: JSON over HTTP on a
// unix socket in the data folder. Who may open the socket (mode 0600) may command; there is no
// other login.
//
// Server is the side of the running process, Client that of the commands. The Manager's
// operations are named in manager.go; the Arbiter has some of its own and shares the rest. It
// uses the standard library and system calls alone, so that the Arbiter stays small, and decides
// nothing: what an operation does is the business of the Handler.
package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// SocketName and LockName are the files in the data folder.
const (
	SocketName = "control.sock"
	LockName   = "control.lock"
)

// Error is what a Handler returns to say more than a text. It arrives at the caller unchanged.
type Error struct {
	Code    string `json:"code,omitempty"` // stable, for programs
	Message string `json:"message"`        // what could not be done, and why
	Fix     string `json:"fix,omitempty"`  // what to do about it
	// Confirm lists what a person must agree to; the call may then be repeated with its Yes set.
	Confirm []Question `json:"confirm,omitempty"`
	// Fields are the faults of single fields of a form.
	Fields []FieldError `json:"fields,omitempty"`
}

// Question is one thing to agree to before an operation goes on.
type Question struct {
	Code string `json:"code"`
	Text string `json:"text"`           // what will happen, for people
	Word string `json:"word,omitempty"` // to be typed; empty: yes is enough
}

// FieldError is the fault of one field of a form.
type FieldError struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
	Fix     string `json:"fix"`
}

func (e *Error) Error() string {
	parts := []string{e.Message}
	var fields []string
	for _, f := range e.Fields {
		fields = append(fields, f.Field+": "+f.Message+", "+f.Fix)
	}
	if len(fields) > 0 {
		parts = append(parts, strings.Join(fields, "; "))
	}
	if e.Fix != "" {
		parts = append(parts, e.Fix)
	}
	return strings.Join(parts, ": ")
}

// asError turns any error into what goes over the socket.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Message: err.Error()}
}

// frame is one line of an answer: any number of steps, then a result or an error.
type frame struct {
	Step   json.RawMessage `json:"step,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Error          `json:"error,omitempty"`
}

// maxRequest bounds a request; the longest is an SQL text.
const maxRequest = 1 << 20

// decodeRequest reads the JSON object of a request strictly into in.
func decodeRequest(text []byte, in any) error {
	if len(text) == 0 {
		return nil
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return &Error{Code: "bad_request", Message: fmt.Sprintf("the request cannot be read: %v", err),
			Fix: "use commands of the same version as the running process"}
	}
	if d.More() {
		return &Error{Code: "bad_request", Message: "the request has text after its JSON object", Fix: "send one object"}
	}
	return nil
}
