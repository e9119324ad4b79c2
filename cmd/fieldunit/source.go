package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"redundancypool/fieldunit"
	"redundancypool/fieldunit/agent"
)

// feedLines appends each line of in, a payload of any shape that fieldunit.Decode knows. A line
// that is wrong or finds the spool full is counted and named; the others still go.
func feedLines(ctx context.Context, u *unit, in io.Reader, count uint64) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 64<<10), fieldunit.MaxPayload+1)
	var n, taken, bad uint64
	var first error
	for ctx.Err() == nil && (count == 0 || taken < count) && lines.Scan() {
		n++
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		list, err := fieldunit.Decode(u.name, lines.Bytes())
		for _, t := range list {
			err = errors.Join(err, u.spool.Append(t))
		}
		if err != nil {
			if bad++; first == nil {
				first = fmt.Errorf("standard input, line %d: %w", n, err)
			}
			continue
		}
		taken++
	}
	if err := lines.Err(); err != nil {
		return errors.Join(first, fmt.Errorf("standard input, line %d: %w: send at most %d bytes a line", n+1, err, fieldunit.MaxPayload))
	}
	if bad > 1 {
		return fmt.Errorf("%w (and %d lines more)", first, bad-1)
	}
	return first
}

// simulate appends slow sine waves at the wanted rate, on a fixed schedule: when it falls behind,
// it catches up.
func (c *runCmd) simulate(ctx context.Context, u *unit) error {
	period := time.Duration(float64(time.Second) / c.Rate)
	start := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var refused uint64
	var first error
	for n := uint64(0); c.Count == 0 || n < c.Count; n++ {
		timer.Reset(time.Until(start.Add(time.Duration(n) * period)))
		select {
		case <-ctx.Done():
			return first
		case <-timer.C:
		}
		if err := u.spool.Append(simulated(n, c.Tags)); err != nil {
			if !errors.Is(err, agent.ErrFull) {
				return err
			}
			refused++
			first = fmt.Errorf("unit %s: %d simulated records were refused: %w", u.name, refused, err)
		}
	}
	return first
}

func simulated(n uint64, tags int) fieldunit.Telemetry {
	t := fieldunit.Telemetry{Node: "simulated", Group: "g1", Readings: make([]fieldunit.Reading, tags)}
	for i := range t.Readings {
		v := math.Round(2000+1000*math.Sin(float64(n)/100+float64(i))) / 100
		t.Readings[i] = fieldunit.Reading{Tag: fmt.Sprintf("tag%d", i), Value: fieldunit.FloatValue(v)}
	}
	t.Readings[0].Value = fieldunit.IntValue(int64(n))
	return t
}
