package pool

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A copied machine has the key, the member id and the log of the original. While the original
// lives, the copy is refused by both others, told why, and changes nothing.
func TestACopyOfALivingMemberIsRefused(t *testing.T) {
	tr := newTrio(t)
	twin := &node{t: t, name: "twin", dir: filepath.Join(t.TempDir(), "twin"), net: tr.net, timing: tr.b.timing, cert: tr.b.cert, fp: tr.b.fp, machine: newMemory()}
	tr.b.close() // a file that is being written cannot be copied whole
	if err := os.CopyFS(twin.dir, os.DirFS(tr.b.dir)); err != nil {
		t.Fatal(err)
	}
	tr.b.reopen()
	tr.waitProtected()
	rec, err := ReadRecord(twin.dir)
	if err != nil {
		t.Fatal(err)
	}
	twin.listen("127.0.0.1:0")
	twin.open(rec)
	defer twin.close()

	for _, by := range []*node{tr.m, tr.a} {
		id := by.pool.Record().Self
		tr.wait(by.name+" refuses the copy and says why", func() bool {
			return slices.ContainsFunc(twin.pool.State().Members, func(m MemberState) bool {
				return m.ID == id && strings.Contains(m.Failure, "is alive at")
			})
		})
	}
	tr.wait("the Master reports the copy", func() bool {
		tr.m.mu.Lock()
		defer tr.m.mu.Unlock()
		return slices.ContainsFunc(tr.m.events, func(e Event) bool { return e.Code == "member_cloned" })
	})
	if s := twin.pool.State(); s.Status == Primary {
		t.Errorf("the copy is %v", s.Status)
	}
	tr.waitProtected()
}

// The identity of a member whose process was replaced is not a copy: the new process is let in.
func TestARestartedMemberIsNotACopy(t *testing.T) {
	tr := newTrio(t)
	for range 3 {
		tr.b.close()
		tr.b.reopen()
		tr.waitProtected()
	}
	tr.m.mu.Lock()
	defer tr.m.mu.Unlock()
	if slices.ContainsFunc(tr.m.events, func(e Event) bool { return e.Code == "member_cloned" }) {
		t.Error("a restart was taken for a copy")
	}
}
