// Package fieldunit is the vocabulary that the Manager and its field units share: a unit's
// name, the telemetry it sends, the payload shapes on the wire, topics, and the destination
// profile that tells a unit where its Manager is.
//
// It does no I/O and uses the standard library alone. The MQTT listener of the Primary is
// fieldunit/broker, the unit's side is fieldunit/agent.
package fieldunit

// MaxReadings is the number of readings that one Telemetry may carry at most.
const MaxReadings = 4096

// Telemetry is what a field unit sends in one message: the readings of one group of one of
// its nodes at one moment.
//
// Its key is (Unit, Boot, Seq) when HasSeq is set, else (Unit, Node, Group, tag, SourceMS)
// per reading; the same key with the same content is the same record, however often it is sent.
type Telemetry struct {
	Unit     string // name of the sending unit, ValidateName
	Boot     string // changes at each start of the unit; empty: the unit knows no boots
	Seq      uint64 // counts per Unit and Boot; meaningful only with HasSeq
	HasSeq   bool
	SourceMS int64 // Unix milliseconds at the source; 0: the source gave none
	Node     string
	Group    string
	Readings []Reading // 1 to MaxReadings
}

// Reading is one tag's value or error at the moment of its Telemetry.
type Reading struct {
	Tag   string
	Value Value // of kind None when Error is set
	Error int64 // a device's error code; 0: none
}
