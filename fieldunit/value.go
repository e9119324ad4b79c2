package fieldunit

import (
	"fmt"
	"math"
	"strconv"
)

// Kind says what a Value holds.
type Kind uint8

// The kinds of Value. Their numbers are stored in databases and logs: append only.
const (
	None  Kind = iota // no value: the reading carries an error, or JSON null
	Bool              // true or false
	Int               // a JSON number without fraction and exponent that fits 64 bits
	Float             // every other JSON number
	Text              // a JSON string
	JSON              // an array or object, kept as compact JSON text
)

// Value is one typed value as a field unit sent it. The zero Value is None. It is comparable:
// two Values are equal when kind and content are.
type Value struct {
	Kind Kind
	Num  uint64 // Bool: 0 or 1; Int: the bits of an int64; Float: math.Float64bits
	Str  string // Text and JSON
}

// String returns the value as people read it; None is empty.
func (v Value) String() string {
	switch v.Kind {
	case Bool:
		return strconv.FormatBool(v.Num != 0)
	case Int:
		return strconv.FormatInt(int64(v.Num), 10)
	case Float:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	case Text, JSON:
		return v.Str
	case None:
		return ""
	}
	return fmt.Sprintf("kind %d", v.Kind)
}

// BoolValue returns b as a Value.
func BoolValue(b bool) Value {
	if b {
		return Value{Kind: Bool, Num: 1}
	}
	return Value{Kind: Bool}
}

// IntValue returns n as a Value.
func IntValue(n int64) Value { return Value{Kind: Int, Num: uint64(n)} }

// FloatValue returns f as a Value.
func FloatValue(f float64) Value { return Value{Kind: Float, Num: math.Float64bits(f)} }

// TextValue returns s as a Value.
func TextValue(s string) Value { return Value{Kind: Text, Str: s} }

// Float returns the content of a Float.
func (v Value) Float() float64 { return math.Float64frombits(v.Num) }
