package main

import (
	"context"
	"slices"
	"strings"
	"testing"

	"redundancypool/manager/control"
)

func (f *fakeManager) Replace(_ context.Context, q control.Replacement, step func(control.Step) error) (control.Done, error) {
	d, err := f.change(q.Yes, "replace %s %s %d %s %s", q.Member, q.Address, q.Port, q.Second, q.Pairing)
	if err == nil {
		err = step(control.Step{AtMS: 12, Code: "out", Text: "b is out"})
	}
	return d, err
}

func (f *fakeManager) Resync(_ context.Context, yes bool, _ func(control.Step) error) (control.Done, error) {
	return f.change(yes, "resync")
}

func (f *fakeManager) Partner(_ context.Context, member string, active, yes bool) (control.Done, error) {
	return f.change(yes, "partner %s %t", member, active)
}

func (f *fakeManager) ListSaves(context.Context) ([]control.Save, error) {
	return []control.Save{{Name: "a.db", Bytes: 5, Schema: 4, Units: 2, Samples: -1, Why: "asked for", Who: "ann"}}, f.err
}

func (f *fakeManager) DeleteSave(_ context.Context, name string, yes bool) (control.Done, error) {
	return f.change(yes, "delete %s", name)
}

func (f *fakeManager) KeepSaves(_ context.Context, count, days int) (control.Done, error) {
	return f.tell("keep %d %d", count, days)
}

func TestMembersAndSavesByCommand(t *testing.T) {
	ask := []control.Question{{Code: "x", Text: "It is taken out.", Word: "replace"}}
	for _, c := range []struct {
		args, input string
		told        string // empty: nothing
		out         string
	}{
		{"redundancy replace --member backup --address 10.0.0.9 --port 8100 --second 10.1.0.9 --pairing T --yes", "", "replace backup 10.0.0.9 8100 10.1.0.9 T", "    12 ms  b is out\ndone\n"},
		{"redundancy replace --member arbiter", "replace\n", "replace arbiter  0  ", "    12 ms  b is out\ndone\n"},
		{"redundancy replace --member arbiter", "no\n", "", ""},
		{"redundancy resync --yes", "", "resync", "done\n"},
		{"redundancy deactivate --member arbiter --yes", "", "partner arbiter false", "done\n"},
		{"redundancy activate --member backup", "", "partner backup true", "done\n"},
		{"redundancy deactivate --yes", "", "deactivate", "done\n"},
		{"database delete a.db --yes", "", "delete a.db", "done\n"},
		{"database keep --count 5 --days 30", "", "keep 5 30", "done\n"},
	} {
		m := &fakeManager{confirm: ask}
		_, out, errs := typed(m, c.input, true, append(strings.Fields(c.args), "--data", "x")...)
		want := []string{c.told}
		if c.told == "" {
			want = nil
		}
		if !slices.Equal(m.told, want) || out != c.out {
			t.Errorf("%s: told %q, out %q, err %q", c.args, m.told, out, errs)
		}
	}
	_, out, _ := typed(&fakeManager{}, "", false, "database", "list", "--data", "x")
	if !strings.Contains(out, "a.db") || !strings.Contains(out, "?") || !strings.Contains(out, "asked for") {
		t.Errorf("the list is %q", out)
	}
}
