package database

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
)

func TestCommandsHaveTheirEffectAndTheirErrors(t *testing.T) {
	s := openStore(t, "")
	for i, row := range []struct {
		name string
		body Body
		want error
	}{
		{"a unit is added", UnitAdd{"u", [32]byte{1}}, nil},
		{"it cannot be added again", UnitAdd{"u", [32]byte{2}}, ErrUnitExists},
		{"its secret can be replaced", UnitSecret{"u", [32]byte{3}}, nil},
		{"not that of an unknown unit", UnitSecret{"v", [32]byte{3}}, ErrUnknownUnit},
		{"an unknown unit cannot be removed", UnitRemove{"v"}, ErrUnknownUnit},
		{"another unit is added", UnitAdd{"w", [32]byte{4}}, nil},
		{"and removed", UnitRemove{"w"}, nil},
		{"and is then unknown", UnitRemove{"w"}, ErrUnknownUnit},
		{"a removed unit has no secret", UnitSecret{"w", [32]byte{}}, ErrUnknownUnit},
		{"a removed unit can be added again", UnitAdd{"w", [32]byte{5}}, nil},
		{"a user is put", UserPut{"anna", "hash1", 0}, nil},
		{"and changed", UserPut{"anna", "hash2", 1}, nil},
		{"another user", UserPut{"ben", "hash3", 0}, nil},
		{"is removed", UserRemove{"ben"}, nil},
		{"an unknown one cannot be", UserRemove{"ben"}, ErrUnknownUser},
		{"a setting is put", SettingPut{"a.k", "v1"}, nil},
		{"and changed", SettingPut{"a.k", "v2"}, nil},
		{"another setting", SettingPut{"b.k", "v"}, nil},
		{"is removed", SettingRemove{"b.k"}, nil},
		{"an unknown one cannot be", SettingRemove{"b.k"}, ErrUnknownSetting},
		{"a pool is named", PoolPut{"p"}, nil},
		{"the same again is harmless", PoolPut{"p"}, nil},
		{"another is refused", PoolPut{"q"}, ErrPoolSet},
		{"an event", EventAppend{Event{TimeMS: 5, Node: "n", Severity: "info", Category: "pool", Code: "c", Message: "m", Details: "{}"}}, nil},
		{"a changeover", ChangeoverAppend{6, "{}"}, nil},
	} {
		if r := must(t, s, cmd(uint64(i+1), row.body))[0]; !errors.Is(r.Err, row.want) || (r.Err == nil) != (row.want == nil) {
			t.Errorf("%s: %v, want %v", row.name, r.Err, row.want)
		}
		sound(t, s)
	}
	ctx := t.Context()
	units, err := s.Units(ctx)
	if err != nil || len(units) != 2 || units[0].Name != "u" || units[0].Secret != [32]byte{3} || units[1].Secret != [32]byte{5} {
		t.Errorf("units %+v, %v", units, err)
	}
	users, err := s.Users(ctx)
	if err != nil || !slices.Equal(users, []User{{"anna", "hash2", 1}}) {
		t.Errorf("users %+v, %v", users, err)
	}
	if settings, err := s.Settings(ctx, "a."); err != nil || !reflect.DeepEqual(settings, map[string]string{"a.k": "v2"}) {
		t.Errorf("settings %v, %v", settings, err)
	}
	if v, err := s.Setting(ctx, "a.k"); err != nil || v != "v2" {
		t.Errorf("setting %q, %v", v, err)
	}
	if _, err := s.Setting(ctx, "b.k"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed setting: %v", err)
	}
	if _, err := s.User(ctx, "ben"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed user: %v", err)
	}
	if u, err := s.User(ctx, "anna"); err != nil || u.Hash != "hash2" {
		t.Errorf("user: %v %v", u, err)
	}
	if c, err := s.Changeovers(ctx, 0); err != nil || len(c) != 1 || c[0].AtMS != 6 {
		t.Errorf("changeovers: %v %v", c, err)
	}
	if s.Pool() != "p" {
		t.Errorf("pool %q", s.Pool())
	}
	st, err := s.Stats(ctx)
	if err != nil || st.Units != 2 || st.Events != 1 || st.Changeovers != 1 || st.FileBytes == 0 {
		t.Errorf("figures %+v, %v", st, err)
	}
}

