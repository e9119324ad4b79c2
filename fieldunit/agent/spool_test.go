package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"redundancypool/fieldunit"
)

func openSpool(t testing.TB, c SpoolConfig) *Spool {
	t.Helper()
	if c.Unit == "" {
		c.Unit = "u1"
	}
	s, err := OpenSpool(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, s *Spool, n int) {
	t.Helper()
	for i := range n {
		if err := s.Append(telemetry(i, 10)); err != nil {
			t.Fatal(err)
		}
	}
}

func telemetry(i, size int) fieldunit.Telemetry {
	return fieldunit.Telemetry{SourceMS: 5, Readings: []fieldunit.Reading{
		{Tag: "n", Value: fieldunit.IntValue(int64(i))}, {Tag: "text", Value: fieldunit.TextValue(strings.Repeat("x", size))}}}
}

// keys lists what waits as boot/seq.
func keys(s *Spool) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Record
	for _, r := range s.list {
		if !r.done {
			out = append(out, Record{Boot: r.Boot, Seq: r.Seq, Payload: r.Payload})
		}
	}
	return out
}

func same(a, b []Record) bool {
	return slices.EqualFunc(a, b, func(x, y Record) bool {
		return x.Boot == y.Boot && x.Seq == y.Seq && bytes.Equal(x.Payload, y.Payload)
	})
}

// crash lets go of the spool as the end of the process does: nothing is synced or noted.
func crash(s *Spool) {
	close(s.stop)
	s.wg.Wait()
	s.closed = true
	_ = s.disk.f.Close()
	_ = s.disk.mark.Close()
	_ = s.disk.lock.Close()
}

func TestSpoolSurvivesTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, SpoolConfig{Dir: dir})
	put(t, s, 100)
	for range 30 {
		r, _, _ := s.at(0)
		s.Done(r)
	}
	third, _, _ := s.at(s.first + 2)
	s.Done(third) // out of order: may come again
	want := keys(s)
	crash(s)

	s = openSpool(t, SpoolConfig{Dir: dir})
	got := keys(s)
	if len(got) != 70 || got[0].Seq != 31 || got[2].Seq != 33 {
		t.Fatalf("%d records from seq %d", len(got), got[0].Seq)
	}
	if !same(slices.Delete(got, 2, 3), want) {
		t.Error("records changed their key or payload")
	}
	put(t, s, 1)
	if last := keys(s)[70]; last.Boot == want[0].Boot || last.Seq != 1 {
		t.Errorf("the new start's record has boot %s, seq %d", last.Boot, last.Seq)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = openSpool(t, SpoolConfig{Dir: dir}); len(keys(s)) != 71 {
		t.Errorf("%d records after a clean end", len(keys(s)))
	}
}

func TestSpoolRemovesFilesThatAreDone(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, SpoolConfig{Dir: dir, MaxBytes: 1 << 20})
	for round := range 5 {
		for i := range 60 {
			if err := s.Append(telemetry(i, 10000)); err != nil {
				t.Fatal(err)
			}
		}
		for range 60 {
			r, _, _ := s.at(0)
			s.Done(r)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*.spool"))
		if len(files) > 1 {
			t.Fatalf("round %d: %d segments are left", round, len(files))
		}
	}
	crash(s)
	if s = openSpool(t, SpoolConfig{Dir: dir}); len(keys(s)) != 0 {
		t.Errorf("%d acknowledged records came back", len(keys(s)))
	}
	put(t, s, 2)
	crash(s)
	if s = openSpool(t, SpoolConfig{Dir: dir}); len(keys(s)) != 2 {
		t.Errorf("%d records, want 2", len(keys(s)))
	}
}

func TestFullSpool(t *testing.T) {
	t.Run("refuses with a clear error and takes again when there is room", func(t *testing.T) {
		s := openSpool(t, SpoolConfig{MaxBytes: 1 << 20})
		var err error
		n := 0
		for ; err == nil; n++ {
			err = s.Append(telemetry(n, 10000))
		}
		if !errors.Is(err, ErrFull) || n < 90 {
			t.Fatalf("after %d: %v", n, err)
		}
		r, _, _ := s.at(0)
		s.Done(r)
		put(t, s, 1)
		if k := keys(s); k[len(k)-1].Seq != uint64(n) {
			t.Errorf("a refused record took a number: last is %d after %d", k[len(k)-1].Seq, n)
		}
	})
	t.Run("drops the oldest and counts them", func(t *testing.T) {
		dir := t.TempDir()
		s := openSpool(t, SpoolConfig{Dir: dir, MaxBytes: 1 << 20, DropOldest: true})
		for i := range 300 {
			if err := s.Append(telemetry(i, 10000)); err != nil {
				t.Fatal(err)
			}
		}
		waiting, dropped := s.Len()
		if waiting+int(dropped) != 300 || waiting < 90 || keys(s)[0].Seq != dropped+1 {
			t.Errorf("%d wait, %d dropped, first is %d", waiting, dropped, keys(s)[0].Seq)
		}
		var size int64
		files, _ := filepath.Glob(filepath.Join(dir, "*.spool"))
		for _, f := range files {
			st, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			size += st.Size()
		}
		if size > 1<<20+2*segmentSize(1<<20) {
			t.Errorf("%d bytes on disk", size)
		}
		want := keys(s)
		crash(s)
		if s = openSpool(t, SpoolConfig{Dir: dir}); !same(keys(s), want) {
			t.Errorf("%d records after the crash, want %d", len(keys(s)), len(want))
		}
	})
}

