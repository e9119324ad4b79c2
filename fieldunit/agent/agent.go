// Package agent is the field unit's side: it keeps what the unit measures in a bounded spool,
// connects to the Manager that its destination profile names, sends in order, keeps what is not acknowledged
// and sends it again after each loss of the connection, with the same key.
//
// It does not measure and does not interpret values. cmd/fieldunit runs it; a Go program that is
// a field unit can too.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"redundancypool/fieldunit"
)

// DefaultWindow is the number of messages in flight unless Config says otherwise; the Manager
// may allow fewer.
const DefaultWindow = 64

// Config is what an Agent needs.
type Config struct {
	Profile fieldunit.Profile
	Spool   *Spool // stays the caller's, who appends to it and closes it
	Window  int    // 1 to 1000 messages in flight; 0: DefaultWindow
	Timing  Timing
	Dial    Dialer // nil: TCP
	Log     *slog.Logger

	// Stored is called for each record that the Manager has acknowledged, in that order, on the goroutine that
	// reads: it must be quick. May be nil.
	Stored func(r *Record, at time.Time)
	// Rejected is called for a record that the Manager will never accept; it is dropped. May be nil.
	Rejected func(r *Record, code byte, reason string)
	// Changed is called when the connection comes and goes. May be nil.
	Changed func(Change)
}

// Change is a moment in the life of the connection.
type Change struct {
	At        time.Time
	Connected bool
	Reason    string // why it ended; empty: this side ended it
}

// Stats counts since New.
type Stats struct {
	Connected   bool
	Stored      uint64
	Rejected    uint64
	Connections uint64
	LastError   string // of connecting, or why the last connection ended
}

// Agent connects one unit to its Manager.
type Agent struct {
	cfg   Config
	t     Timing
	tls   *tls.Config
	topic string

	mu    sync.Mutex
	stats Stats
}

// New validates cfg; it starts nothing.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Profile.Validate(); err != nil {
		return nil, err
	}
	if cfg.Spool == nil || cfg.Spool.cfg.Unit != cfg.Profile.Username {
		return nil, fmt.Errorf("agent: the spool must be that of unit %q", cfg.Profile.Username)
	}
	if cfg.Window == 0 {
		cfg.Window = DefaultWindow
	}
	if cfg.Window < 1 || cfg.Window > 1000 {
		return nil, fmt.Errorf("agent: window %d: use 1 to 1000 messages in flight", cfg.Window)
	}
	cfg.Timing.normalise()
	if cfg.Dial == nil {
		cfg.Dial = defaultDialer(cfg.Timing.Unsent)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{cfg: cfg, t: cfg.Timing, tls: cfg.Profile.TLSConfig(), topic: topicOf(cfg.Profile)}
	if a.tls != nil {
		a.tls.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	}
	return a, nil
}

// Run connects and sends until ctx ends, then returns nil. Without Autoconnect in the profile it
// returns the error that ended the first connection or attempt.
func (a *Agent) Run(ctx context.Context) error {
	p := pacer{t: &a.t, lost: time.Now()}
	for ctx.Err() == nil {
		began, before := time.Now(), a.Stats().Stored
		established, err := a.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !a.cfg.Profile.Autoconnect {
			return err
		}
		// A connection that ends at once without having stored anything is as good as none.
		good := established && (a.Stats().Stored > before || time.Since(began) > time.Second)
		select {
		case <-ctx.Done():
		case <-time.After(jitter(p.next(time.Now(), good, lasting(err)))):
		}
	}
	return nil
}

// once makes one connection and serves it to its end.
func (a *Agent) once(ctx context.Context) (established bool, err error) {
	conn, err := a.race(ctx)
	if err != nil {
		a.note(fmt.Errorf("connect to %s: %w", a.cfg.Profile.Host, err))
		return false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	k, err := a.handshake(conn)
	if !stop() || err != nil {
		_ = conn.Close()
		err = errors.Join(err, ctx.Err())
		a.note(err)
		return false, err
	}
	a.changed(Change{At: time.Now(), Connected: true})
	err = k.run(ctx)
	c := Change{At: time.Now()}
	if err != nil {
		c.Reason = err.Error()
	}
	a.changed(c)
	return true, err
}

// note keeps and logs an error of connecting, once as long as it stays the same.
func (a *Agent) note(err error) {
	a.mu.Lock()
	same := a.stats.LastError == err.Error()
	a.stats.LastError = err.Error()
	a.mu.Unlock()
	if !same {
		a.cfg.Log.Warn("not connected", "unit", a.cfg.Profile.Username, "error", err)
	}
}

func (a *Agent) changed(c Change) {
	a.mu.Lock()
	a.stats.Connected = c.Connected
	if c.Connected {
		a.stats.Connections++
	} else {
		a.stats.LastError = c.Reason
	}
	a.mu.Unlock()
	if c.Connected {
		a.cfg.Log.Info("connected", "unit", a.cfg.Profile.Username, "host", a.cfg.Profile.Host)
	} else {
		a.cfg.Log.Info("disconnected", "unit", a.cfg.Profile.Username, "reason", c.Reason)
	}
	if a.cfg.Changed != nil {
		a.cfg.Changed(c)
	}
}

func (a *Agent) stored(r *Record) {
	a.mu.Lock()
	a.stats.Stored++
	a.mu.Unlock()
	if a.cfg.Stored != nil {
		a.cfg.Stored(r, time.Now())
	}
}

func (a *Agent) rejected(r *Record, code byte, reason string) {
	a.mu.Lock()
	a.stats.Rejected++
	a.mu.Unlock()
	a.cfg.Log.Warn("record rejected for good", "unit", a.cfg.Profile.Username, "boot", r.Boot, "seq", r.Seq, "code", code, "reason", reason)
	if a.cfg.Rejected != nil {
		a.cfg.Rejected(r, code, reason)
	}
}

// Stats returns the counts so far.
func (a *Agent) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stats
}

// Flush waits until the spool is empty or ctx ends, and returns how many records are left.
func (a *Agent) Flush(ctx context.Context) int {
	for {
		r, _, news := a.cfg.Spool.at(0)
		if r == nil {
			return 0
		}
		select {
		case <-news:
		case <-ctx.Done():
			n, _ := a.cfg.Spool.Len()
			return n
		}
	}
}
