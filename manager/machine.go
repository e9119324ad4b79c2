package manager

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"redundancypool/manager/database"
	"redundancypool/manager/pool"
)

// machine is the database as the pool's log sees it.
type machine struct {
	db       *database.Store
	transfer *transfer // counts whole copies; nil: nobody looks
}

// Apply implements pool.Machine; each result is a database.Result.
func (m machine) Apply(ctx context.Context, batch []pool.Entry) ([]any, error) {
	entries := make([]database.Entry, len(batch))
	for i, e := range batch {
		entries[i] = database.Entry(e)
	}
	results, err := m.db.Apply(ctx, entries)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(results))
	for i, r := range results {
		out[i] = r
	}
	return out, nil
}

// Applied implements pool.Machine.
func (m machine) Applied() pool.Position {
	index, term := m.db.Applied()
	return pool.Position{Term: term, Index: index}
}

// Sync implements pool.Machine.
func (m machine) Sync(ctx context.Context) error {
	_, _, err := m.db.Sync(ctx)
	return err
}

// Digest implements pool.Machine.
func (m machine) Digest() (uint64, string) {
	index, sum := m.db.Digest()
	return index, hex.EncodeToString(sum[:])
}

// DigestAt implements pool.Machine.
func (m machine) DigestAt(index uint64) (string, bool) {
	sum, ok := m.db.DigestAt(index)
	return hex.EncodeToString(sum[:]), ok
}

// image is a database view with its description in front, so that the receiver can check that
// what came is what was sent.
type image struct {
	*database.View
	head     *bytes.Reader
	size     int64
	transfer *transfer
	begun    bool
}

// imageHead is the JSON description in front of the bytes of the file, behind its length in 4
// bytes, big endian.
const maxImageHead = 1 << 20

// View implements pool.Machine.
func (m machine) View(ctx context.Context) (pool.Image, error) {
	v, err := m.db.View(ctx)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(database.Copy{
		Index: v.Index, Term: v.Term, ConfigurationIndex: v.ConfigurationIndex, Configuration: v.Configuration,
		Size: v.Size, Pool: v.Pool,
	})
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(head)))
	b = append(b, head...)
	return &image{View: v, head: bytes.NewReader(b), size: int64(len(b)) + v.Size, transfer: m.transfer}, nil
}

func (i *image) Position() pool.Position { return pool.Position{Term: i.Term, Index: i.Index} }

func (i *image) Configuration() ([]byte, uint64) {
	return i.View.Configuration, i.View.ConfigurationIndex
}

func (i *image) Size() int64 { return i.size }

// Read counts, too: an image that nobody reads, such as the Arbiter's, is no transfer.
func (i *image) Read(b []byte) (n int, err error) {
	if !i.begun {
		i.begun = true
		i.transfer.begin(i.size)
	}
	if i.head.Len() > 0 {
		n, err = i.head.Read(b)
	} else {
		n, err = i.View.Read(b)
	}
	i.transfer.add(n)
	return n, err
}

// receiver takes the description off the front and hands the rest to the database.
type receiver struct {
	db       *database.Store
	in       *database.Incoming
	head     []byte
	copy     *database.Copy
	transfer *transfer
}

// Receive implements pool.Machine.
func (m machine) Receive(ctx context.Context) (pool.Receiver, error) {
	in, err := m.db.Incoming(ctx)
	if err != nil {
		return nil, err
	}
	return &receiver{db: m.db, in: in, transfer: m.transfer}, nil
}

func (r *receiver) Write(b []byte) (int, error) {
	total := len(b)
	if r.copy == nil {
		r.head = append(r.head, b...)
		if len(r.head) < 4 {
			return total, nil
		}
		n := int(binary.BigEndian.Uint32(r.head))
		if n > maxImageHead {
			return 0, fmt.Errorf("receive database: description of %d bytes is longer than %d", n, maxImageHead)
		}
		if len(r.head) < 4+n {
			return total, nil
		}
		r.copy = &database.Copy{}
		if err := json.Unmarshal(r.head[4:4+n], r.copy); err != nil {
			return 0, fmt.Errorf("receive database: description: %w", err)
		}
		b, r.head = r.head[4+n:], nil
		r.transfer.begin(r.copy.Size)
	}
	if len(b) == 0 {
		return total, nil
	}
	if _, err := r.in.Write(b); err != nil {
		return 0, err
	}
	r.transfer.add(len(b))
	return total, nil
}

// Commit implements pool.Receiver.
func (r *receiver) Commit(context.Context) error {
	if r.copy == nil {
		return fmt.Errorf("receive database: %w before its description was complete", io.ErrUnexpectedEOF)
	}
	return r.in.Commit(*r.copy)
}

// Install implements pool.Receiver.
func (r *receiver) Install(ctx context.Context) error { return r.db.Replace(ctx) }

// Abort implements pool.Receiver.
func (r *receiver) Abort() error { return r.in.Abort() }
