package database

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"redundancypool/fieldunit"
)

// An encoded command: version byte, kind byte, envelope, body, CRC-32C of all before it
// (little endian). Integers are varints. A text is written out once (0, length, bytes) and
// referred to afterwards (1 = first text of the command).
const commandVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the bytes of c for a log entry. ErrInvalid names the field and its range.
func Encode(c Command) ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	e := &encoder{b: make([]byte, 0, 256), texts: map[string]uint64{}}
	e.b = append(e.b, commandVersion, byte(c.Body.kind()))
	e.text(c.Client)
	e.uint(c.Sequence)
	e.int(c.ProposedMS)
	c.Body.encode(e)
	b := e.seal()
	if len(b) > MaxCommandSize {
		return nil, fmt.Errorf("encode command: %w: %d bytes: at most %d, propose fewer records at once", ErrInvalid, len(b), MaxCommandSize)
	}
	return b, nil
}

type encoder struct {
	b     []byte
	texts map[string]uint64
}

// seal appends the checksum.
func (e *encoder) seal() []byte {
	return binary.LittleEndian.AppendUint32(e.b, crc32.Checksum(e.b, castagnoli))
}

func (e *encoder) uint(v uint64) { e.b = binary.AppendUvarint(e.b, v) }
func (e *encoder) int(v int64)   { e.b = binary.AppendVarint(e.b, v) }

func (e *encoder) text(s string) {
	if n, ok := e.texts[s]; ok {
		e.uint(n)
		return
	}
	e.texts[s] = uint64(len(e.texts) + 1)
	e.uint(0)
	e.raw(s)
}

// raw writes a text that is not worth remembering.
func (e *encoder) raw(s string) {
	e.uint(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (b TelemetryBatch) encode(e *encoder) {
	e.uint(uint64(len(b.Records)))
	for i := range b.Records {
		t := &b.Records[i]
		e.text(t.Unit)
		if t.HasSeq {
			e.b = append(e.b, 1)
			e.text(t.Boot)
			e.uint(t.Seq)
		} else {
			e.b = append(e.b, 0)
		}
		e.int(t.SourceMS)
		e.text(t.Node)
		e.text(t.Group)
		e.uint(uint64(len(t.Readings)))
		for j := range t.Readings {
			r := &t.Readings[j]
			e.text(r.Tag)
			e.int(r.Error)
			e.b = append(e.b, byte(r.Value.Kind))
			switch r.Value.Kind {
			case fieldunit.Bool:
				e.b = append(e.b, byte(r.Value.Num))
			case fieldunit.Int:
				e.int(int64(r.Value.Num))
			case fieldunit.Float:
				e.b = binary.LittleEndian.AppendUint64(e.b, r.Value.Num)
			case fieldunit.Text, fieldunit.JSON:
				e.raw(r.Value.Str)
			case fieldunit.None:
			}
		}
	}
}

func (b UnitAdd) encode(e *encoder)       { e.raw(b.Name); e.b = append(e.b, b.Secret[:]...) }
func (b UnitSecret) encode(e *encoder)    { e.raw(b.Name); e.b = append(e.b, b.Secret[:]...) }
func (b UnitRemove) encode(e *encoder)    { e.raw(b.Name) }
func (b UserPut) encode(e *encoder)       { e.raw(b.Name); e.raw(b.Hash); e.uint(b.Generation) }
func (b UserRemove) encode(e *encoder)    { e.raw(b.Name) }
func (b SettingPut) encode(e *encoder)    { e.raw(b.Key); e.raw(b.Value) }
func (b SettingRemove) encode(e *encoder) { e.raw(b.Key) }
func (Canary) encode(*encoder)            {}
func (b PoolPut) encode(e *encoder)       { e.raw(b.Pool) }

func (b EventAppend) encode(e *encoder) {
	v := &b.Event
	e.int(v.TimeMS)
	for _, s := range [...]string{v.Node, v.Severity, v.Category, v.Code, v.Message, v.Cause, v.Details} {
		e.raw(s)
	}
}

func (b ChangeoverAppend) encode(e *encoder) { e.int(b.AtMS); e.raw(b.JSON) }

func (b Prune) encode(e *encoder) {
	e.int(b.SamplesBeforeMS)
	e.int(b.EventsBeforeMS)
	e.uint(b.Limit)
}
