package database

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"math/bits"
	"sort"
)

// total is the sum of the SHA-256 values of all rows, as a 256-bit number without the carry
// out: it does not depend on order, and a row can be taken away again. It finds faults, not
// forgers: who can write the file could also write the digest.
type total [4]uint64

func totalOf(b []byte) (t total) {
	for i := range t {
		t[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return t
}

func (t total) bytes() (b [32]byte) {
	for i, v := range t {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	return b
}

// add counts one row in, sub takes it out.
func (t *total) add(row []byte) {
	h := sha256.Sum256(row)
	var carry uint64
	for i, v := range totalOf(h[:]) {
		t[i], carry = bits.Add64(t[i], v, carry)
	}
}

func (t *total) sub(row []byte) {
	h := sha256.Sum256(row)
	var borrow uint64
	for i, v := range totalOf(h[:]) {
		t[i], borrow = bits.Sub64(t[i], v, borrow)
	}
}

// row is the canonical form of one row for the digest: a letter for its table, its columns.
type row []byte

func (r row) int(v int64) row    { return binary.AppendVarint(r, v) }
func (r row) bytes(b []byte) row { return append(binary.AppendUvarint(r, uint64(len(b))), b...) }
func (r row) text(s string) row  { return append(binary.AppendUvarint(r, uint64(len(s))), s...) }

func rowUnit(r row, id int64, name string, created, removed int64) row {
	return append(r, 'u').int(id).text(name).int(created).int(removed)
}
func rowUnitSecret(r row, unit int64, hash []byte) row {
	return append(r, 'U').int(unit).bytes(hash)
}
func rowUser(r row, name string, generation int64) row {
	return append(r, 'p').text(name).int(generation)
}
func rowUserSecret(r row, name, hash string) row { return append(r, 'P').text(name).text(hash) }
func rowSetting(r row, key, value string) row    { return append(r, 's').text(key).text(value) }
func rowSeries(r row, id, unit int64, node, group, tag string) row {
	return append(r, 'i').int(id).int(unit).text(node).text(group).text(tag)
}
func rowStream(r row, id, unit int64, boot string) row {
	return append(r, 't').int(id).int(unit).text(boot)
}
func rowMessage(r row, stream, seq, hash, received int64) row {
	return append(r, 'm').int(stream).int(seq).int(hash).int(received)
}
func rowEvent(r row, proposed int64, e *Event) row {
	return append(r, 'e').int(e.ID).int(proposed).int(e.TimeMS).text(e.Node).text(e.Severity).text(e.Category).
		text(e.Code).text(e.Message).text(e.Cause).text(e.Details)
}
func rowChangeover(r row, id, at int64, record string) row {
	return append(r, 'c').int(id).int(at).text(record)
}
func rowClient(r row, id int64, name string) row { return append(r, 'l').int(id).text(name) }
func rowClientResult(r row, client, slot, seq, idx int64, result []byte) row {
	return append(r, 'L').int(client).int(slot).int(seq).int(idx).bytes(result)
}
func rowCanary(r row, count, ms int64) row { return append(r, 'k').int(count).int(ms) }
func rowPool(r row, pool string) row       { return append(r, 'n').text(pool) }

// rowSample writes value by its SQLite type, so that a scan of the file sees the same.
func rowSample(r row, s *sampleRow) row {
	r = append(r, 'r').int(s.series).int(s.sourceMS).int(s.hash).int(s.origin).int(s.seq).int(s.delayMS).int(s.kind).int(s.err)
	switch v := s.value.(type) {
	case int64:
		return append(r, 'i').int(v)
	case float64:
		return binary.LittleEndian.AppendUint64(append(r, 'f'), math.Float64bits(v))
	case string:
		return append(r, 't').text(v)
	}
	return append(r, 'n')
}

// history remembers the digest after each of the last entries, so that two nodes can compare
// at an index that both have passed.
type history struct {
	points []point // ring
	next   int
	full   bool
}

type point struct {
	index uint64
	sum   total
}

// historySize entries are remembered: at 10,000 entries a second still 1.6 s.
const historySize = 16384

func (h *history) push(p point) {
	if h.points == nil {
		h.points = make([]point, historySize)
	}
	h.points[h.next] = p
	h.next++
	if h.next == len(h.points) {
		h.next, h.full = 0, true
	}
}

func (h *history) reset() { h.next, h.full = 0, false }

// at returns the digest after index: that of the last point at or below it.
func (h *history) at(index uint64) (total, bool) {
	n, first := h.next, 0
	if h.full {
		n, first = len(h.points), h.next
	}
	get := func(i int) point { return h.points[(first+i)%len(h.points)] }
	i := sort.Search(n, func(i int) bool { return get(i).index > index })
	if i == 0 {
		return total{}, false
	}
	return get(i - 1).sum, true
}
