package lab

import (
	"container/heap"
	"net/netip"
	"testing"
	"time"
)

func TestMountPathsAreUnescaped(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain path", "/tmp/lab/ns/a", "/tmp/lab/ns/a"},
		{"space", `/tmp/my\040lab`, "/tmp/my lab"},
		{"backslash before digits", `/tmp/a\134040`, `/tmp/a\040`},
		{"cut short", `/tmp/a\04`, `/tmp/a\04`},
		{"not octal", `/tmp/a\zzz`, `/tmp/a\zzz`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := unescapeMount(tt.in); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFramesLeaveByDueTimeThenByArrival(t *testing.T) {
	var q frameQueue
	now := time.Now()
	for i, f := range []frame{{due: now.Add(2)}, {due: now}, {due: now}, {due: now.Add(1)}} {
		f.order = uint64(i)
		heap.Push(&q, f)
	}
	for _, want := range []uint64{1, 2, 3, 0} {
		if got := heap.Pop(&q).(frame).order; got != want {
			t.Errorf("got frame %d, want %d", got, want)
		}
	}
}

func TestOnlyAnAnswerToTheObserverCounts(t *testing.T) {
	vip := VirtualAddr.Addr()
	answer := arpRequest(vip)
	answer[21] = 2
	copy(answer[28:], vip.AsSlice())
	copy(answer[38:], observerAddr.Addr().AsSlice())
	change := func(fn func(f []byte)) []byte {
		f := append([]byte(nil), answer...)
		fn(f)
		return f
	}
	tests := []struct {
		name  string
		frame []byte
		want  bool
	}{
		{"the answer", answer, true},
		{"the request itself", arpRequest(vip), false},
		{"an answer for another address", change(func(f []byte) { f[31] = 51 }), false},
		{"a gratuitous reply, addressed to the address itself", change(func(f []byte) { copy(f[38:], vip.AsSlice()) }), false},
		{"another protocol", change(func(f []byte) { f[13] = 0 }), false},
		{"a short frame", answer[:41], false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := isReplyFor(tt.frame, vip); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzReply(f *testing.F) {
	f.Add(arpRequest(VirtualAddr.Addr()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, frame []byte) {
		if isReplyFor(frame, VirtualAddr.Addr()) && len(frame) < 42 {
			t.Errorf("a frame of %d bytes counted as an answer", len(frame))
		}
	})
}

func TestSecondPathHasItsOwnSubnet(t *testing.T) {
	if got := onPath(MasterAddr, 1); got != netip.MustParsePrefix("10.0.1.1/24") {
		t.Errorf("got %v", got)
	}
}
