package trial

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ledger is the units' own list of the records that were acknowledged or refused to them: one
// JSON object a line, as `fieldunit run --ledger` writes it.
type Ledger struct {
	files   []*ledgerFile
	acked   map[string][]Acked // by unit
	refused []Refused
}

// Acked is one acknowledged record.
type Acked struct {
	Unit    string `json:"unit"`
	Seq     uint64 `json:"seq"`
	SentNS  int64  `json:"sent_ns"`  // Unix time at which the unit sent it
	AckedNS int64  `json:"acked_ns"` // Unix time of the acknowledgement
	Sends   int    `json:"sends"`    // how often it was sent until then
}

// Refused is one record that the Manager answered with an error: a failed write.
type Refused struct {
	Unit      string `json:"unit"`
	Seq       uint64 `json:"seq"`
	RefusedNS int64  `json:"refused_ns"` // Unix time
	Reason    string `json:"reason"`
}

// NewLedger reads from a file that may not exist yet.
func NewLedger(path string) *Ledger {
	return &Ledger{files: []*ledgerFile{{path: path}}, acked: map[string][]Acked{}}
}

// ledgerFile is one file of a ledger, and how far it has been read. Each has one writer.
type ledgerFile struct {
	path   string
	offset int64
}

// Read takes in the lines that were added since; a last line that is not complete waits.
func (l *Ledger) Read() error {
	for _, f := range l.files {
		if err := l.read(f); err != nil {
			return err
		}
	}
	return nil
}

