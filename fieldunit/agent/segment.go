package agent

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"redundancypool/fieldunit"
)

// On disk a spool is a directory with
//
//	lock          held while a process uses it
//	unit          whose spool it is
//	acknowledged  position below which everything is acknowledged, and its checksum
//	NNNN.spool    segments, named by the position of their first record (16 hex digits)
//
// A segment is the magic text, then frames: length of the body, CRC-32C of the body (both
// little-endian uint32), body = seq (uint64), length of boot (one byte), boot, payload.
const (
	segmentMagic  = "FUSPOOL1"
	segmentSuffix = ".spool"
	frameOverhead = 4 + 4 + 8 + 1
	maxBody       = fieldunit.MaxPayload + fieldunit.MaxBoot + 9
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func segmentSize(spool int64) int64 { return max(64<<10, spool/16) }

// segments is the disk side of a Spool. append, forget and close are called under the Spool's
// lock; sync is not.
type segments struct {
	dir   string
	limit int64
	lock  *os.File
	mark  *os.File

	starts []uint64 // first positions of the segments, ascending; the last is being written
	size   int64
	next   uint64
	broken bool // the last write failed: its rest is cut off by starting a new segment
	marked uint64

	mu    sync.Mutex // f, which sync uses too
	f     *os.File   // nil: none yet
	dirty atomic.Bool
}

// openSegments locks the directory and reads it. It returns the unacknowledged records.
func openSegments(dir, unit string, limit int64, log *slog.Logger) (*segments, []*Record, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	g := &segments{dir: dir, limit: limit, lock: lock}
	list, err := g.load(unit, log)
	if err != nil {
		_ = lock.Close()
		if g.mark != nil {
			_ = g.mark.Close()
		}
		return nil, nil, err
	}
	return g, list, nil
}

func (g *segments) load(unit string, log *slog.Logger) ([]*Record, error) {
	if err := syscall.Flock(int(g.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("in use by another process: give each agent a directory of its own (%w)", err)
	}
	owner := filepath.Join(g.dir, "unit")
	switch b, err := os.ReadFile(owner); {
	case errors.Is(err, os.ErrNotExist):
		if err := os.WriteFile(owner, []byte(unit+"\n"), 0o600); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	case strings.TrimSpace(string(b)) != unit:
		return nil, fmt.Errorf("belongs to unit %.80q, not to %q: use another directory", strings.TrimSpace(string(b)), unit)
	}
	var err error
	if g.mark, err = os.OpenFile(filepath.Join(g.dir, "acknowledged"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	acknowledged := readMark(g.mark)
	names, err := filepath.Glob(filepath.Join(g.dir, "*"+segmentSuffix))
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var list []*Record
	g.next = acknowledged
	for _, name := range names {
		var start uint64
		if _, err := fmt.Sscanf(filepath.Base(name), "%016x"+segmentSuffix, &start); err != nil || start > 1<<62 {
			log.Warn("spool: file ignored, its name is not a segment's", "file", name)
			continue
		}
		records, bad, err := readSegment(name, start)
		if err != nil {
			return nil, err
		}
		if bad != nil {
			log.Warn("spool: damaged end of a segment left out", "file", name, "after_records", len(records), "reason", bad)
		}
		g.starts = append(g.starts, start)
		for _, r := range records {
			if r.place >= acknowledged {
				list = append(list, r)
			}
		}
		g.next = max(g.next, start+uint64(len(records)))
	}
	return list, nil
}

// readSegment returns the records before the first damage, and what the damage was.
func readSegment(name string, start uint64) (list []*Record, bad, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = f.Close() }()
	list, bad = readFrames(bufio.NewReaderSize(f, 64<<10), start)
	return list, bad, nil
}

func readFrames(r io.Reader, pos uint64) ([]*Record, error) {
	var list []*Record
	magic := make([]byte, len(segmentMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, errors.New("shorter than its head")
	}
	if string(magic) != segmentMagic {
		return nil, errors.New("not a spool's segment")
	}
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return list, nil
		} else if err != nil {
			return list, errors.New("cut in a frame's head")
		}
		n := binary.LittleEndian.Uint32(head[:])
		if n < 9 || n > maxBody {
			return list, fmt.Errorf("frame of %d bytes", n)
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return list, errors.New("cut in a frame")
		}
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			return list, errors.New("wrong checksum")
		}
		boot := int(body[8])
		if 9+boot > len(body) {
			return list, errors.New("frame without payload")
		}
		list = append(list, &Record{
			Seq: binary.LittleEndian.Uint64(body), Boot: string(body[9 : 9+boot]), Payload: body[9+boot:], place: pos,
		})
		pos++
	}
}

func appendFrame(b []byte, r *Record) []byte {
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint64(b, r.Seq)
	b = append(b, byte(len(r.Boot)))
	b = append(b, r.Boot...)
	b = append(b, r.Payload...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-8))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

func (g *segments) append(r *Record) error {
	r.place = g.next
	if g.f == nil || g.broken || g.size >= g.limit {
		if err := g.roll(r.place); err != nil {
			return err
		}
	}
	frame := appendFrame(make([]byte, 0, r.size()), r)
	if _, err := g.f.Write(frame); err != nil {
		g.broken = true
		return fmt.Errorf("write: %w: free space on its disk", err)
	}
	g.size += int64(len(frame))
	g.next++
	g.dirty.Store(true)
	return nil
}

// roll starts the segment whose first record has position pos. A broken write cut the frame in two, so it
// counts as no record: the next one takes its position.
func (g *segments) roll(pos uint64) error {
	if err := g.sync(); err != nil {
		return err
	}
	f, err := os.OpenFile(g.name(pos), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(segmentMagic); err != nil {
		_ = f.Close()
		return fmt.Errorf("write: %w: free space on its disk", err)
	}
	g.mu.Lock()
	old := g.f
	g.f = f
	g.mu.Unlock()
	g.dirty.Store(true)
	if old != nil {
		_ = old.Close()
	}
	if n := len(g.starts); n == 0 || g.starts[n-1] != pos {
		g.starts = append(g.starts, pos)
	}
	g.size, g.broken = int64(len(segmentMagic)), false
	return nil
}

func (g *segments) name(pos uint64) string {
	return filepath.Join(g.dir, fmt.Sprintf("%016x%s", pos, segmentSuffix))
}

// forget notes that everything below pos is done, and removes the segments that hold nothing else.
func (g *segments) forget(pos uint64) {
	if pos <= g.marked {
		return
	}
	for len(g.starts) > 1 && g.starts[1] <= pos {
		if err := os.Remove(g.name(g.starts[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
			break // it is tried again at the next one
		}
		g.starts = g.starts[1:]
	}
	_, _ = g.mark.WriteAt(mark(pos), 0) // when it fails, records are sent again: harmless
	g.marked = pos
}

func mark(pos uint64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, pos)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// readMark returns 0 for a damaged mark: then everything is sent again.
func readMark(f io.ReaderAt) uint64 {
	var b [12]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0
	}
	if crc32.Checksum(b[:8], castagnoli) != binary.LittleEndian.Uint32(b[8:]) {
		return 0
	}
	return binary.LittleEndian.Uint64(b[:])
}

// sync blocks nobody: the file may be replaced and closed meanwhile, after a sync of its own.
func (g *segments) sync() error {
	g.mu.Lock()
	f := g.f
	g.mu.Unlock()
	if f == nil || !g.dirty.Swap(false) {
		return nil
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (g *segments) close() error {
	err := g.sync()
	if g.f != nil {
		err = errors.Join(err, g.f.Close())
	}
	return errors.Join(err, g.mark.Close(), g.lock.Close())
}
