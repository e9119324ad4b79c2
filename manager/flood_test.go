package manager

import (
	"testing"
	"time"
)

func TestOneKindOfEventCannotDrownTheOthers(t *testing.T) {
	var f flood
	now := time.Unix(1_700_000_000, 0)
	kept := 0
	for range 1000 {
		if ok, _ := f.admit("refused", now); ok {
			kept++
		}
	}
	if kept != floodBurst {
		t.Errorf("%d of 1000 at once are kept, want %d", kept, floodBurst)
	}
	if ok, dropped := f.admit("vip_lost", now); !ok || dropped != 0 {
		t.Error("another kind is not kept")
	}
	now = now.Add(time.Second)
	if ok, dropped := f.admit("refused", now); !ok || dropped != 1000-floodBurst {
		t.Errorf("a second later: kept %v, %d dropped before; want true, %d", ok, dropped, 1000-floodBurst)
	}
	if ok, dropped := f.admit("refused", now); !ok || dropped != 0 {
		t.Errorf("the dropped ones are counted twice: %v, %d", ok, dropped)
	}
	if ok, _ := f.admit("refused", now); ok {
		t.Errorf("more than %d a second are kept", floodRate)
	}
}