func TestDamagedSpool(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(b []byte) []byte
		left   int
	}{
		{"cut inside the last frame", func(b []byte) []byte { return b[:len(b)-3] }, 9},
		{"cut inside a frame's head", func(b []byte) []byte { return append(b, 1, 2, 3) }, 10},
		{"a flipped bit in the last frame", func(b []byte) []byte { b[len(b)-2] ^= 4; return b }, 9},
		{"zeros at the end, as after a power cut", func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, 10},
		{"an absurd length", func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0) }, 10},
		{"another file's content", func([]byte) []byte { return []byte("hello, world") }, 0},
		{"empty", func([]byte) []byte { return nil }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openSpool(t, SpoolConfig{Dir: dir})
			put(t, s, 10)
			want := keys(s)
			crash(s)
			file := filepath.Join(dir, "0000000000000000.spool")
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, tt.damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			s = openSpool(t, SpoolConfig{Dir: dir})
			if got := keys(s); !same(got, want[:tt.left]) {
				t.Fatalf("%d records, want %d", len(got), tt.left)
			}
			put(t, s, 5)
			want = keys(s)
			crash(s)
			if s = openSpool(t, SpoolConfig{Dir: dir}); !same(keys(s), want) {
				t.Errorf("what followed the damage: %d records, want %d", len(keys(s)), len(want))
			}
		})
	}
	t.Run("a damaged mark sends everything again", func(t *testing.T) {
		dir := t.TempDir()
		s := openSpool(t, SpoolConfig{Dir: dir})
		put(t, s, 10)
		r, _, _ := s.at(0)
		s.Done(r)
		crash(s)
		if err := os.WriteFile(filepath.Join(dir, "acknowledged"), []byte("nonsense....."), 0o600); err != nil {
			t.Fatal(err)
		}
		if s = openSpool(t, SpoolConfig{Dir: dir}); len(keys(s)) != 10 {
			t.Errorf("%d records", len(keys(s)))
		}
	})
	t.Run("foreign files are left alone", func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"x.spool", "ffffffffffffffff.spool"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(segmentMagic), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := openSpool(t, SpoolConfig{Dir: dir})
		put(t, s, 1)
	})
}

func TestSpoolBelongsToOneUnitAndOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := openSpool(t, SpoolConfig{Dir: dir})
	if _, err := OpenSpool(SpoolConfig{Dir: dir, Unit: "u1"}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("opened twice: %v", err)
	}
	_ = s.Close()
	if _, err := OpenSpool(SpoolConfig{Dir: dir, Unit: "u2"}); err == nil || !strings.Contains(err.Error(), `belongs to unit "u1"`) {
		t.Errorf("opened for another unit: %v", err)
	}
	if _, err := OpenSpool(SpoolConfig{Dir: dir, Unit: "u1", MaxBytes: 5}); err == nil {
		t.Error("opened with 5 bytes")
	}
	if err := s.Append(telemetry(1, 1)); err == nil {
		t.Error("appended to a closed spool")
	}
}

func TestSpoolRefusesWhatTheManagerWould(t *testing.T) {
	s := openSpool(t, SpoolConfig{})
	var pe *fieldunit.PayloadError
	if err := s.Append(fieldunit.Telemetry{}); !errors.As(err, &pe) {
		t.Errorf("%v", err)
	}
	put(t, s, 1)
	if k := keys(s); k[0].Seq != 1 {
		t.Errorf("seq %d", k[0].Seq)
	}
}

func FuzzSegment(f *testing.F) {
	good := []byte(segmentMagic)
	good = appendFrame(good, &Record{Boot: "b", Seq: 1, Payload: []byte(`{"values":{"a":1}}`)})
	f.Add(appendFrame(good, &Record{Boot: "b", Seq: 2, Payload: []byte(`{}`)}))
	f.Add(good[:len(good)-1])
	f.Add([]byte(segmentMagic + "\x09\x00\x00\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, bad := readFrames(bytes.NewReader(b), 7)
		again := []byte(segmentMagic)
		for i, r := range list {
			if r.place != uint64(7+i) {
				t.Fatalf("record %d has place %d", i, r.place)
			}
			again = appendFrame(again, r)
		}
		if bad == nil && !bytes.Equal(again, b) {
			t.Fatalf("%x was read as whole, but is %x", b, again)
		}
		if len(list) > 0 && !bytes.HasPrefix(b, again) {
			t.Fatal("records that were not there")
		}
	})
}
