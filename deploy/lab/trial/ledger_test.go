package trial

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLedgerIsComparedWithWhatIsStored(t *testing.T) {
	acked := func(seqs ...uint64) map[string][]Acked {
		m := map[string][]Acked{}
		for _, s := range seqs {
			m["u"] = append(m["u"], Acked{Unit: "u", Seq: s, SentNS: int64(s) * 1e9, AckedNS: int64(s)*1e9 + 1})
		}
		return m
	}
	tests := []struct {
		name               string
		acked              map[string][]Acked
		since              time.Time
		out                string // of the islands query
		acknowledged, lost int
	}{
		{"all stored", acked(1, 2, 3), time.Time{}, "u|1|3\n", 3, 0},
		{"more stored than acknowledged is no loss", acked(1, 2), time.Time{}, "u|1|9\n", 2, 0},
		{"a hole is a loss", acked(1, 2, 3), time.Time{}, "u|1|1\nu|3|3\n", 3, 1},
		{"islands in any order", acked(1, 2, 5), time.Time{}, "u|5|5\nu|1|2\n", 3, 0},
		{"nothing stored: all lost", acked(1, 2), time.Time{}, "", 2, 2},
		{"another unit's records do not count", acked(1), time.Time{}, "v|1|1\n", 1, 1},
		{"acknowledged twice counts once", acked(4, 4), time.Time{}, "u|4|4\n", 1, 0},
		{"sent before the window: not asked for", acked(1, 2), time.Unix(2, 0), "u|2|2\n", 1, 0},
		{"a heading is passed over", acked(1), time.Time{}, "unit|min|max\nu|1|1\n", 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stored, err := parseIslands([]byte(tt.out))
			if err != nil {
				t.Fatal(err)
			}
			c := compare(tt.acked, tt.since, stored)
			if c.Acknowledged != tt.acknowledged || c.Lost != tt.lost {
				t.Errorf("acknowledged %d, lost %d; want %d, %d", c.Acknowledged, c.Lost, tt.acknowledged, tt.lost)
			}
		})
	}
	if _, err := parseIslands([]byte("u|1\n")); err == nil {
		t.Error("a line of two columns was accepted")
	}
}

func TestLedgerGrowsWhileItIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger")
	l := NewLedger(path)
	write := func(text string) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	read := func(want int) {
		t.Helper()
		if err := l.Read(); err != nil {
			t.Fatal(err)
		}
		if got := len(l.acked["u"]); got != want {
			t.Errorf("%d records, want %d", got, want)
		}
	}
	read(0) // no file yet
	write(`{"unit":"u","boot":"b","seq":1,"sent_ns":10,"acked_ns":20}` + "\n" + `{"unit":"u","seq":2,"sent`)
	read(1) // the second line is not complete
	write(`_ns":30,"acked_ns":40}` + "\n")
	read(2)
	if at := l.FirstAfter("u", time.Unix(0, 20)); at.UnixNano() != 40 {
		t.Errorf("first after 20 ns: %v", at)
	}
	if at := l.FirstAfter("u", time.Unix(0, 40)); !at.IsZero() {
		t.Errorf("first after the last: %v", at)
	}
	if d := silence(l, time.Unix(0, 0), time.Unix(0, 100)); d != 60 {
		t.Errorf("longest silence %v, want 60 ns", d)
	}
	write(`{"unit":"u","boot":"b","seq":3,"sent_ns":41,"acked_ns":50,"sends":2}` + "\n" + `{"unit":"u","boot":"b","seq":4,"sent_ns":42,"refused_ns":51,"reason":"0x97 quota"}` + "\n")
	read(3)
	if refused, resent := l.failures(time.Unix(0, 49)); refused != 1 || resent != 1 {
		t.Errorf("%d refused, %d sent again since 49 ns, want one each", refused, resent)
	}
	if refused, resent := l.failures(time.Unix(0, 51)); refused != 0 || resent != 0 {
		t.Errorf("%d refused, %d sent again since 51 ns, want none", refused, resent)
	}
	write("{}\n")
	if err := l.Read(); err == nil || !strings.Contains(err.Error(), "no unit") {
		t.Errorf("a line without a unit: got %v", err)
	}
}

func TestSpreadOfFigures(t *testing.T) {
	f := spread(Kill, "x", []float64{5, 1, 3, 2})
	if f.N != 4 || f.Min != 1 || f.Max != 5 || f.Median != 2.5 || f.P95 != 5 {
		t.Errorf("got %+v", f)
	}
	if f := spread(Kill, "x", []float64{7}); f.Median != 7 || f.P95 != 7 {
		t.Errorf("got %+v", f)
	}
}

func TestFaultsAreReadFromAList(t *testing.T) {
	got, err := ParseFaults("kill, poweroff")
	if err != nil || len(got) != 2 || got[1] != PowerOff {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := ParseFaults("kill,meteor"); err == nil || !strings.Contains(err.Error(), "meteor") {
		t.Errorf("got %v, want the unknown word", err)
	}
}

func TestStatusMustHaveRoleAndStatus(t *testing.T) {
	for _, bad := range []string{"", "[]", "{}", `{"role":"master"}`} {
		if _, err := parseStatus([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	s, err := parseStatus([]byte(`{"role":"master","status":"primary","health":"protected","members":[{"name":"b"}]}`))
	if err != nil || !s.Primary() || !s.Protected() || len(s.Members) != 1 {
		t.Errorf("got %+v, %v", s, err)
	}
}

func FuzzIslands(f *testing.F) {
	f.Add([]byte("u|1|3\n"))
	f.Add([]byte("u|18446744073709551615|0\n|||\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		stored, err := parseIslands(out)
		if err != nil {
			return
		}
		compare(map[string][]Acked{"u": {{Unit: "u", Seq: 1, AckedNS: 1}}}, time.Time{}, stored)
	})
}
