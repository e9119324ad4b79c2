package control

import (
	"context"
	"slices"
	"testing"
)

func (f *fakeManager) ListSaves(context.Context) ([]Save, error) {
	f.tell("list saves")
	return []Save{{Name: "a.db", Bytes: 5, Samples: -1}}, f.err
}

func (f *fakeManager) DeleteSave(_ context.Context, name string, yes bool) (Done, error) {
	return f.tell("delete %s %t", name, yes)
}

func (f *fakeManager) KeepSaves(_ context.Context, count, days int) (Done, error) {
	return f.tell("keep %d %d", count, days)
}

func TestSaveOperationsArrive(t *testing.T) {
	dir, m := t.TempDir(), &fakeManager{}
	serve(t, dir, ManagerOps(m))
	r, ctx := NewRemote(dir), patience(t)
	all, err := r.ListSaves(ctx)
	if err != nil || len(all) != 1 || all[0] != (Save{Name: "a.db", Bytes: 5, Samples: -1}) {
		t.Errorf("%+v %v", all, err)
	}
	if _, err := r.DeleteSave(ctx, "a.db", true); err != nil {
		t.Error(err)
	}
	if _, err := r.KeepSaves(ctx, 5, 30); err != nil {
		t.Error(err)
	}
	if want := []string{"list saves", "delete a.db true", "keep 5 30"}; !slices.Equal(m.told, want) {
		t.Errorf("told %q", m.told)
	}
}
