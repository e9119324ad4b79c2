package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"redundancypool/fieldunit/agent"
)

// records keeps what happened, for the ledger, the report and --json.
type records struct {
	out  io.Writer
	json bool

	mu     sync.Mutex
	file   *os.File
	buf    *bufio.Writer
	failed error
	units  map[string]*history
	order  []string
	stop   chan struct{}
	wg     sync.WaitGroup
}

// maxOutages bounds the memory of a unit that runs for years.
const maxOutages = 1000

// history is one unit's part of the report.
type history struct {
	Unit      string   `json:"unit"`
	Boot      string   `json:"boot"`
	Stored    uint64   `json:"acknowledged"`
	Waiting   int      `json:"waiting"`
	Dropped   uint64   `json:"dropped"`
	Rejected  uint64   `json:"rejected"`
	Connects  uint64   `json:"connections"`
	Outages   []outage `json:"outages"`                  // the latest maxOutages
	Forgotten uint64   `json:"outages_before,omitempty"` // how many older ones there were
	MaxAckMS  float64  `json:"max_ack_ms"`               // longest from first sending to acknowledgement

	lastAck time.Time
}

// outage is one loss of the connection, in Unix nanoseconds. GapMS is the time without
// acknowledgements: from the last one before to the first one after.
type outage struct {
	LostNS      int64   `json:"lost_ns"`
	Reason      string  `json:"reason"`
	ConnectedNS int64   `json:"connected_ns,omitempty"`
	FirstAckNS  int64   `json:"first_ack_ns,omitempty"`
	LastAckNS   int64   `json:"last_ack_before_ns,omitempty"`
	GapMS       float64 `json:"gap_ms,omitempty"`
}

type summary struct {
	Event string     `json:"event"`
	AtNS  int64      `json:"at_ns"`
	Units []*history `json:"units"`
}

type line struct {
	Event  string `json:"event"`
	Unit   string `json:"unit"`
	AtNS   int64  `json:"at_ns"`
	Reason string `json:"reason,omitempty"`
	Boot   string `json:"boot,omitempty"`
	Seq    uint64 `json:"seq,omitempty"`
}

func newRecords(out io.Writer, asJSON bool) *records {
	return &records{out: out, json: asJSON, units: make(map[string]*history)}
}

func (r *records) add(unit string) {
	r.units[unit] = &history{Unit: unit, Outages: []outage{}}
	r.order = append(r.order, unit)
}

// openLedger appends to the file, so that a restarted unit goes on in the same one. Lines reach
// the file ten times a second and at the end.
func (r *records) openLedger(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("--ledger: %w", err)
	}
	r.file, r.buf, r.stop = f, bufio.NewWriterSize(f, 64<<10), make(chan struct{})
	r.wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-r.stop:
				return
			case <-tick.C:
				r.mu.Lock()
				r.keep(r.buf.Flush())
				r.mu.Unlock()
			}
		}
	})
	return nil
}

func (r *records) keep(err error) {
	if r.failed == nil && err != nil {
		r.failed = fmt.Errorf("--ledger: %w", err)
	}
}

func (r *records) closeLedger() error {
	close(r.stop)
	r.wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(r.buf.Flush())
	r.keep(r.file.Close())
	return r.failed
}

func (r *records) stored(unit string, rec *agent.Record, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.units[unit]
	if n := len(h.Outages); n > 0 && h.Outages[n-1].FirstAckNS == 0 {
		o := &h.Outages[n-1]
		o.FirstAckNS = at.UnixNano()
		if !h.lastAck.IsZero() {
			o.GapMS = float64(at.Sub(h.lastAck).Microseconds()) / 1000
		}
		r.event(line{Event: "first_ack", Unit: unit, AtNS: at.UnixNano(), Boot: rec.Boot, Seq: rec.Seq})
	}
	h.Stored++
	h.lastAck = at
	h.MaxAckMS = max(h.MaxAckMS, float64(at.UnixNano()-rec.SentNS)/1e6)
	if r.buf != nil {
		_, err := fmt.Fprintf(r.buf, "{\"unit\":%q,\"boot\":%q,\"seq\":%d,\"sent_ns\":%d,\"acked_ns\":%d,\"sends\":%d}\n", unit, rec.Boot, rec.Seq, rec.SentNS, at.UnixNano(), rec.Sends)
		r.keep(err)
	}
}

func (r *records) rejected(unit string, rec *agent.Record, code byte, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, why := time.Now().UnixNano(), fmt.Sprintf("%#02x %s", code, reason)
	r.event(line{Event: "rejected", Unit: unit, AtNS: now, Boot: rec.Boot, Seq: rec.Seq, Reason: why})
	if r.buf != nil {
		_, err := fmt.Fprintf(r.buf, "{\"unit\":%q,\"boot\":%q,\"seq\":%d,\"sent_ns\":%d,\"refused_ns\":%d,\"reason\":%q}\n", unit, rec.Boot, rec.Seq, rec.SentNS, now, why)
		r.keep(err)
	}
}

func (r *records) changed(unit string, c agent.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.units[unit]
	e := line{Event: "disconnected", Unit: unit, AtNS: c.At.UnixNano(), Reason: c.Reason}
	n := len(h.Outages)
	if c.Connected {
		e.Event = "connected"
		h.Connects++
		if n > 0 && h.Outages[n-1].ConnectedNS == 0 {
			h.Outages[n-1].ConnectedNS = e.AtNS
		}
	} else if c.Reason == "" {
		e.Reason = "ended by this side"
	} else if n == 0 || h.Outages[n-1].FirstAckNS != 0 {
		o := outage{LostNS: e.AtNS, Reason: c.Reason}
		if !h.lastAck.IsZero() {
			o.LastAckNS = h.lastAck.UnixNano()
		}
		if n == maxOutages {
			h.Outages = slices.Delete(h.Outages, 0, 1)
			h.Forgotten++
		}
		h.Outages = append(h.Outages, o)
	}
	r.event(e)
}

func (r *records) summary(units []*unit) summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := summary{Event: "summary", AtNS: time.Now().UnixNano()}
	for _, u := range units {
		h := r.units[u.name]
		h.Boot = u.spool.Boot()
		h.Waiting, h.Dropped = u.spool.Len()
		h.Rejected = u.agent.Stats().Rejected
		s.Units = append(s.Units, h)
	}
	return s
}

func (r *records) event(e any) {
	if r.json {
		r.print(e)
	}
}

// print writes e as one line with --json, and the summary as text without.
func (r *records) print(e any) {
	if r.json {
		if b, err := json.Marshal(e); err == nil {
			_, _ = r.out.Write(append(b, '\n'))
		}
		return
	}
	if s, ok := e.(summary); ok {
		for _, h := range s.Units {
			_, _ = fmt.Fprintf(r.out, "unit %s: acknowledged %d, waiting %d, rejected %d, dropped %d, connections %d\n", h.Unit, h.Stored, h.Waiting, h.Rejected, h.Dropped, h.Connects)
		}
	}
}
