package control

import (
	"context"
	"slices"
	"testing"
)

func (f *fakeManager) Replace(_ context.Context, q Replacement, step func(Step) error) (Done, error) {
	if err := step(Step{Code: "out"}); err != nil {
		return Done{}, err
	}
	return f.tell("replace %+v", q)
}

func (f *fakeManager) Resync(_ context.Context, yes bool, step func(Step) error) (Done, error) {
	if err := step(Step{Code: "hold"}); err != nil {
		return Done{}, err
	}
	return f.tell("resync %t", yes)
}

func (f *fakeManager) Partner(_ context.Context, member string, active, yes bool) (Done, error) {
	return f.tell("partner %s %t %t", member, active, yes)
}

func TestMemberOperationsArrive(t *testing.T) {
	dir, m := t.TempDir(), &fakeManager{}
	serve(t, dir, ManagerOps(m))
	r, ctx := NewRemote(dir), patience(t)
	var said []string
	step := func(s Step) error { said = append(said, s.Code); return nil }
	for _, do := range []func() (Done, error){
		func() (Done, error) {
			return r.Replace(ctx, Replacement{Member: "backup", Address: "10.0.0.9", Port: 8100, Pairing: "P", Yes: true}, step)
		},
		func() (Done, error) { return r.Resync(ctx, true, step) },
		func() (Done, error) { return r.Partner(ctx, "arbiter", false, true) },
	} {
		if d, err := do(); err != nil || d.Message != "done" {
			t.Errorf("%+v %v", d, err)
		}
	}
	want := []string{"replace {Member:backup Address:10.0.0.9 Port:8100 Second: Pairing:P Yes:true}", "resync true", "partner arbiter false true"}
	if !slices.Equal(m.told, want) || !slices.Equal(said, []string{"out", "hold"}) {
		t.Errorf("told %q, steps %q", m.told, said)
	}
}
