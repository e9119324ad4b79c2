package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// prober runs at most one probe at a time: on a hung disk they must not pile up.
type prober struct {
	mu      sync.Mutex
	running chan struct{} // nil: none
	err     error         // of the last one, once running is closed
}

// Probe writes a small file beside the database and syncs it: the health of this node's disk,
// without touching what is replicated. When ctx ends first it returns at once, and the write
// stays under way; until it returns, further probes report ErrProbeHung at the end of their ctx.
func (s *Store) Probe(ctx context.Context) error {
	if s.gate.isClosed() {
		return fmt.Errorf("probe disk: %w", ErrClosed)
	}
	p := &s.probe
	p.mu.Lock()
	earlier := p.running
	if earlier == nil {
		p.running = make(chan struct{})
		go s.probeDisk(p.running)
	}
	running := p.running
	p.mu.Unlock()
	select {
	case <-running:
	case <-ctx.Done():
		err := context.Cause(ctx)
		if earlier != nil {
			err = errors.Join(ErrProbeHung, err)
		}
		return fmt.Errorf("probe disk: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// probeDisk is the only goroutine that writes the probe file. Close waits for it.
func (s *Store) probeDisk(running chan struct{}) {
	err := s.writeProbe()
	p := &s.probe
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err, p.running = err, nil
	close(running)
}

func (s *Store) writeProbe() (err error) {
	f, err := os.OpenFile(s.path(probeName), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("probe disk: %w", osError(err))
	}
	defer func() {
		if e := f.Close(); e != nil && err == nil {
			err = fmt.Errorf("probe disk: %w", osError(e))
		}
	}()
	block := make([]byte, 4096)
	copy(block, strconv.FormatInt(time.Now().UnixMilli(), 10))
	if _, err := f.Write(block); err != nil {
		return fmt.Errorf("probe disk: %w", osError(err))
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("probe disk: %w", osError(err))
	}
	return nil
}

func (p *prober) wait() {
	p.mu.Lock()
	running := p.running
	p.mu.Unlock()
	if running != nil {
		<-running
	}
}
