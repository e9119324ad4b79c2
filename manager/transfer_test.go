package manager

import (
	"testing"
	"time"
)

func TestTransferTellsRateAndRest(t *testing.T) {
	now := time.Unix(0, 0)
	tr := newTransfer()
	tr.now = func() time.Time { return now }
	if _, begun := tr.view(); begun {
		t.Error("it has begun before the first byte")
	}
	tr.begin(1000)
	if p, begun := tr.view(); !begun || p.Left >= 0 || p.PerSecond != 0 {
		t.Errorf("at the beginning %+v", p)
	}
	for range 10 { // 10 bytes a second
		now = now.Add(time.Second)
		tr.add(10)
	}
	if p, _ := tr.view(); p.Done != 100 || p.PerSecond != 10 || p.Left != 90*time.Second {
		t.Errorf("after ten seconds %+v", p)
	}
	for range 30 { // then ten times as fast: what was long ago does not count
		now = now.Add(time.Second)
		tr.add(20)
	}
	if p, _ := tr.view(); p.Done != 700 || p.PerSecond != 20 || p.Left != 15*time.Second {
		t.Errorf("faster %+v", p)
	}
	tr.add(500) // the description in front counts too: never beyond the whole
	if p, _ := tr.view(); p.Done != 1000 || p.Left != 0 {
		t.Errorf("at the end %+v", p)
	}
	var none *transfer
	none.begin(1)
	none.add(1)
	if _, begun := none.view(); begun {
		t.Error("the nil transfer counts")
	}
}