func TestEventsAreFiltered(t *testing.T) {
	s := openStore(t, "")
	for i := range 10 {
		sev := []string{"info", "warning"}[i%2]
		must(t, s, cmd(uint64(i+1), EventAppend{Event{TimeMS: int64(100 * i), Node: "n", Severity: sev, Category: "pool", Code: fmt.Sprint("c", i), Message: "message " + fmt.Sprint(i), Cause: "cause"}}))
	}
	for name, row := range map[string]struct {
		f    EventFilter
		want []int64
	}{
		"all, newest first":   {EventFilter{}, []int64{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
		"followed from an id": {EventFilter{AfterID: 7, Oldest: true}, []int64{8, 9, 10}},
		"by time":             {EventFilter{SinceMS: 300, UntilMS: 600}, []int64{6, 5, 4}},
		"by severity":         {EventFilter{Severity: "warning", Limit: 2}, []int64{10, 8}},
		"by text":             {EventFilter{Text: "sage 3"}, []int64{4}},
		"by code and node":    {EventFilter{Code: "c2", Node: "n", Category: "pool"}, []int64{3}},
		"nothing":             {EventFilter{Node: "other"}, nil},
	} {
		events, err := s.Events(t.Context(), row.f)
		var got []int64
		for _, e := range events {
			got = append(got, e.ID)
		}
		if err != nil || !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, row.want)
		}
	}
}

func TestEntriesBelowThePositionAreSkipped(t *testing.T) {
	s := openStore(t, "")
	entries := []Entry{entry(t, 3, cmd(1, UnitAdd{Name: "u"})), entry(t, 4, cmd(2, batch(record("u", 1, 1, 1)))), {Index: 6, Term: 2}}
	first, err := s.Apply(t.Context(), entries)
	if err != nil {
		t.Fatal(err)
	}
	if i, term := s.Applied(); i != 6 || term != 2 {
		t.Fatalf("position %d %d", i, term)
	}
	_, sum := s.Digest()
	again, err := s.Apply(t.Context(), append(entries, entry(t, 7, cmd(3, Canary{}))))
	if err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		if !again[i].Skipped || again[i].Index != entries[i].Index || !slices.Equal(again[i].Records, first[i].Records) {
			t.Errorf("entry %d: %+v, was %+v", i, again[i], first[i])
		}
	}
	if again[3].Skipped || again[3].Canary != 1 {
		t.Errorf("the new entry: %+v", again[3])
	}
	if d, ok := s.DigestAt(6); !ok || d != sum {
		t.Errorf("digest at 6: %v", ok)
	}
	if _, ok := s.DigestAt(8); ok {
		t.Error("a digest of the future")
	}
	if d0, ok := s.DigestAt(5); !ok || d0 != sum { // nothing happened after 4
		t.Errorf("digest at 5: %v", ok)
	}
	if d0, ok := s.DigestAt(3); !ok || d0 == sum {
		t.Errorf("digest at 3: %v", ok)
	}
}

func TestARepeatedCommandIsAppliedOnce(t *testing.T) {
	s := openStore(t, "")
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
	untimed := cmd(2, batch(record("u", 0, 0, 1), record("who", 0, 0, 1)))
	first := must(t, s, untimed)[0]
	for range 3 {
		r := must(t, s, untimed)[0]
		if !r.Repeat || !slices.Equal(r.Records, first.Records) {
			t.Fatalf("repeat %+v, first %+v", r, first)
		}
	}
	if r := must(t, s, cmd(1, UnitAdd{Name: "u"}))[0]; !r.Repeat || r.Err != nil {
		t.Errorf("repeated addition: %+v", r)
	}
	if n := query(t, s, "SELECT count(*) FROM sample")[0]; n != "1" {
		t.Errorf("%s rows", n)
	}
	// Out of order within the window is fine; beyond it the answer is "do not know".
	must(t, s, cmd(ResultWindow+2, Canary{}), cmd(ResultWindow+1, Canary{}))
	if r := must(t, s, cmd(2, Canary{}))[0]; !errors.Is(r.Err, ErrStale) {
		t.Errorf("too old: %+v", r)
	}
	if r := must(t, s, cmd(ResultWindow+1, Canary{}))[0]; !r.Repeat || r.Canary != 2 {
		t.Errorf("repeat in the window: %+v", r)
	}
	other := cmd(2, Canary{})
	other.Client = "other"
	if r := must(t, s, other)[0]; r.Repeat || r.Canary != 3 {
		t.Errorf("another client: %+v", r)
	}
	anonymous := Command{Body: Canary{}}
	if r := must(t, s, anonymous, anonymous)[1]; r.Repeat || r.Canary != 5 {
		t.Errorf("without a client: %+v", r)
	}
	sound(t, s)
}

