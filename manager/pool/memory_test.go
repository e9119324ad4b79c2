package pool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"sync"
)

// memory is a Machine in memory whose image is its whole content.
type memory struct {
	mu      sync.Mutex
	pos     Position
	conf    []byte
	confAt  uint64
	rows    [][]byte
	hash    [32]byte
	digests map[uint64]string
	hang    chan struct{} // Apply blocks while this is open
	fail    error
	seen    map[string]bool // rows, so that none is stored twice
}

func newMemory() *memory { return &memory{digests: map[uint64]string{}, seen: map[string]bool{}} }

func (m *memory) Apply(ctx context.Context, batch []Entry) ([]any, error) {
	m.mu.Lock()
	hang, fail := m.hang, m.fail
	m.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail != nil {
		return nil, fail
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]any, len(batch))
	for i, e := range batch {
		if e.Index <= m.pos.Index {
			continue
		}
		if e.Configuration != nil {
			m.conf, m.confAt = bytes.Clone(e.Configuration), e.Index
		} else if !m.seen[string(e.Data)] {
			m.seen[string(e.Data)] = true
			m.rows = append(m.rows, bytes.Clone(e.Data))
			m.hash = sha256.Sum256(append(m.hash[:], e.Data...))
			out[i] = len(m.rows)
		}
		m.pos = Position{e.Term, e.Index}
		m.digests[e.Index] = hex.EncodeToString(m.hash[:])
	}
	return out, nil
}

func (m *memory) texts() map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]int{}
	for _, r := range m.rows {
		out[string(r)]++
	}
	return out
}

func (m *memory) Applied() Position { m.mu.Lock(); defer m.mu.Unlock(); return m.pos }

func (m *memory) Sync(context.Context) error { return nil }

func (m *memory) Digest() (uint64, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pos.Index, m.digests[m.pos.Index]
}

func (m *memory) DigestAt(i uint64) (string, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.digests[i]
	return s, ok
}

type image struct {
	*bytes.Reader
	pos    Position
	conf   []byte
	confAt uint64
}

func (i image) Close() error                    { return nil }
func (i image) Position() Position              { return i.pos }
func (i image) Configuration() ([]byte, uint64) { return i.conf, i.confAt }

func (m *memory) View(context.Context) (Image, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b bytes.Buffer
	head := make([]byte, 24+32)
	binary.BigEndian.PutUint64(head, m.pos.Term)
	binary.BigEndian.PutUint64(head[8:], m.pos.Index)
	binary.BigEndian.PutUint64(head[16:], m.confAt)
	copy(head[24:], m.hash[:])
	b.Write(head)
	for _, r := range append([][]byte{m.conf}, m.rows...) {
		var l [4]byte
		binary.BigEndian.PutUint32(l[:], uint32(len(r)))
		b.Write(l[:])
		b.Write(r)
	}
	return image{bytes.NewReader(b.Bytes()), m.pos, m.conf, m.confAt}, nil
}

type receiver struct {
	bytes.Buffer
	m *memory
}

func (m *memory) Receive(context.Context) (Receiver, error) { return &receiver{m: m}, nil }

func (r *receiver) Commit(context.Context) error { return nil }
func (r *receiver) Abort() error                 { return nil }

func (r *receiver) Install(context.Context) error {
	b := r.Bytes()
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pos = Position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
	m.confAt = binary.BigEndian.Uint64(b[16:])
	copy(m.hash[:], b[24:])
	b = b[56:]
	m.rows, m.seen = nil, map[string]bool{}
	for first := true; len(b) > 0; first = false {
		n := binary.BigEndian.Uint32(b)
		row := bytes.Clone(b[4 : 4+n])
		b = b[4+n:]
		if first {
			m.conf = row
		} else {
			m.rows, m.seen[string(row)] = append(m.rows, row), true
		}
	}
	m.digests = map[uint64]string{m.pos.Index: hex.EncodeToString(m.hash[:])}
	return nil
}

var _ io.Reader = image{}
