package manager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
)

// saveNote stands beside a saved copy: why it was made, for whom, and what is in it.
type saveNote struct {
	Why     string `json:"why"`
	Who     string `json:"who"`
	Schema  int    `json:"schema"`
	Index   uint64 `json:"index"` // of the log, when it was saved
	Pool    string `json:"pool"`
	Units   int64  `json:"units"`
	Events  int64  `json:"events"`
	Samples int64  `json:"samples"`
}

const noteSuffix = ".json"

// saveTo saves the database to a file with its note beside it, and removes the oldest saves.
func (m *Manager) saveTo(ctx context.Context, e *engine, file, why, who string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := e.db.Save(ctx, file, false); err != nil {
		return err
	}
	n := saveNote{Why: why, Who: who}
	if c, err := e.db.RestoreCheck(ctx, file); err == nil {
		n.Schema, n.Index, n.Pool = c.Schema, c.Index, c.Pool
	}
	if st, err := e.db.Stats(ctx); err == nil {
		n.Units, n.Events = st.Units, st.Events
	}
	n.Samples = e.countSamples(ctx)
	if err := os.WriteFile(file+noteSuffix, []byte(asJSON(n)), 0o600); err != nil {
		m.log.Warn("the note beside a save is missing", "error", err)
	}
	m.event(journal.Info, "database", "saved", fmt.Sprintf("the database was saved to %s: %s", file, why), map[string]any{"by": who})
	m.pruneSaves()
	return nil
}

// saveAs saves the database beside the others, under a name that says when and why.
func (m *Manager) saveAs(ctx context.Context, e *engine, prefix, why, who string) (string, error) {
	file := filepath.Join(m.savesDir(), prefix+"-"+stamp()+".db")
	return file, m.saveTo(ctx, e, file, why, who)
}

// countSamples counts the stored readings; -1: not known.
func (e *engine) countSamples(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	rows, err := e.db.Query(ctx, "SELECT count(*) FROM sample", 1)
	if err != nil {
		return -1
	}
	defer rows.Close()
	if rows.Next() {
		if n, ok := rows.Values()[0].(int64); ok {
			return n
		}
	}
	return -1
}

// savedFile is one save in the list.
type savedFile struct {
	Name  string
	Bytes int64
	At    time.Time
	Note  saveNote
}

// listSaves lists the saves of this node, newest first.
func (m *Manager) listSaves() ([]savedFile, error) {
	list, err := os.ReadDir(m.savesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []savedFile
	for _, f := range list {
		info, err := f.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(f.Name(), ".db") || strings.HasPrefix(f.Name(), ".") {
			continue
		}
		s := savedFile{Name: f.Name(), Bytes: info.Size(), At: info.ModTime().UTC(), Note: saveNote{Samples: -1}}
		if b, err := os.ReadFile(filepath.Join(m.savesDir(), f.Name()+noteSuffix)); err == nil {
			if err := json.Unmarshal(b, &s.Note); err != nil {
				m.log.Warn("the note beside a save cannot be read", "save", f.Name(), "error", err)
			}
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b savedFile) int { return b.At.Compare(a.At) })
	return out, nil
}

// retention says how many saves are kept and how long; it is this node's own.
type saveRetention struct {
	Count int `json:"count"`
	Days  int `json:"days"` // 0: for ever
}

// defaultSaves keeps twenty saves, however old.
var defaultSaves = saveRetention{Count: 20}

const retentionFile = "retention.json"

func (m *Manager) saveRetention() saveRetention {
	r := defaultSaves
	if b, err := os.ReadFile(filepath.Join(m.savesDir(), retentionFile)); err == nil {
		if err := json.Unmarshal(b, &r); err != nil || r.Count < 1 {
			return defaultSaves
		}
	}
	return r
}

func (m *Manager) setSaveRetention(r saveRetention) error {
	if r.Count < 1 || r.Count > 1000 {
		return fieldError("count", "range", fmt.Sprintf("%d saves cannot be kept", r.Count), "give 1 to 1000")
	}
	if r.Days < 0 || r.Days > 3650 {
		return fieldError("days", "range", fmt.Sprintf("%d days are out of range", r.Days), "give 1 to 3650, or 0 for no limit by age")
	}
	if err := os.MkdirAll(m.savesDir(), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(m.savesDir(), retentionFile), []byte(asJSON(r)), 0o600); err != nil {
		return err
	}
	m.event(journal.Info, "database", "retention", fmt.Sprintf("%d saves are kept, for %d days (0: for ever)", r.Count, r.Days), nil)
	m.pruneSaves()
	return nil
}

// pruneSaves removes the saves that the retention does not keep; the newest always stays.
func (m *Manager) pruneSaves() {
	all, err := m.listSaves()
	if err != nil {
		m.log.Warn("list the saves", "error", err)
		return
	}
	r := m.saveRetention()
	for i, s := range all {
		old := r.Days > 0 && time.Since(s.At) > time.Duration(r.Days)*24*time.Hour
		if i == 0 || i < r.Count && !old {
			continue
		}
		if err := m.removeSave(s.Name); err != nil {
			m.log.Warn("remove an old save", "error", err)
		}
	}
}

func (m *Manager) removeSave(name string) error {
	file := filepath.Join(m.savesDir(), name)
	err := os.Remove(file)
	if nerr := os.Remove(file + noteSuffix); nerr != nil && !errors.Is(nerr, fs.ErrNotExist) {
		err = errors.Join(err, nerr)
	}
	return err
}

// savePath returns the file of a save in the list.
func (m *Manager) savePath(name string) (string, error) {
	all, err := m.listSaves()
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if s.Name == name {
			return filepath.Join(m.savesDir(), s.Name), nil
		}
	}
	return "", refuse("unknown", "choose one of the list", "there is no save %.80q", name)
}

