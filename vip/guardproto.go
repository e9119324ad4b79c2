package vip

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// Farewell is a message that the guard sends when its parent process has died: it dials To,
// writes Message and closes.
type Farewell struct {
	To      netip.AddrPort `json:"to"`
	Message []byte         `json:"message"`
}

// An order goes from the Keeper to the guard, one JSON object a line. Holds are numbered, so
// that an order for a hold that has ended can never touch a later one.
type order struct {
	Op    orderOp  `json:"op"`
	Hold  uint64   `json:"hold,omitempty"`
	Until Instant  `json:"until,omitempty"`
	Bind  *binding `json:"bind,omitempty"` // with orderHold
}

type orderOp string

const (
	orderHold    orderOp = "hold"    // take the address, or adopt it from a guard that died, until Until
	orderUntil   orderOp = "until"   // the right now ends at Until
	orderRestore orderOp = "restore" // the address is missing: put it back
	orderRelease orderOp = "release" // remove the address
	orderQuit    orderOp = "quit"    // remove the address and end, without a farewell
)

// A report goes from the guard to the Keeper, one JSON object a line.
type report struct {
	Op    reportOp `json:"op"`
	Hold  uint64   `json:"hold,omitempty"`
	Until Instant  `json:"until,omitempty"` // with reportAck
	Why   string   `json:"why,omitempty"`   // reportEnded: one of the why constants
	Text  string   `json:"text,omitempty"`  // an error in words
}

type reportOp string

const (
	reportReady    reportOp = "ready"    // the guard runs
	reportHeld     reportOp = "held"     // the address is bound
	reportAck      reportOp = "ack"      // answer to orderUntil
	reportRestored reportOp = "restored" // answer to orderRestore
	reportEnded    reportOp = "ended"    // the hold is over and the address gone
	reportTrouble  reportOp = "trouble"  // a refresh failed; it is tried again
)

const (
	whyDeadline = "deadline" // the right ran out
	whyReleased = "released" // by order
	whyRefused  = "refused"  // the kernel refused to bind
	whyUnknown  = "unknown"  // no such hold
)

// orderLimit bounds one line; the farewells are the large part.
const orderLimit = 64 << 10

func decodeOrder(line []byte) (order, error) {
	var o order
	if err := json.Unmarshal(line, &o); err != nil {
		return order{}, fmt.Errorf("decode order: %w", err)
	}
	switch o.Op {
	case orderHold:
		if o.Bind == nil || !o.Bind.Address.IsValid() || o.Bind.Index <= 0 || o.Bind.Lifetime <= 0 || o.Bind.Fence < 0 {
			return order{}, fmt.Errorf("decode order: %s without a whole binding", o.Op)
		}
		o.Bind.Address = o.Bind.Address.Unmap()
	case orderUntil, orderRestore, orderRelease, orderQuit:
		o.Bind = nil
	default:
		return order{}, fmt.Errorf("decode order: unknown order %q", o.Op)
	}
	return o, nil
}

func decodeReport(line []byte) (report, error) {
	var r report
	if err := json.Unmarshal(line, &r); err != nil {
		return report{}, fmt.Errorf("decode report: %w", err)
	}
	switch r.Op {
	case reportReady, reportHeld, reportAck, reportRestored, reportEnded, reportTrouble:
		return r, nil
	}
	return report{}, fmt.Errorf("decode report: unknown report %q", r.Op)
}

func encodeLine(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("vip: encode %T: %v", v, err)) // plain data: cannot fail
	}
	return append(b, '\n')
}