func TestForgottenClientsAreTheSilentOnes(t *testing.T) {
	s := openStore(t, "")
	for i := range maxClients + 20 {
		c := cmd(1, Canary{})
		c.Client = fmt.Sprint("client", i)
		keep := cmd(uint64(i), Canary{})
		keep.Client = "busy"
		must(t, s, c, keep)
	}
	if n := query(t, s, "SELECT count(*), sum(name = 'busy'), sum(name = 'client0') FROM client")[0]; n != fmt.Sprintf("%d|1|0", maxClients) {
		t.Errorf("clients: %s", n)
	}
	sound(t, s)
}

func TestAnEntryThatCannotBeAppliedStopsTheNode(t *testing.T) {
	s := openStore(t, "")
	good := entry(t, 1, cmd(1, UnitAdd{Name: "u"}))
	damaged := entry(t, 2, cmd(2, Canary{}))
	damaged.Data[5] ^= 1
	for name, row := range map[string]struct {
		entries []Entry
		want    error
		index   uint64
	}{
		"damaged":         {[]Entry{good, damaged}, ErrChecksum, 2},
		"unknown kind":    {[]Entry{good, {Index: 2, Data: seal([]byte("\x01\x63\x00\x00\x00\x00"))}}, ErrKind, 2},
		"unknown version": {[]Entry{good, {Index: 2, Data: seal([]byte("\x09\x01\x00\x00\x00\x00"))}}, ErrVersion, 2},
		"not in order":    {[]Entry{good, good}, ErrInvalid, 1},
		"without index":   {[]Entry{{}}, ErrInvalid, 0},
	} {
		_, err := s.Apply(t.Context(), row.entries)
		var fatal *EntryError
		if !errors.Is(err, row.want) || !errors.As(err, &fatal) || fatal.Index != row.index {
			t.Errorf("%s: %v", name, err)
		}
	}
	if i, _ := s.Applied(); i != 0 {
		t.Errorf("index %d", i)
	}
	must(t, s, cmd(1, UnitAdd{Name: "u"}))
}

func TestPruneRemovesTheOldInSteps(t *testing.T) {
	s := openStore(t, "")
	const day = int64(24 * 3600 * 1000)
	at := func(seq uint64, ms int64, b Body) Command { return Command{Envelope{"c", seq, ms}, b} }
	must(t, s, at(1, 0, UnitAdd{Name: "u"}))
	n := uint64(1)
	add := func(received, source int64, seq uint64) {
		n++
		must(t, s, at(n, received, batch(record("u", seq, source, 1))))
	}
	for i := range int64(10) {
		add(i*day+1, i*day+1, uint64(i+1)) // one a day, clocks right
	}
	add(9*day, 5, 20)        // received late, or its clock is wrong: young by receipt
	add(2*day, 500*day, 21)  // clock far ahead: old by receipt
	add(2*day+5, 11*day, 22) // clock ahead of the moment of pruning by less than a day: stays
	must(t, s, at(n+1, day, EventAppend{Event{TimeMS: day, Code: "old"}}), at(n+2, 8*day, EventAppend{Event{TimeMS: 8 * day, Code: "young"}}))
	n += 2
	rounds, removed := 0, 0
	for more := true; more; rounds++ {
		n++
		r := must(t, s, at(n, 10*day+100, Prune{SamplesBeforeMS: 6 * day, EventsBeforeMS: 6 * day, Limit: 3}))[0]
		more, removed = r.More, removed+r.Removed
		sound(t, s)
		if rounds > 50 {
			t.Fatal("prune does not come to an end")
		}
	}
	if got := query(t, s, "SELECT seq FROM sample ORDER BY seq"); !slices.Equal(got, []string{"7", "8", "9", "10", "20", "22"}) {
		t.Errorf("left: %v", got)
	}
	if got := query(t, s, "SELECT code FROM event"); !slices.Equal(got, []string{"young"}) {
		t.Errorf("events left: %v", got)
	}
	if rounds < 3 || removed == 0 {
		t.Errorf("%d rounds, %d removed", rounds, removed)
	}
	if r := must(t, s, at(n+1, 500*day, Prune{SamplesBeforeMS: 499 * day, Limit: 1000}))[0]; r.More {
		t.Error("more after everything was removed")
	}
	if got := query(t, s, "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM stream), (SELECT count(*) FROM sample)"); got[0] != "0|0|0" {
		t.Errorf("left after all: %v", got)
	}
	if r := must(t, s, at(n+2, 500*day, batch(record("u", 1, 500*day, 1))))[0]; r.Records[0] != Stored {
		t.Errorf("after pruning: %v", r.Records)
	}
	sound(t, s)
}