// takeIn adds a saved file from elsewhere to the list, once it has been found good.
func (m *Manager) takeIn(ctx context.Context, who, name string, body io.Reader) (string, error) {
	e, err := faces{m}.openDatabase(ctx)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(m.savesDir(), 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(m.savesDir(), ".upload-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // renamed by now, or worth nothing
	_, err = io.Copy(f, body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", fmt.Errorf("take the file in: %w", err)
	}
	c, err := e.db.RestoreCheck(ctx, f.Name())
	if err != nil {
		why := "it cannot be read"
		switch {
		case errors.Is(err, database.ErrForeign):
			why = "no Manager saved it"
		case errors.Is(err, database.ErrNewer):
			why = "a Manager of a newer release saved it"
		case errors.Is(err, database.ErrCorrupt):
			why = "it is damaged"
		}
		m.log.Warn("a file that was sent cannot be restored", "error", err)
		return "", refuse("not_a_save", "send a file that a Manager of this or an older release saved", "the file cannot be restored: %s", why)
	}
	file := filepath.Join(m.savesDir(), "uploaded-"+stamp()+".db")
	if err := os.Rename(f.Name(), file); err != nil {
		return "", err
	}
	n := saveNote{Why: fmt.Sprintf("taken in from %.80q", filepath.Base(name)), Who: who, Schema: c.Schema, Index: c.Index, Pool: c.Pool, Units: -1, Events: -1, Samples: -1}
	if err := os.WriteFile(file+noteSuffix, []byte(asJSON(n)), 0o600); err != nil {
		m.log.Warn("the note beside a save is missing", "error", err)
	}
	m.event(journal.Info, "database", "uploaded", "a saved file was taken in as "+filepath.Base(file), map[string]any{"by": who})
	m.pruneSaves()
	return "taken in as " + filepath.Base(file), nil
}

// DeleteSave implements control.Saves.
func (f faces) DeleteSave(_ context.Context, name string, yes bool) (control.Done, error) {
	if _, err := f.m.savePath(name); err != nil {
		return control.Done{}, err
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "a save is deleted", Fix: "confirm it, or give --yes", Confirm: []control.Question{{Code: "delete", Text: "The save " + name + " is deleted for good."}}}
	}
	if err := f.m.removeSave(name); err != nil {
		return control.Done{}, err
	}
	f.m.event(journal.Info, "database", "save_deleted", "the save "+name+" was deleted", nil)
	return control.Done{Message: "deleted"}, nil
}

// ListSaves implements control.Saves.
func (f faces) ListSaves(context.Context) ([]control.Save, error) {
	all, err := f.m.listSaves()
	out := make([]control.Save, 0, len(all))
	for _, s := range all {
		n := s.Note
		out = append(out, control.Save{Name: s.Name, Bytes: s.Bytes, AtMS: s.At.UnixMilli(), Why: n.Why, Who: n.Who, Schema: n.Schema, Units: n.Units, Events: n.Events, Samples: n.Samples})
	}
	return out, err
}

// KeepSaves implements control.Saves.
func (f faces) KeepSaves(_ context.Context, count, days int) (control.Done, error) {
	if err := f.m.setSaveRetention(saveRetention{count, days}); err != nil {
		return control.Done{}, err
	}
	return control.Done{Message: fmt.Sprintf("%d saves are kept, for %d days (0: for ever)", count, days)}, nil
}

func stamp() string { return time.Now().UTC().Format("20060102T150405.000Z") }
