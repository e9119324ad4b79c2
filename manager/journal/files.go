package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	prefix = "events-"
	suffix = ".jsonl"
	// parts is into how many files the journal's space is divided: removing the oldest gives up
	// one part of it.
	parts = 4
	// maxLine bounds one event on disk.
	maxLine = 32 << 10
)

// files are the journal's files on disk, named by the Seq of their first event. Used by one
// goroutine at a time.
type files struct {
	dir  string
	most int64 // bytes of one file
	f    *os.File
	size int64
}

func newFiles(dir string, maxBytes int64) *files {
	return &files{dir: dir, most: maxBytes / parts}
}

// append writes events at the end and syncs them, starting a new file when the present one is full.
func (fl *files) append(events []Event) error {
	var lines bytes.Buffer
	for _, e := range events {
		lines.Write(encode(e))
	}
	if fl.f != nil && fl.size+int64(lines.Len()) > fl.most {
		fl.close()
	}
	if fl.f == nil {
		if err := fl.open(events[0].Seq, int64(lines.Len())); err != nil {
			return err
		}
	}
	n, err := fl.f.Write(lines.Bytes())
	fl.size += int64(n)
	if err == nil {
		err = fl.f.Sync()
	}
	if err != nil {
		if n > 0 { // take a half-written line back, the whole batch comes again
			err = errors.Join(err, fl.f.Truncate(fl.size-int64(n)))
		}
		fl.close()
		return fmt.Errorf("journal: write: %w", err)
	}
	return nil
}

// open continues the newest file while it has room for more bytes, or starts one.
func (fl *files) open(seq uint64, more int64) error {
	names, err := fl.list()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s%020d%s", prefix, seq, suffix)
	if n := len(names); n > 0 {
		info, err := os.Stat(filepath.Join(fl.dir, names[n-1]))
		if err == nil && info.Size()+more <= fl.most {
			name = names[n-1]
		}
	}
	f, err := os.OpenFile(filepath.Join(fl.dir, name), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("journal: open: %w", err)
	}
	size, err := endLastLine(f)
	if err != nil {
		f.Close()
		return fmt.Errorf("journal: open %s: %w", name, err)
	}
	fl.f, fl.size = f, size
	if slices.Contains(names, name) {
		return nil
	}
	for ; len(names) >= parts; names = names[1:] {
		if err := os.Remove(filepath.Join(fl.dir, names[0])); err != nil {
			return fmt.Errorf("journal: remove the oldest file: %w", err)
		}
	}
	return nil
}

// endLastLine makes sure that a line that a power cut left half-written ends before the next one
// begins. It returns the file's size.
func endLastLine(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return 0, err
	}
	if last[0] == '\n' {
		return info.Size(), nil
	}
	_, err = f.Write([]byte{'\n'})
	return info.Size() + 1, err
}

func (fl *files) close() {
	if fl.f != nil {
		fl.f.Close() // synced after each batch
		fl.f = nil
	}
}

// list returns the journal's file names, oldest first.
func (fl *files) list() ([]string, error) { return listFiles(fl.dir) }

func listFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: list files: %w", err)
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); e.Type().IsRegular() && strings.HasPrefix(n, prefix) && strings.HasSuffix(n, suffix) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, nil
}

// tail returns the newest n events on disk, oldest first. Lines that are damaged or out of order
// are left out.
func (fl *files) tail(n int) ([]Event, error) {
	names, err := fl.list()
	if err != nil {
		return nil, err
	}
	var newest []Event
	for i := len(names) - 1; i >= 0 && len(newest) < n; i-- {
		f, err := os.Open(filepath.Join(fl.dir, names[i]))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return newest, fmt.Errorf("journal: read: %w", err)
		}
		events := decode(f)
		f.Close()
		newest = append(events, newest...)
	}
	newest = inOrder(newest)
	return newest[max(0, len(newest)-n):], nil
}

// inOrder drops events whose Seq does not grow.
func inOrder(events []Event) []Event {
	var last uint64
	return slices.DeleteFunc(events, func(e Event) bool {
		if e.Seq <= last {
			return true
		}
		last = e.Seq
		return false
	})
}

// encode returns e as one line. Details that cannot be written, or would make the line longer
// than maxLine, are replaced by a note.
func encode(e Event) []byte {
	line, err := json.Marshal(e)
	if err == nil && len(line) < maxLine {
		return append(line, '\n')
	}
	e.Details = map[string]any{"omitted": "details too large or not writable"}
	for _, text := range []*string{&e.Message, &e.Cause, &e.Code, &e.Category, &e.Node, &e.From, &e.To} {
		*text = strings.ToValidUTF8((*text)[:min(len(*text), 600)], "")
	}
	line, err = json.Marshal(e)
	if err != nil { // only texts and numbers are left
		panic(fmt.Sprintf("journal: encode a plain event: %v", err))
	}
	return append(line, '\n')
}

// decode reads lines of events; what is no event, or longer than any, is skipped.
func decode(r io.Reader) []Event {
	var events []Event
	br := bufio.NewReaderSize(r, maxLine+1)
	for skipping := false; ; {
		line, err := br.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			skipping = true
			continue
		}
		var e Event
		if !skipping && json.Unmarshal(line, &e) == nil && e.Seq > 0 {
			if e.ID == "" { // written before events had one
				e.ID = fmt.Sprintf("%s-%010x", e.Node, e.Seq)
			}
			events = append(events, e)
		}
		skipping = false
		if err != nil {
			return events
		}
	}
}
