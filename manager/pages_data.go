package manager

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"redundancypool/web"
)

// mostSaves is how many saved copies are kept; the oldest go first.
const mostSaves = 20

// Saves implements web.Data.
func (d desk) Saves(context.Context) ([]web.Save, error) {
	list, err := os.ReadDir(d.m.savesDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []web.Save
	for _, f := range list {
		if info, err := f.Info(); err == nil && info.Mode().IsRegular() && strings.HasSuffix(f.Name(), ".db") {
			out = append(out, web.Save{Name: f.Name(), Bytes: info.Size(), At: info.ModTime().UTC()})
		}
	}
	slices.SortFunc(out, func(a, b web.Save) int { return b.At.Compare(a.At) })
	return out, nil
}

// Save implements web.Data.
func (d desk) Save(ctx context.Context) (string, error) {
	if err := os.MkdirAll(d.m.savesDir(), 0o700); err != nil {
		return "", err
	}
	name := "by-hand-" + time.Now().UTC().Format("20060102T150405.000Z") + ".db"
	text, err := said(d.faces().SaveDatabase(ctx, filepath.Join(d.m.savesDir(), name)))
	if err == nil {
		d.prune(ctx)
	}
	return text, err
}

// prune removes the oldest saves beyond mostSaves.
func (d desk) prune(ctx context.Context) {
	all, err := d.Saves(ctx)
	for i := mostSaves; err == nil && i < len(all); i++ {
		err = os.Remove(filepath.Join(d.m.savesDir(), all[i].Name))
	}
	if err != nil {
		d.m.log.Warn("remove old saves", "error", err)
	}
}

// SavePath implements web.Data.
func (d desk) SavePath(name string) (string, error) {
	all, err := d.Saves(context.Background())
	if err != nil {
		return "", err
	}
	for _, s := range all {
		if s.Name == name {
			return filepath.Join(d.m.savesDir(), s.Name), nil
		}
	}
	return "", &web.Problem{Code: "unknown", Message: "there is no such save", Fix: "choose one of the list"}
}

// Restore implements web.Data.
func (d desk) Restore(ctx context.Context, name string, yes bool) (string, error) {
	file, err := d.SavePath(name)
	if err != nil {
		return "", err
	}
	return said(d.faces().RestoreDatabase(ctx, file, yes))
}

// Units implements web.Operations.
func (d desk) Units(ctx context.Context) ([]web.Unit, error) {
	list, err := d.faces().ListUnits(ctx)
	if err != nil {
		return nil, pageError(err)
	}
	out := make([]web.Unit, 0, len(list))
	for _, u := range list {
		w := web.Unit{Name: u.Name, Connected: u.Connected, NoSecret: u.NoSecret}
		if u.LastSeenMS > 0 {
			w.LastSeen = time.UnixMilli(u.LastSeenMS)
		}
		out = append(out, w)
	}
	return out, nil
}

// AddUnit implements web.Operations.
func (d desk) AddUnit(ctx context.Context, name string) (string, error) {
	p, err := d.faces().AddUnit(ctx, name)
	return string(p), pageError(err)
}

// RemoveUnit implements web.Operations.
func (d desk) RemoveUnit(ctx context.Context, name string, yes bool) (string, error) {
	return said(d.faces().RemoveUnit(ctx, name, yes))
}
