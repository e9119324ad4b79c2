package pool

import (
	"testing"
	"time"
)

func TestThreeFormAPoolAndTheBackupTakesOver(t *testing.T) {
	tr := newTrio(t)
	for _, s := range []string{"one", "two", "three"} {
		if err := write(tr.m, s); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	tr.m.close()
	tr.wait("Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary })
	t.Logf("Backup Primary %v after the close began", time.Since(began))
	if err := write(tr.b, "four"); err != nil {
		t.Fatal(err)
	}
	tr.m.reopen()
	tr.wait("protected again", func() bool { return tr.b.pool.State().Health == Protected && tr.m.pool.State().Health == Protected })
	tr.wait("the Master has all", func() bool { return len(tr.m.machine.texts()) == 4 })
	if c := tr.b.pool.State().Change; c == nil || c.Kind != "takeover" {
		t.Errorf("changeover %+v", c)
	} else {
		t.Logf("%+v", *c)
	}
}

func TestHandOverAndBack(t *testing.T) {
	tr := newTrio(t)
	steps := func(s string) { t.Log(s) }
	if err := tr.m.pool.HandOver(t.Context(), "test", steps); err != nil {
		t.Fatal(err)
	}
	tr.wait("Backup is Primary", func() bool { return tr.b.pool.State().Status == Primary && tr.b.pool.State().Health == Protected })
	if err := write(tr.b, "x"); err != nil {
		t.Fatal(err)
	}
	if err := tr.b.pool.HandOver(t.Context(), "test", steps); err != nil {
		t.Fatal(err)
	}
	tr.wait("Master is Primary", func() bool { return tr.m.pool.State().Status == Primary })
}
