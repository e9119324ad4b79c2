package fieldunit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// Limits of one payload. A unit that has more to say sends several messages.
const (
	MaxPayload = 256 << 10 // bytes of one MQTT message's payload
	MaxBatch   = 256       // objects, when the payload is an array of them
	MaxLabel   = 256       // bytes of a node's, group's or tag's name
	MaxBoot    = 64        // bytes of boot
	MaxText    = 64 << 10  // bytes of one text, array or object value

	maxSeq      = 1<<63 - 1       // what every database's signed integer holds
	maxSourceMS = 253402300799999 // 9999-12-31T23:59:59.999Z
)

// PayloadError says which field of a message cannot be accepted, why, and what to change.
// The same message will never be accepted: sending it again is pointless.
type PayloadError struct {
	Field string // as in the payload, "payload" for the whole, "topic"
	What  string
	Fix   string
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Field, e.What, e.Fix)
}

func wrong(field, fix, format string, args ...any) error {
	return &PayloadError{Field: field, What: fmt.Sprintf(format, args...), Fix: fix}
}

// Decode returns what unit says with payload, in the order sent. The shape is recognised by
// its fields, whatever the topic:
//
//   - native, and the "values" format of Neuron and NeuronEX:
//     {"timestamp","node","group","values":{tag:value},"errors":{tag:code}} with, natively,
//     "seq" and "boot"
//   - the "tags" format: {"timestamp","node","group","tags":[{"name","value"|"error"}]}
//   - the "ECP" format: the same with "type" (1 bool, 2 integer, 3 float, 4 string) per tag
//   - a custom template with "errors" as an array of {"name","error"}, or "error_values"
//   - an array of 1 to MaxBatch such objects
//
// Neuron 2.0's names "node_name" and "group_name" are understood; unknown fields are ignored.
// timestamp is in Unix milliseconds. The Telemetry returned shares nothing with payload.
//
// Every error is a *PayloadError.
func Decode(unit string, payload []byte) ([]Telemetry, error) {
	if len(payload) > MaxPayload {
		return nil, wrong("payload", "send it as several messages", "has %d bytes, at most %d are accepted", len(payload), MaxPayload)
	}
	body := bytes.TrimLeft(payload, " \t\r\n")
	if len(body) == 0 {
		return nil, wrong("payload", `send a JSON object with "values" or "tags"`, "is empty")
	}
	if !utf8.Valid(body) {
		return nil, wrong("payload", "send JSON in UTF-8 (RFC 8259, 8.1)", "is not UTF-8")
	}
	if body[0] != '[' {
		t, err := decodeObject(unit, body)
		if err != nil {
			return nil, err
		}
		return []Telemetry{t}, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(body, &items); err != nil {
		return nil, notJSON(err)
	}
	if len(items) == 0 || len(items) > MaxBatch {
		return nil, wrong("payload", fmt.Sprintf("send 1 to %d objects in one array", MaxBatch), "is an array of %d", len(items))
	}
	all := make([]Telemetry, 0, len(items))
	for i, item := range items {
		t, err := decodeObject(unit, item)
		if err != nil {
			if pe, ok := err.(*PayloadError); ok {
				pe.Field = fmt.Sprintf("[%d].%s", i, pe.Field)
			}
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func notJSON(err error) error {
	return wrong("payload", "send one JSON object (RFC 8259)", "is not valid JSON: %v", err)
}

func decodeObject(unit string, body []byte) (Telemetry, error) {
	t := Telemetry{Unit: unit}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return t, notJSON(err)
	}
	if fields == nil {
		return t, wrong("payload", `send a JSON object with "values" or "tags"`, "is null")
	}
	if err := decodeHead(&t, fields); err != nil {
		return t, err
	}
	r := readings{seen: make(map[string]int)}
	for _, part := range []struct {
		name   string
		decode func(name string, raw json.RawMessage) error
	}{
		{"tags", r.tags},
		{"values", r.values},
		{"errors", r.errors},
		{"error_values", r.errors},
	} {
		if raw, ok := fields[part.name]; ok && !isNull(raw) {
			if err := part.decode(part.name, raw); err != nil {
				return t, err
			}
		}
	}
	if len(r.list) == 0 {
		return t, wrong("payload", `send at least one tag in "values", "tags" or "errors"`, "carries no reading")
	}
	t.Readings = r.list
	return t, nil
}

func decodeHead(t *Telemetry, fields map[string]json.RawMessage) error {
	var err error
	if raw, ok := fields["timestamp"]; ok && !isNull(raw) {
		if t.SourceMS, err = integer("timestamp", raw, maxSourceMS); err != nil {
			return err
		}
	}
	if raw, ok := fields["seq"]; ok && !isNull(raw) {
		n, err := integer("seq", raw, maxSeq)
		if err != nil {
			return err
		}
		t.Seq, t.HasSeq = uint64(n), true
	}
	if raw, ok := fields["boot"]; ok && !isNull(raw) {
		if t.Boot, err = boot(raw); err != nil {
			return err
		}
	}
	if t.Node, err = label(fields, "node", "node_name"); err != nil {
		return err
	}
	t.Group, err = label(fields, "group", "group_name")
	return err
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// integer reads a JSON number from 0 to limit; 1.7e12 and 41.0 count as integers, since some
// senders print every number as a double.
func integer(field string, raw json.RawMessage, limit int64) (int64, error) {
	fix := "send an integer"
	if field == "timestamp" {
		fix = "send Unix milliseconds as an integer, or leave it out"
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(raw), 64)
		if ferr != nil || f != float64(int64(f)) || f > 1<<53 || f < 0 {
			return 0, wrong(field, fix, "is %.40s", raw)
		}
		n = int64(f)
	}
	if n < 0 || n > limit {
		return 0, wrong(field, fix, "is %d, outside 0 to %d", n, limit)
	}
	return n, nil
}

func boot(raw json.RawMessage) (string, error) {
	fix := fmt.Sprintf("send a number or a text of 1 to %d bytes that is new at each start, or leave it out", MaxBoot)
	s := string(raw)
	switch {
	case raw[0] == '"':
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", notJSON(err)
		}
	case raw[0] != '-' && (raw[0] < '0' || raw[0] > '9'):
		return "", wrong("boot", fix, "is neither a number nor a text")
	}
	if s == "" || len(s) > MaxBoot || !printable(s) {
		return "", wrong("boot", fix, "is %.80q", s)
	}
	return s, nil
}

func label(fields map[string]json.RawMessage, names ...string) (string, error) {
	for _, name := range names {
		raw, ok := fields[name]
		if !ok || isNull(raw) {
			continue
		}
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return "", wrong(name, "send a text", "is %.40s", raw)
		}
		return s, checkLabel(name, s, true)
	}
	return "", nil
}

func checkLabel(field, s string, emptyOK bool) error {
	switch {
	case s == "" && !emptyOK:
		return wrong(field, "give every tag a name", "has a tag without a name")
	case len(s) > MaxLabel:
		return wrong(field, "shorten it", "%.40q… has %d bytes, at most %d are accepted", s, len(s), MaxLabel)
	case !printable(s):
		return wrong(field, "use printable characters", "%.80q has a control character", s)
	}
	return nil
}

func printable(s string) bool {
	for _, r := range s {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// readings gathers the readings of one object; a tag may occur once.
type readings struct {
	list []Reading
	seen map[string]int // tag → place in list
}

func (r *readings) add(field string, rd Reading) error {
	if err := checkLabel(field, rd.Tag, false); err != nil {
		return err
	}
	if i, ok := r.seen[rd.Tag]; ok {
		if r.list[i] == rd {
			return nil // a custom template lists the same tag in two forms
		}
		return wrong(field, "send each tag once in a message", "has tag %.80q twice with different content", rd.Tag)
	}
	if len(r.list) == MaxReadings {
		return wrong(field, "send it as several messages", "brings more than %d readings", MaxReadings)
	}
	r.seen[rd.Tag] = len(r.list)
	r.list = append(r.list, rd)
	return nil
}

func (r *readings) values(field string, raw json.RawMessage) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return wrong(field, "send an object of tag and value", "is %.40s", raw)
	}
	for _, tag := range sortedKeys(m) {
		v, err := value(field, tag, m[tag])
		if err != nil {
			return err
		}
		if err := r.add(field, Reading{Tag: tag, Value: v}); err != nil {
			return err
		}
	}
	return nil
}

// errors takes both forms: {"tag": code} and [{"name": "tag", "error": code}].
func (r *readings) errors(field string, raw json.RawMessage) error {
	if raw[0] == '[' {
		return r.tags(field, raw)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(raw, &m); err != nil {
		return wrong(field, "send an object of tag and error code", "is %.40s", raw)
	}
	for _, tag := range sortedKeys(m) {
		code, err := errorCode(field, tag, m[tag])
		if err != nil {
			return err
		}
		if err := r.add(field, Reading{Tag: tag, Error: code}); err != nil {
			return err
		}
	}
	return nil
}

func (r *readings) tags(field string, raw json.RawMessage) error {
	var items []struct {
		Name  string          `json:"name"`
		Value json.RawMessage `json:"value"`
		Error json.RawMessage `json:"error"`
		Type  json.RawMessage `json:"type"`
	}
	if err := json.Unmarshal(raw, &items); err != nil {
		return wrong(field, `send an array of {"name","value"} or {"name","error"}`, "has another form: %v", err)
	}
	for _, it := range items {
		rd := Reading{Tag: it.Name}
		var err error
		switch {
		case it.Error != nil && !isNull(it.Error) && string(it.Error) != "0":
			rd.Error, err = errorCode(field, it.Name, it.Error)
		case it.Value != nil:
			rd.Value, err = value(field, it.Name, it.Value)
			if string(it.Type) == "3" && rd.Value.Kind == Int {
				rd.Value = FloatValue(float64(int64(rd.Value.Num))) // ECP type 3: a float printed without a fraction
			}
		default:
			err = wrong(field, `give it "value" or "error"`, "tag %.80q has neither", it.Name)
		}
		if err != nil {
			return err
		}
		if err := r.add(field, rd); err != nil {
			return err
		}
	}
	return nil
}

func errorCode(field, tag string, raw json.RawMessage) (int64, error) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil || n == 0 {
		return 0, wrong(field, "send the device's error code, an integer other than 0", "tag %.80q has the error code %.40s", tag, raw)
	}
	return n, nil
}

func value(field, tag string, raw json.RawMessage) (Value, error) {
	switch raw[0] {
	case 'n':
		return Value{}, nil
	case 't', 'f':
		return BoolValue(raw[0] == 't'), nil
	case '"', '[', '{':
		return textValue(field, tag, raw)
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return IntValue(n), nil
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return Value{}, wrong(field, "send a number within ±1.8e308", "tag %.80q has the number %.40s", tag, raw)
	}
	return FloatValue(f), nil
}

func textValue(field, tag string, raw json.RawMessage) (Value, error) {
	v := Value{Kind: JSON}
	if raw[0] == '"' {
		v.Kind = Text
		if err := json.Unmarshal(raw, &v.Str); err != nil {
			return Value{}, notJSON(err)
		}
	} else {
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return Value{}, notJSON(err)
		}
		v.Str = b.String()
	}
	if len(v.Str) > MaxText {
		return Value{}, wrong(field, "shorten it", "tag %.80q has a value of %d bytes, at most %d are accepted", tag, len(v.Str), MaxText)
	}
	return v, nil
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
