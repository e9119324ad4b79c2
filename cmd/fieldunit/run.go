package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"redundancypool/fieldunit"
	"redundancypool/fieldunit/agent"
)

type runCmd struct {
	Profile   []string      `required:"" type:"path" placeholder:"FILE" help:"Destination profile, as 'manager unit add' prints it. Several: one simulated unit each."`
	Spool     string        `type:"path" placeholder:"DIR" help:"Keep unacknowledged records here, so that they survive the process. Several profiles: one folder each below it."`
	SpoolSize int64         `default:"32" placeholder:"MIB" help:"Size of each spool at most, 1 to 4096 MiB, on disk and in memory (${default})."`
	SpoolFull string        `default:"refuse" enum:"refuse,drop-oldest" help:"What a full spool does: refuse new records, or drop-oldest (${default})."`
	Window    int           `default:"64" help:"Messages in flight, 1 to 1000 (${default})."`
	Simulate  bool          `help:"Publish made-up values instead of standard input."`
	Rate      float64       `default:"10" help:"Simulated messages a second for each unit, up to 10000 (${default})."`
	Tags      int           `default:"4" help:"Simulated tags a message, 1 to 4096 (${default})."`
	Count     uint64        `help:"Stop after this many messages for each unit; 0: go on."`
	ExitAfter time.Duration `placeholder:"DURATION" help:"Stop taking messages after this time."`
	Drain     time.Duration `default:"10s" help:"At the end, wait this long for what is not acknowledged (${default})."`
	Ledger    string        `type:"path" placeholder:"FILE" help:"Write each acknowledged record as a JSON line: unit, boot, seq, sent_ns, acked_ns, sends; each refused one with refused_ns and reason."`
	Report    string        `type:"path" placeholder:"FILE" help:"Write a summary with every outage at the end, one JSON object."`
	JSON      bool          `help:"Print each change of connection, and the summary, as JSON lines on standard output."`
	Verbose   bool          `short:"v" help:"Log to standard error."`
}

func (c *runCmd) validate() error {
	bad := func(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
	switch {
	case c.SpoolSize < 1 || c.SpoolSize > 4096:
		return bad("--spool-size %d: use 1 to 4096 MiB", c.SpoolSize)
	case c.Window < 1 || c.Window > 1000:
		return bad("--window %d: use 1 to 1000", c.Window)
	case !(c.Rate > 0 && c.Rate <= 10000):
		return bad("--rate %v: use more than 0 and at most 10000 a second", c.Rate)
	case c.Tags < 1 || c.Tags > fieldunit.MaxReadings:
		return bad("--tags %d: use 1 to %d", c.Tags, fieldunit.MaxReadings)
	case len(c.Profile) > 1 && !c.Simulate:
		return bad("--profile given %d times: standard input belongs to one unit; add --simulate, or start one process each", len(c.Profile))
	case c.Drain < 0 || c.ExitAfter < 0:
		return bad("--drain and --exit-after must not be negative")
	}
	return nil
}

func (c *runCmd) run(ctx context.Context, in io.Reader, out, errs io.Writer) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if c.Verbose {
		log = slog.New(slog.NewTextHandler(errs, nil))
	}
	rec := newRecords(out, c.JSON)
	if c.Ledger != "" {
		if err := rec.openLedger(c.Ledger); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rec.closeLedger()) }()
	}
	units := make([]*unit, 0, len(c.Profile))
	defer func() {
		for _, u := range units {
			err = errors.Join(err, u.spool.Close())
		}
	}()
	for _, file := range c.Profile {
		u, err := c.open(file, rec, log)
		if err != nil {
			return err
		}
		units = append(units, u)
	}
	work, done := context.WithCancel(ctx)
	defer done()
	if c.ExitAfter > 0 {
		time.AfterFunc(c.ExitAfter, done)
	}
	var wg sync.WaitGroup
	failures := make([]error, len(units))
	for i, u := range units {
		wg.Go(func() { failures[i] = c.one(ctx, work, u, in) })
	}
	wg.Wait()
	sum := rec.summary(units)
	if c.Report != "" {
		b, merr := json.MarshalIndent(sum, "", "  ")
		if merr == nil {
			merr = os.WriteFile(c.Report, append(b, '\n'), 0o600)
		}
		if merr != nil {
			failures = append(failures, fmt.Errorf("--report: %w", merr))
		}
	}
	rec.print(sum)
	return errors.Join(failures...)
}

