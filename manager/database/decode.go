package database

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"redundancypool/fieldunit"
)

// Decode reads what Encode wrote. It refuses damaged and unknown bytes with ErrChecksum,
// ErrVersion, ErrKind or ErrInvalid, and never allocates much more than len(data).
func Decode(data []byte) (Command, error) {
	if len(data) < 6 || len(data) > MaxCommandSize {
		return Command{}, fmt.Errorf("decode command: %w: %d bytes", ErrInvalid, len(data))
	}
	body, sum := data[:len(data)-4], binary.LittleEndian.Uint32(data[len(data)-4:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return Command{}, fmt.Errorf("decode command: %w: have %08x, want %08x", ErrChecksum, got, sum)
	}
	if body[0] != commandVersion {
		return Command{}, fmt.Errorf("decode command: %w %d: this version knows %d", ErrVersion, body[0], commandVersion)
	}
	d := &decoder{b: body[2:]}
	c := Command{Envelope: Envelope{Client: d.text(), Sequence: d.uint(), ProposedMS: d.int()}}
	c.Body = d.body(kind(body[1]))
	if d.err == nil && len(d.b) != 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err == nil {
		d.err = c.validate()
	}
	if d.err != nil {
		return Command{}, fmt.Errorf("decode command: %w", d.err)
	}
	return c, nil
}

// decoder reads from b; the first error stays and makes all later reads zero.
type decoder struct {
	b     []byte
	texts []string
	err   error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	d.b = nil
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("truncated number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail("truncated number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.fail("%d bytes expected, %d left", n, len(d.b))
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) raw() string { return string(d.take(d.uint())) }

func (d *decoder) text() string {
	n := d.uint()
	if n == 0 {
		s := d.raw()
		if d.err == nil {
			d.texts = append(d.texts, s)
		}
		return s
	}
	if n > uint64(len(d.texts)) {
		d.fail("text %d of %d", n, len(d.texts))
		return ""
	}
	return d.texts[n-1]
}

// count reads a number of elements that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.fail("%d elements in %d bytes", n, len(d.b))
		return 0
	}
	return int(n)
}

func (d *decoder) secret() (s [32]byte) {
	copy(s[:], d.take(uint64(len(s))))
	return s
}

func (d *decoder) body(k kind) Body {
	switch k {
	case kindTelemetry:
		return d.telemetry()
	case kindUnitAdd:
		return UnitAdd{Name: d.raw(), Secret: d.secret()}
	case kindUnitSecret:
		return UnitSecret{Name: d.raw(), Secret: d.secret()}
	case kindUnitRemove:
		return UnitRemove{Name: d.raw()}
	case kindUserPut:
		return UserPut{Name: d.raw(), Hash: d.raw(), Generation: d.uint()}
	case kindUserRemove:
		return UserRemove{Name: d.raw()}
	case kindSettingPut:
		return SettingPut{Key: d.raw(), Value: d.raw()}
	case kindSettingRemove:
		return SettingRemove{Key: d.raw()}
	case kindEvent:
		return EventAppend{Event{TimeMS: d.int(), Node: d.raw(), Severity: d.raw(), Category: d.raw(), Code: d.raw(), Message: d.raw(), Cause: d.raw(), Details: d.raw()}}
	case kindChangeover:
		return ChangeoverAppend{AtMS: d.int(), JSON: d.raw()}
	case kindCanary:
		return Canary{}
	case kindPrune:
		return Prune{SamplesBeforeMS: d.int(), EventsBeforeMS: d.int(), Limit: d.uint()}
	case kindPool:
		return PoolPut{Pool: d.raw()}
	case kindReport:
		return d.report()
	case kindOnce:
		return d.once()
	case kindNotice:
		return d.notices()
	case kindSecret:
		return SecretPut{Key: d.raw(), Value: d.raw()}
	}
	if d.err == nil {
		d.err = fmt.Errorf("%w %d: upgrade this node", ErrKind, k)
	}
	return nil
}

func (d *decoder) telemetry() TelemetryBatch {
	var b TelemetryBatch
	n := d.count(8) // the least that a record with one reading takes
	if n > 0 {
		b.Records = make([]fieldunit.Telemetry, 0, n)
	}
	for range n {
		t := fieldunit.Telemetry{Unit: d.text()}
		switch flag := d.byte(); flag {
		case 0:
		case 1:
			t.HasSeq, t.Boot, t.Seq = true, d.text(), d.uint()
		default:
			d.fail("sequence flag %d", flag)
		}
		t.SourceMS, t.Node, t.Group = d.int(), d.text(), d.text()
		m := d.count(3)
		if m > fieldunit.MaxReadings {
			d.fail("%d readings: at most %d", m, fieldunit.MaxReadings)
		}
		if d.err != nil {
			return b
		}
		t.Readings = make([]fieldunit.Reading, 0, m)
		for range m {
			t.Readings = append(t.Readings, d.reading())
		}
		b.Records = append(b.Records, t)
	}
	return b
}

func (d *decoder) reading() fieldunit.Reading {
	r := fieldunit.Reading{Tag: d.text(), Error: d.int()}
	r.Value.Kind = fieldunit.Kind(d.byte())
	switch r.Value.Kind {
	case fieldunit.Bool:
		r.Value.Num = uint64(d.byte())
	case fieldunit.Int:
		r.Value.Num = uint64(d.int())
	case fieldunit.Float:
		if p := d.take(8); p != nil {
			r.Value.Num = binary.LittleEndian.Uint64(p)
		}
	case fieldunit.Text, fieldunit.JSON:
		r.Value.Str = d.raw()
	case fieldunit.None:
	default:
		d.fail("value kind %d", r.Value.Kind)
	}
	return r
}
