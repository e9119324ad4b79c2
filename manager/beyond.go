package manager

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"redundancypool/fieldunit"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
)

// beyondDir holds the exports of what this Manager had beyond its pool.
func (m *Manager) beyondDir() string { return filepath.Join(m.cfg.Dir, "beyond") }

// beyondEntry is one line of an export: one telemetry message or one other change. Secrets of units
// and users are not in it.
type beyondEntry struct {
	Index     uint64         `json:"index"`
	Term      uint64         `json:"term"`
	Kind      string         `json:"kind"`
	Proposed  int64          `json:"proposed_ms,omitempty"`
	Unit      string         `json:"unit,omitempty"`
	Boot      string         `json:"boot,omitempty"`
	Seq       *uint64        `json:"seq,omitempty"`
	Timestamp int64          `json:"timestamp,omitempty"`
	Node      string         `json:"node,omitempty"`
	Group     string         `json:"group,omitempty"`
	Values    map[string]any `json:"values,omitempty"`
	Errors    map[string]any `json:"errors,omitempty"`
	What      any            `json:"what,omitempty"`
}

// exportBeyond writes what this Manager's log has beyond fork to a file of its own, once: a survivor
// went on from there, and when this Manager joins again its copy is replaced by the survivor's.
func (e *engine) exportBeyond(fork pool.Position) error {
	m := e.m
	name := fmt.Sprintf("pool-%.8s-beyond-%d-of-term-%d.jsonl", e.pool.Record().Pool, fork.Index, fork.Term)
	file := filepath.Join(m.beyondDir(), name)
	if exists(file) {
		return nil
	}
	if err := os.MkdirAll(m.beyondDir(), 0o700); err != nil {
		return err
	}
	tmp := file + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	records := 0
	entries, err := e.pool.Beyond(fork, func(en pool.Entry) error {
		for _, l := range beyondLines(en) {
			if err := json.NewEncoder(w).Encode(l); err != nil {
				return err
			}
			records++
		}
		return nil
	})
	err = errors.Join(err, w.Flush(), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, file)
	}
	if err != nil {
		return err
	}
	text := fmt.Sprintf("this Manager has nothing beyond what the pool went on with, entry %d of term %d", fork.Index, fork.Term)
	sev := journal.Info
	if records > 0 {
		sev = journal.Warning
		text = fmt.Sprintf("this Manager has %d records in %d entries beyond what the pool went on with, entry %d of term %d; they are exported to %s", records, entries, fork.Index, fork.Term, file)
	}
	m.event(sev, "database", "beyond_exported", text, map[string]any{"records": records, "entries": entries, "file": name})
	return nil
}

// beyondLines are the lines of one entry; the health check's own writes have none.
func beyondLines(en pool.Entry) []beyondEntry {
	c, err := database.Decode(en.Data)
	if err != nil {
		return []beyondEntry{{Index: en.Index, Term: en.Term, Kind: "unreadable", What: err.Error()}}
	}
	head := beyondEntry{Index: en.Index, Term: en.Term, Proposed: c.ProposedMS}
	with := func(kind string, what any) []beyondEntry {
		head.Kind, head.What = kind, what
		return []beyondEntry{head}
	}
	switch b := c.Body.(type) {
	case database.TelemetryBatch:
		var out []beyondEntry
		for _, t := range b.Records {
			out = append(out, head.telemetry(t))
		}
		return out
	case database.Canary:
		return nil
	case database.UnitAdd: // of units and users the name alone: the rest is secret
		return with("unit_add", b.Name)
	case database.UnitSecret:
		return with("unit_secret", b.Name)
	case database.UserPut:
		return with("user_put", b.Name)
	case database.SettingPut:
		return with("setting_put", b.Key)
	case database.EventAppend:
		return with("event", b.Event)
	case database.ChangeoverAppend:
		return with("changeover", json.RawMessage(b.JSON))
	}
	return with(strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", c.Body), "database.")), nil)
}

func (h beyondEntry) telemetry(t fieldunit.Telemetry) beyondEntry {
	h.Kind, h.Unit, h.Boot, h.Timestamp, h.Node, h.Group = "telemetry", t.Unit, t.Boot, t.SourceMS, t.Node, t.Group
	if t.HasSeq {
		h.Seq = &t.Seq
	}
	for _, r := range t.Readings {
		if r.Error != 0 {
			if h.Errors == nil {
				h.Errors = map[string]any{}
			}
			h.Errors[r.Tag] = r.Error
			continue
		}
		if h.Values == nil {
			h.Values = map[string]any{}
		}
		h.Values[r.Tag] = plainValue(r.Value)
	}
	return h
}

// plainValue is a value as JSON writes it.
func plainValue(v fieldunit.Value) any {
	switch v.Kind {
	case fieldunit.Bool:
		return v.Num != 0
	case fieldunit.Int:
		return int64(v.Num)
	case fieldunit.Float:
		return v.Float()
	case fieldunit.JSON:
		return json.RawMessage(v.Str)
	case fieldunit.Text:
		return v.Str
	}
	return nil
}

// savedBeyond is one export.
type savedBeyond struct {
	Name  string
	Bytes int64
	At    time.Time
}

// listBeyond lists the exports, newest first.
func (m *Manager) listBeyond() ([]savedBeyond, error) {
	list, err := os.ReadDir(m.beyondDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []savedBeyond
	for _, f := range list {
		if info, err := f.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(f.Name(), ".jsonl") {
			out = append(out, savedBeyond{f.Name(), info.Size(), info.ModTime().UTC()})
		}
	}
	slices.SortFunc(out, func(a, b savedBeyond) int { return b.At.Compare(a.At) })
	return out, nil
}