// unit is one profile at work.
type unit struct {
	name  string
	spool *agent.Spool
	agent *agent.Agent
}

func (c *runCmd) open(file string, rec *records, log *slog.Logger) (*unit, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--profile: %w: give the file that 'manager unit add' printed", err)
	}
	p, err := fieldunit.ParseProfile(b)
	if err != nil {
		return nil, fmt.Errorf("--profile %s: %w", file, err)
	}
	dir := c.Spool
	if dir != "" && len(c.Profile) > 1 {
		dir = filepath.Join(dir, p.Username)
	}
	s, err := agent.OpenSpool(agent.SpoolConfig{Dir: dir, Unit: p.Username, MaxBytes: c.SpoolSize << 20, DropOldest: c.SpoolFull == "drop-oldest", Log: log})
	if err != nil {
		return nil, err
	}
	u := &unit{name: p.Username, spool: s}
	rec.add(p.Username)
	u.agent, err = agent.New(agent.Config{
		Profile: p, Spool: s, Window: c.Window, Log: log,
		Stored:   func(r *agent.Record, at time.Time) { rec.stored(p.Username, r, at) },
		Rejected: func(r *agent.Record, code byte, reason string) { rec.rejected(p.Username, r, code, reason) },
		Changed:  func(ch agent.Change) { rec.changed(p.Username, ch) },
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return u, nil
}

// one feeds and serves a unit until its source or ctx, a child of signalled, ends; then it gives
// the rest its time.
func (c *runCmd) one(signalled, ctx context.Context, u *unit, in io.Reader) error {
	serve, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- u.agent.Run(serve) }()
	source := make(chan error, 1)
	feed, stopFeed := context.WithCancel(ctx)
	defer stopFeed()
	go func() {
		if c.Simulate {
			source <- c.simulate(feed, u)
		} else {
			source <- feedLines(feed, u, in, c.Count)
		}
	}()
	var err error
	select {
	case err = <-source:
	case <-ctx.Done():
		if c.Simulate { // standard input may block for ever: it is not waited for
			err = <-source
		}
	case e := <-ended: // only without autoconnect
		return c.left(u, e)
	}
	wait := c.Drain
	if signalled.Err() != nil && c.Spool != "" {
		wait = min(wait, time.Second) // whoever stops us is in a hurry, and nothing gets lost
	}
	limit, cancel := context.WithTimeout(serve, wait)
	defer cancel()
	flushed := make(chan int, 1)
	go func() { flushed <- u.agent.Flush(limit) }()
	select {
	case <-flushed:
		stop()
		return errors.Join(err, c.left(u, <-ended))
	case e := <-ended:
		return errors.Join(err, c.left(u, e))
	}
}

// left says what was not delivered. With a spool on disk that is no failure: it is sent at the
// next start.
func (c *runCmd) left(u *unit, err error) error {
	n, dropped := u.spool.Len()
	if n > 0 && c.Spool == "" {
		why := u.agent.Stats().LastError
		if why == "" {
			why = "no acknowledgement in time"
		}
		err = errors.Join(err, fmt.Errorf("unit %s: %d records were not acknowledged and are lost (%s): use --spool to keep them", u.name, n, why))
	}
	if dropped > 0 {
		err = errors.Join(err, fmt.Errorf("unit %s: %d of the oldest records were dropped from the full spool: allow more with --spool-size", u.name, dropped))
	}
	if r := u.agent.Stats().Rejected; r > 0 {
		err = errors.Join(err, fmt.Errorf("unit %s: %d records were rejected by the Manager: its events name the reason", u.name, r))
	}
	return err
}
