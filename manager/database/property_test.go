package database

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"redundancypool/fieldunit"
)

// genBody draws commands from few names and times, so that they meet each other often.
var genBody = rapid.Custom(func(t *rapid.T) Body {
	unit := rapid.SampledFrom([]string{"a", "b", "c"})
	small := rapid.Int64Range(0, 4)
	switch rapid.IntRange(0, 22).Draw(t, "kind") {
	case 21:
		return ReportPut{ReportKind(1 + small.Draw(t, "report")%2), unit.Draw(t, "key"), small.Draw(t, "at"), "{}"}
	case 22:
		b := Once{"ann", unit.Draw(t, "key"), [32]byte{byte(small.Draw(t, "sum") / 3)}, small.Draw(t, "expires"), "", nil}
		if small.Draw(t, "answered") > 1 {
			b.Answer = "{}"
		}
		return b
	case 0, 1:
		return UnitAdd{unit.Draw(t, "unit"), [32]byte{byte(small.Draw(t, "secret"))}}
	case 2:
		return UnitRemove{unit.Draw(t, "unit")}
	case 3:
		return UserPut{unit.Draw(t, "user"), fmt.Sprint(small.Draw(t, "hash")), 1}
	case 4:
		return UserRemove{unit.Draw(t, "user")}
	case 5:
		return SettingPut{unit.Draw(t, "key"), fmt.Sprint(small.Draw(t, "value"))}
	case 6:
		return SettingRemove{unit.Draw(t, "key")}
	case 7:
		return EventAppend{Event{TimeMS: small.Draw(t, "time"), Code: "c"}}
	case 8:
		return Canary{}
	case 9:
		return Prune{SamplesBeforeMS: small.Draw(t, "before"), EventsBeforeMS: small.Draw(t, "events"), Limit: uint64(1 + small.Draw(t, "limit"))}
	}
	return batch(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) fieldunit.Telemetry {
		r := record(unit.Draw(t, "unit"), uint64(small.Draw(t, "seq")), small.Draw(t, "ms"))
		r.Boot = unit.Draw(t, "boot")
		for _, tag := range rapid.SliceOfN(unit, 1, 4).Draw(t, "tags") {
			r.Readings = append(r.Readings, fieldunit.Reading{Tag: tag, Value: fieldunit.IntValue(small.Draw(t, "value")), Error: small.Draw(t, "error") / 4})
		}
		return r
	}), 1, 6).Draw(t, "records")...)
})

// node is one of the copies in the property test.
type node struct {
	s   *Store
	dir string
}

func TestNodesThatAppliedTheSameAreTheSame(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		bodies := rapid.SliceOfN(genBody, 1, 40).Draw(rt, "bodies")
		var entries []Entry
		index := uint64(0)
		for i, b := range bodies {
			index += rapid.Uint64Range(1, 3).Draw(rt, "gap")
			c := Command{Envelope{rapid.SampledFrom([]string{"x", "y", ""}).Draw(rt, "client"), uint64(i) - rapid.Uint64Range(0, min(uint64(i), 2)).Draw(rt, "repeat"), int64(i % 7)}, b}
			data, err := Encode(c)
			if err != nil {
				rt.Fatal(err)
			}
			entries = append(entries, Entry{Index: index, Term: 1 + uint64(i)/10, Data: data})
			if rapid.IntRange(0, 9).Draw(rt, "membership") == 0 {
				index++
				entries = append(entries, Entry{Index: index, Term: 1 + uint64(i)/10, Configuration: []byte{byte(i)}})
			}
		}
		nodes := make([]*node, 3)
		for i := range nodes {
			nodes[i] = newNode(rt)
			defer nodes[i].end()
		}
		reference := make([][]Outcome, len(entries)) // by entry, as the first node had it
		for k, n := range nodes {
			for from := 0; from < len(entries); {
				to := rapid.IntRange(from+1, len(entries)).Draw(rt, "batch")
				results, err := n.s.Apply(context.Background(), entries[from:to])
				if err != nil {
					rt.Fatal(err)
				}
				for i, r := range results {
					switch {
					case r.Skipped:
					case k == 0:
						reference[from+i] = r.Records
					case !slices.Equal(reference[from+i], r.Records):
						rt.Fatalf("entry %d: outcomes %v, elsewhere %v", entries[from+i].Index, r.Records, reference[from+i])
					}
				}
				from = to
				switch rapid.IntRange(0, 9).Draw(rt, "event") {
				case 0: // the log is replayed in part
					from = rapid.IntRange(0, from).Draw(rt, "replay")
				case 1:
					n.reopen(rt)
				case 2: // the content comes from another node, which may be behind or ahead
					donor := nodes[rapid.IntRange(0, k).Draw(rt, "donor")]
					if donor == n {
						continue
					}
					clone2(rt, donor.s, n.s)
					at, _ := n.s.Applied()
					from = slices.IndexFunc(entries, func(e Entry) bool { return e.Index > at })
					if from < 0 {
						from = len(entries)
					}
				}
			}
		}
		i0, d0 := nodes[0].s.Digest()
		for _, n := range nodes {
			if i, d := n.s.Digest(); i != i0 || d != d0 {
				rt.Fatalf("index %d and %d, digests equal: %v", i0, i, d == d0)
			}
			if _, ok, err := n.s.VerifyDigest(context.Background()); !ok || err != nil {
				rt.Fatalf("rows and digest: %v %v", ok, err)
			}
			c0, ci0 := nodes[0].s.Configuration()
			if c, ci := n.s.Configuration(); ci != ci0 || string(c) != string(c0) {
				rt.Fatalf("configuration %x at %d, elsewhere %x at %d", c, ci, c0, ci0)
			}
		}
	})
}

func newNode(rt *rapid.T) *node {
	dir, err := os.MkdirTemp("", "database-property")
	if err != nil {
		rt.Fatal(err)
	}
	n := &node{dir: dir}
	n.open(rt)
	return n
}

func (n *node) open(rt *rapid.T) {
	var err error
	if n.s, err = Open(context.Background(), Config{Dir: n.dir, CheckBytes: -1}); err != nil {
		rt.Fatal(err)
	}
}

func (n *node) reopen(rt *rapid.T) {
	if err := n.s.Close(); err != nil {
		rt.Fatal(err)
	}
	n.open(rt)
}

func (n *node) end() {
	_ = n.s.Close()
	_ = os.RemoveAll(n.dir)
}

// clone2 is clone for rapid's own T.
func clone2(rt *rapid.T, from, to *Store) {
	if err := copyTo(from, to, false); err != nil {
		rt.Fatal(err)
	}
	if err := to.Replace(context.Background()); err != nil {
		rt.Fatal(err)
	}
}
