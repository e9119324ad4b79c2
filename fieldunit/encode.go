package fieldunit

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Encode returns t as a native payload; Decode of it gives t back, with the readings that hold
// values before those that hold errors, each sorted by tag. t.Unit is not part of the payload: it stands in the topic.
//
// It fails for what Decode would refuse: no readings, too many, a tag twice, a float that JSON
// cannot carry.
func Encode(t Telemetry) ([]byte, error) {
	b := make([]byte, 0, 96+32*len(t.Readings))
	b = append(b, '{')
	if t.SourceMS != 0 {
		b = append(b, `"timestamp":`...)
		b = strconv.AppendInt(b, t.SourceMS, 10)
		b = append(b, ',')
	}
	if t.HasSeq {
		b = append(b, `"seq":`...)
		b = strconv.AppendUint(b, t.Seq, 10)
		b = append(b, ',')
	}
	for _, f := range []struct{ name, text string }{{"boot", t.Boot}, {"node", t.Node}, {"group", t.Group}} {
		if f.text != "" {
			b = append(b, '"')
			b = append(b, f.name...)
			b = append(b, `":`...)
			b = appendText(b, f.text)
			b = append(b, ',')
		}
	}
	b = append(b, `"values":{`...)
	errs := 0
	first := true
	for _, r := range t.Readings {
		if r.Error != 0 {
			errs++
			continue
		}
		b = appendKey(b, r.Tag, first)
		first = false
		var err error
		if b, err = appendValue(b, r); err != nil {
			return nil, err
		}
	}
	b = append(b, '}')
	if errs > 0 {
		b = append(b, `,"errors":{`...)
		first = true
		for _, r := range t.Readings {
			if r.Error != 0 {
				b = appendKey(b, r.Tag, first)
				first = false
				b = strconv.AppendInt(b, r.Error, 10)
			}
		}
		b = append(b, '}')
	}
	b = append(b, '}')
	return b, check(t, b)
}

// check lets the decoder judge the encoder, so that a unit never sends what would be refused.
func check(t Telemetry, b []byte) error {
	back, err := Decode(t.Unit, b)
	if err != nil {
		return fmt.Errorf("encode telemetry: %w", err)
	}
	if len(back[0].Readings) != len(t.Readings) {
		return fmt.Errorf("encode telemetry: %w", wrong("values", "send each tag once in a message", "has a tag twice"))
	}
	return nil
}

func appendKey(b []byte, tag string, first bool) []byte {
	if !first {
		b = append(b, ',')
	}
	return append(appendText(b, tag), ':')
}

func appendText(b []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // cannot happen for a string; an empty text is then refused by check
		return append(b, `""`...)
	}
	return append(b, q...)
}

func appendValue(b []byte, r Reading) ([]byte, error) {
	switch r.Value.Kind {
	case Text:
		return appendText(b, r.Value.Str), nil
	case JSON:
		if s := r.Value.Str; !json.Valid([]byte(s)) || !strings.ContainsAny(s[:1], "[{") {
			return nil, wrong("values", "give a JSON array or object", "tag %.80q holds %.40q", r.Tag, s)
		}
		return append(b, r.Value.Str...), nil
	case Float:
		f := r.Value.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, wrong("values", "send an error code instead", "tag %.80q is %v, which JSON cannot carry", r.Tag, f)
		}
		s := strconv.FormatFloat(f, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0" // keeps its kind
		}
		return append(b, s...), nil
	case None:
		return append(b, "null"...), nil
	default:
		return append(b, r.Value.String()...), nil
	}
}
