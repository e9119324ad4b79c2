package fieldunit

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	head := Telemetry{Unit: "u1", SourceMS: 1700000000000, Node: "plc1", Group: "g1"}
	with := func(t Telemetry, r ...Reading) Telemetry { t.Readings = r; return t }
	native := head
	native.Seq, native.HasSeq, native.Boot = 41, true, "b7"
	numbered := native
	numbered.Boot = "12"
	for _, tt := range []struct {
		name, payload string
		want          []Telemetry
	}{
		{"native, with seq and boot", `{"timestamp":1700000000000,"seq":41,"boot":"b7","node":"plc1","group":"g1","values":{"temperature":21.5},"errors":{"flow":2014}}`,
			[]Telemetry{with(native, Reading{Tag: "temperature", Value: FloatValue(21.5)}, Reading{Tag: "flow", Error: 2014})}},
		{"boot may be a number", `{"timestamp":1700000000000,"seq":41,"boot":12,"node":"plc1","group":"g1","values":{"a":1}}`,
			[]Telemetry{with(numbered, Reading{Tag: "a", Value: IntValue(1)})}},
		{"values format of a gateway, with its metas", `{"timestamp":1700000000000,"node":"plc1","group":"g1","values":{"b":true,"a":-3},"errors":{"c":2014},"metas":{}}`,
			[]Telemetry{with(head, Reading{Tag: "a", Value: IntValue(-3)}, Reading{Tag: "b", Value: BoolValue(true)}, Reading{Tag: "c", Error: 2014})}},
		{"tags format, order kept", `{"timestamp":1700000000000,"node":"plc1","group":"g1","tags":[{"name":"t1","value":123},{"name":"t0","error":2014}]}`,
			[]Telemetry{with(head, Reading{Tag: "t1", Value: IntValue(123)}, Reading{Tag: "t0", Error: 2014})}},
		{"tags format of version 2.0", `{"node_name":"plc1","group_name":"g1","timestamp":1700000000000,"tags":[{"value":"x","name":"t"}]}`,
			[]Telemetry{with(head, Reading{Tag: "t", Value: TextValue("x")})}},
		{"ECP format: type 3 makes a float of 2", `{"timestamp":1700000000000,"node":"plc1","group":"g1","tags":[{"name":"b","value":true,"type":1},{"name":"i","value":123,"type":2},{"name":"f","value":2,"type":3},{"name":"s","value":"ab","type":4}]}`,
			[]Telemetry{with(head, Reading{Tag: "b", Value: BoolValue(true)}, Reading{Tag: "i", Value: IntValue(123)}, Reading{Tag: "f", Value: FloatValue(2)}, Reading{Tag: "s", Value: TextValue("ab")})}},
		{"custom template lists everything twice", `{"timestamp":1700000000000,"node":"plc1","group":"g1","tags":[{"name":"a","value":1}],"values":{"a":1},"errors":[{"name":"e","error":9}],"error_values":{"e":9}}`,
			[]Telemetry{with(head, Reading{Tag: "a", Value: IntValue(1)}, Reading{Tag: "e", Error: 9})}},
		{"nothing but a value", ` {"values":{"a":null,"b":[1, 2],"c":{"x": 1},"d":1e3,"e":9223372036854775808}}`,
			[]Telemetry{{Unit: "u1", Readings: []Reading{{Tag: "a"}, {Tag: "b", Value: Value{Kind: JSON, Str: "[1,2]"}}, {Tag: "c", Value: Value{Kind: JSON, Str: `{"x":1}`}}, {Tag: "d", Value: FloatValue(1000)}, {Tag: "e", Value: FloatValue(math.Ldexp(1, 63))}}}}},
		{"an array of messages", `[{"values":{"a":1}},{"timestamp":1.7e12,"node":"plc1","group":"g1","values":{"a":2}}]`,
			[]Telemetry{{Unit: "u1", Readings: []Reading{{Tag: "a", Value: IntValue(1)}}}, with(head, Reading{Tag: "a", Value: IntValue(2)})}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode("u1", []byte(tt.payload))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Fatalf("got\n%+v, want\n%+v", got, tt.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	var many strings.Builder
	for i := range MaxReadings + 1 {
		fmt.Fprintf(&many, `,"t%d":1`, i)
	}
	for _, tt := range []struct{ name, payload, want string }{
		{"nothing", "", "payload: is empty"},
		{"text", "21.5 degrees", "payload: is not valid JSON"},
		{"a cut object", `{"values":{"a":1}`, "payload: is not valid JSON"},
		{"two objects", `{"values":{"a":1}}{"values":{"a":1}}`, "payload: is not valid JSON"},
		{"null", "null", "payload: is null"},
		{"a number", "5", "payload: is not valid JSON"},
		{"an empty array", "[]", "payload: is an array of 0"},
		{"bytes that are not UTF-8", "{\"values\":{\"a\xff\":1}}", "payload: is not UTF-8"},
		{"too many bytes", `{"values":{"a":"` + strings.Repeat("x", MaxPayload) + `"}}`, "send it as several messages"},
		{"no reading", `{"timestamp":1,"values":{}}`, "payload: carries no reading"},
		{"too many readings", `{"values":{` + many.String()[1:] + `}}`, "values: brings more than 4096 readings"},
		{"a date for a timestamp", `{"timestamp":"2023-11-14","values":{"a":1}}`, `timestamp: is "2023-11-14": send Unix milliseconds`},
		{"a negative timestamp", `{"timestamp":-1,"values":{"a":1}}`, "timestamp: is -1, outside 0"},
		{"nanoseconds", `{"timestamp":1700000000000000000,"values":{"a":1}}`, "send Unix milliseconds"},
		{"a broken seq", `{"seq":1.5,"values":{"a":1}}`, "seq: is 1.5: send an integer"},
		{"a seq beyond 63 bits", `{"seq":18446744073709551615,"values":{"a":1}}`, "seq: is 18446744073709551615"},
		{"an object for boot", `{"boot":{},"values":{"a":1}}`, "boot: is neither a number nor a text"},
		{"an empty boot", `{"boot":"","values":{"a":1}}`, "boot: is \"\""},
		{"a number for node", `{"node":5,"values":{"a":1}}`, "node: is 5: send a text"},
		{"a control character in group", `{"group":"a\u0000","values":{"a":1}}`, "group: "},
		{"a tag without a name", `{"tags":[{"value":1}]}`, "tags: has a tag without a name"},
		{"a tag with neither", `{"tags":[{"name":"a"}]}`, `tags: tag "a" has neither`},
		{"a tag twice", `{"tags":[{"name":"a","value":1},{"name":"a","value":2}]}`, `has tag "a" twice`},
		{"a tag as value and error", `{"values":{"a":1},"errors":{"a":7}}`, `errors: has tag "a" twice`},
		{"values that are a list", `{"values":[1]}`, "values: is [1]"},
		{"tags that are an object", `{"tags":{"a":1}}`, "tags: has another form"},
		{"a text for an error", `{"errors":{"a":"broken"}}`, "errors: tag \"a\" has the error code"},
		{"error code 0", `{"errors":{"a":0}}`, "errors: tag \"a\" has the error code 0"},
		{"a number beyond a double", `{"values":{"a":1e999}}`, "values: tag \"a\" has the number 1e999"},
		{"a long name", `{"values":{"` + strings.Repeat("n", MaxLabel+1) + `":1}}`, "values: "},
		{"a long text", `{"values":{"a":"` + strings.Repeat("x", MaxText+1) + `"}}`, "values: tag \"a\" has a value of 65537 bytes"},
		{"an error in the second of an array", `[{"values":{"a":1}},{"values":5}]`, "[1].values: is 5"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Decode("u1", []byte(tt.payload))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, %v; want an error with %q", got, err, tt.want)
			}
			if pe := (*PayloadError)(nil); !errors.As(err, &pe) || pe.Fix == "" || pe.Field == "" {
				t.Fatalf("not a PayloadError with field and fix: %#v", err)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   Telemetry
	}{
		{"no readings", Telemetry{}},
		{"not a number", Telemetry{Readings: []Reading{{Tag: "a", Value: FloatValue(math.NaN())}}}},
		{"infinite", Telemetry{Readings: []Reading{{Tag: "a", Value: FloatValue(math.Inf(1))}}}},
		{"JSON that is none", Telemetry{Readings: []Reading{{Tag: "a", Value: Value{Kind: JSON, Str: "[1"}}}}},
		{"empty JSON", Telemetry{Readings: []Reading{{Tag: "a", Value: Value{Kind: JSON}}}}},
		{"a tag twice", Telemetry{Readings: []Reading{{Tag: "a", Value: IntValue(1)}, {Tag: "a", Value: IntValue(1)}}}},
		{"an unnamed tag", Telemetry{Readings: []Reading{{Value: IntValue(1)}}}},
	} {
		if b, err := Encode(tt.in); err == nil {
			t.Errorf("%s: encoded to %s", tt.name, b)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"timestamp":1700000000000,"seq":41,"boot":"b","node":"plc1","group":"g1","values":{"t":21.5,"s":"x","b":false,"n":null,"j":[1,{"a":2}]},"errors":{"flow":2014}}`,
		`{"node_name":"a","group_name":"b","tags":[{"name":"t","value":1,"type":3},{"name":"u","error":-5}]}`,
		`{"tags":[{"name":"a","value":1}],"values":{"a":1},"errors":[{"name":"e","error":9}],"error_values":{"e":9}}`,
		`[{"values":{"a":1e300}},{"values":{"a":-0,"b":0.0}}]`,
		`{"timestamp":1e400,"seq":-1,"boot":-1.5}`, `[]`, `{}`, `null`, `"`, `{"values":{"":0}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := Decode("u", b)
		if err != nil {
			if pe := (*PayloadError)(nil); !errors.As(err, &pe) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		for _, x := range all {
			enc, err := Encode(x)
			if err != nil {
				if len(b) > MaxText/8 {
					continue // escapes can make it longer than a payload may be
				}
				t.Fatalf("accepted %+v but: %v", x, err)
			}
			again, err := Decode("u", enc)
			if err != nil {
				t.Fatal(err)
			}
			slices.SortFunc(x.Readings, byTag)
			slices.SortFunc(again[0].Readings, byTag)
			if !reflect.DeepEqual(again[0], x) {
				t.Fatalf("%s\ncame back as\n%+v, not\n%+v", enc, again[0], x)
			}
		}
	})
}

func byTag(a, b Reading) int { return strings.Compare(a.Tag, b.Tag) }

func BenchmarkDecode(b *testing.B) {
	p := []byte(`{"timestamp":1700000000000,"seq":41,"boot":"b7","node":"plc1","group":"g1","values":{"a":21.5,"b":3,"c":true,"d":"on"}}`)
	for b.Loop() {
		if _, err := Decode("u1", p); err != nil {
			b.Fatal(err)
		}
	}
}