func (l *Ledger) read(from *ledgerFile) error {
	f, err := os.Open(from.path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(from.offset, io.SeekStart); err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	end := bytes.LastIndexByte(data, '\n') + 1
	for line := range bytes.Lines(data[:end]) {
		var a Acked
		var r Refused
		if err := errors.Join(json.Unmarshal(line, &a), json.Unmarshal(line, &r)); err != nil {
			return fmt.Errorf("ledger %s: %w in %q", from.path, err, line)
		}
		if r.Unit != "" && r.RefusedNS != 0 {
			l.refused = append(l.refused, r)
			continue
		}
		if a.Unit == "" || a.AckedNS == 0 {
			return fmt.Errorf("ledger %s: no unit or no time in %q", from.path, line)
		}
		l.acked[a.Unit] = append(l.acked[a.Unit], a)
	}
	from.offset += int64(end)
	return nil
}

// FirstAfter returns when a unit's first acknowledgement after t came, or the zero time.
func (l *Ledger) FirstAfter(unit string, t time.Time) time.Time {
	acked := l.acked[unit]
	var first int64
	for i := len(acked) - 1; i >= 0; i-- {
		// Acknowledgements of one unit come nearly in order: 10 s of slack ends the search.
		if acked[i].AckedNS < t.Add(-10*time.Second).UnixNano() {
			break
		}
		if ns := acked[i].AckedNS; ns > t.UnixNano() && (first == 0 || ns < first) {
			first = ns
		}
	}
	if first == 0 {
		return time.Time{}
	}
	return time.Unix(0, first)
}

// between returns the times of all acknowledgements, to any unit, between two moments.
func (l *Ledger) between(from, to time.Time) []int64 {
	var times []int64
	for _, acked := range l.acked {
		for _, a := range acked {
			if a.AckedNS > from.UnixNano() && a.AckedNS < to.UnixNano() {
				times = append(times, a.AckedNS)
			}
		}
	}
	return times
}

// failures returns how many records were refused since a moment, and how many of those acknowledged
// since then had been sent more than once: cut off before their answer, and sent again.
func (l *Ledger) failures(since time.Time) (refused, resent int) {
	for _, r := range l.refused {
		if r.RefusedNS > since.UnixNano() {
			refused++
		}
	}
	for _, acked := range l.acked {
		for _, a := range acked {
			if a.Sends > 1 && a.AckedNS > since.UnixNano() {
				resent++
			}
		}
	}
	return refused, resent
}

// Comparison is what became of acknowledged records in one Manager's database.
type Comparison struct {
	Host         string   `json:"host"`
	Acknowledged int      `json:"acknowledged"`
	Stored       int      `json:"stored"` // records with a sequence, acknowledged or not
	Lost         int      `json:"lost"`   // acknowledged and not stored
	Twice        int      `json:"twice"`  // readings stored more than once
	Examples     []string `json:"examples,omitempty"`
}

// Compare holds the units' ledgers against the database of each named Manager. since bounds it
// to records sent after it; the zero time takes all. A follower may have fallen behind a moment
// ago: what is missing is looked up three times more, each time once the pool is Protected, before
// it counts as lost.
func (p *Pool) Compare(ctx context.Context, since time.Time, hosts ...string) ([]Comparison, error) {
	if p.ledger == nil {
		return nil, errors.New("compare: no units were started")
	}
	if err := p.ledger.Read(); err != nil {
		return nil, err
	}
	var all []Comparison
	for _, host := range hosts {
		c, err := p.compareOne(ctx, since, host)
		for try := 0; try < 3 && err == nil && c.Lost > 0 && pause(ctx, 300*time.Millisecond); try++ {
			if werr := p.WaitProtected(ctx); werr != nil {
				c.note(werr.Error())
				break
			}
			c, err = p.compareOne(ctx, since, host)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func (p *Pool) compareOne(ctx context.Context, since time.Time, host string) (Comparison, error) {
	// A record may be older at its source than its acknowledgement by what it waited in a spool.
	where := "seq IS NOT NULL"
	if !since.IsZero() {
		where += fmt.Sprintf(" AND source_ms >= %d", since.Add(-time.Minute).UnixMilli())
	}
	out, err := p.command(ctx, host, "query", fmt.Sprintf(islandsQuery, where))
	if err != nil {
		return Comparison{}, fmt.Errorf("read what %s stored: %w", host, err)
	}
	stored, err := parseIslands(out)
	if err != nil {
		return Comparison{}, fmt.Errorf("read what %s stored: %w", host, err)
	}
	out, err = p.command(ctx, host, "query", fmt.Sprintf(twiceQuery, where))
	if err != nil {
		return Comparison{}, fmt.Errorf("look for doubles on %s: %w", host, err)
	}
	c := compare(p.ledger.acked, since, stored)
	c.Host = host
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line != "" {
			c.Twice++
			c.note("twice: " + line)
		}
	}
	return c, nil
}

// islandsQuery yields runs of consecutive sequences per unit, so that a million records are a
// few lines. twiceQuery yields each reading that has more than one row.
const (
	islandsQuery = `SELECT unit, min(seq), max(seq) FROM (
	SELECT unit, seq, seq - row_number() OVER (PARTITION BY unit ORDER BY seq) AS island
	FROM (SELECT DISTINCT unit, seq FROM sample WHERE %s)) GROUP BY unit, island ORDER BY unit, 2`
	twiceQuery = `SELECT unit, seq, node, group_name, tag, count(*) FROM sample WHERE %s
	GROUP BY 1, 2, 3, 4, 5 HAVING count(*) > 1`
)

// island is a run of consecutive sequences, both ends included.
type island struct{ from, to uint64 }

func parseIslands(out []byte) (map[string][]island, error) {
	stored := map[string][]island{}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		f := strings.Split(line, "|")
		if len(f) != 3 {
			return nil, fmt.Errorf("line %q does not have three columns", line)
		}
		from, err := strconv.ParseUint(strings.TrimSpace(f[1]), 10, 64)
		if err != nil {
			continue // a heading
		}
		to, err := strconv.ParseUint(strings.TrimSpace(f[2]), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		unit := strings.TrimSpace(f[0])
		stored[unit] = append(stored[unit], island{from, to})
	}
	for _, islands := range stored {
		slices.SortFunc(islands, func(a, b island) int { return cmp.Compare(a.from, b.from) })
	}
	return stored, nil
}

// compare counts the acknowledged records that no island holds.
func compare(acked map[string][]Acked, since time.Time, stored map[string][]island) Comparison {
	var c Comparison
	for _, islands := range stored {
		for _, i := range islands {
			c.Stored += int(i.to - i.from + 1)
		}
	}
	for unit, records := range acked {
		seen := map[uint64]bool{}
		for _, a := range records {
			if seen[a.Seq] || a.SentNS < since.UnixNano() && !since.IsZero() {
				continue
			}
			seen[a.Seq] = true
			c.Acknowledged++
			if !holds(stored[unit], a.Seq) {
				c.Lost++
				c.note(fmt.Sprintf("lost: %s seq %d, acknowledged at %s", unit, a.Seq,
					time.Unix(0, a.AckedNS).UTC().Format("15:04:05.000000")))
			}
		}
	}
	return c
}

// note keeps the first findings.
func (c *Comparison) note(text string) {
	if len(c.Examples) < 4 {
		c.Examples = append(c.Examples, text)
	}
}

// holds looks a sequence up; islands are in order.
func holds(islands []island, seq uint64) bool {
	_, found := slices.BinarySearchFunc(islands, seq, func(i island, seq uint64) int {
		switch {
		case seq < i.from:
			return 1
		case seq > i.to:
			return -1
		}
		return 0
	})
	return found
}
