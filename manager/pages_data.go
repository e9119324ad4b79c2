package manager

import (
	"context"
	"io"
	"path/filepath"
	"time"

	"redundancypool/web"
)

// Saves implements web.Data.
func (d desk) Saves(context.Context) ([]web.Save, error) {
	all, err := d.m.listSaves()
	out := make([]web.Save, 0, len(all))
	for _, s := range all {
		n := s.Note
		out = append(out, web.Save{Name: s.Name, Bytes: s.Bytes, At: s.At, Why: n.Why, Who: n.Who, Schema: n.Schema, Units: n.Units, Events: n.Events, Samples: n.Samples})
	}
	return out, err
}

// Save implements web.Data.
func (d desk) Save(ctx context.Context, who string) (string, error) {
	e, err := d.faces().openDatabase(ctx)
	if err != nil {
		return "", pageError(err)
	}
	file, err := d.m.saveAs(ctx, e, "by-hand", "asked for", who)
	return "saved as " + filepath.Base(file), err
}

// SavePath implements web.Data.
func (d desk) SavePath(name string) (string, error) {
	file, err := d.m.savePath(name)
	return file, pageError(err)
}

// Restore implements web.Data.
func (d desk) Restore(ctx context.Context, name string, yes bool) (string, error) {
	file, err := d.SavePath(name)
	if err != nil {
		return "", err
	}
	return said(d.faces().RestoreDatabase(ctx, file, yes))
}

// DeleteSave implements web.Data.
func (d desk) DeleteSave(ctx context.Context, name string, yes bool) (string, error) {
	return said(d.faces().DeleteSave(ctx, name, yes))
}

// Upload implements web.Data.
func (d desk) Upload(ctx context.Context, who, name string, body io.Reader) (string, error) {
	text, err := d.m.takeIn(ctx, who, name, body)
	return text, pageError(err)
}

// SavesKept implements web.Data.
func (d desk) SavesKept() web.Retention { return web.Retention(d.m.saveRetention()) }

// KeepSaves implements web.Data.
func (d desk) KeepSaves(_ context.Context, r web.Retention) (string, error) {
	if err := d.m.setSaveRetention(saveRetention(r)); err != nil {
		return "", pageError(err)
	}
	return "stored", nil
}

// Exports implements web.Data.
func (d desk) Exports() ([]web.Export, error) {
	all, err := d.m.listBeyond()
	out := make([]web.Export, 0, len(all))
	for _, x := range all {
		out = append(out, web.Export(x))
	}
	return out, err
}

// ExportPath implements web.Data.
func (d desk) ExportPath(name string) (string, error) {
	all, err := d.m.listBeyond()
	if err != nil {
		return "", err
	}
	for _, x := range all {
		if x.Name == name {
			return filepath.Join(d.m.beyondDir(), x.Name), nil
		}
	}
	return "", &web.Problem{Code: "unknown", Message: "there is no such export", Fix: "choose one of the list"}
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
