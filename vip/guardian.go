package vip

import (
	"log/slog"
	"sync"
	"time"
)

const (
	// guardBudget is how long a lease may be without a guard that answers.
	guardBudget = 200 * time.Millisecond
	// guardStart bounds the start of a guard; on a very busy machine an exec takes long.
	guardStart = 5 * time.Second
	// guardQuit bounds its orderly end.
	guardQuit = time.Second
	// respawnPause, doubling up to respawnPauseMax, keeps a guard that cannot start from using
	// up the machine.
	respawnPause    = 20 * time.Millisecond
	respawnPauseMax = time.Second
)

// guardian keeps one guard process running: it starts another one when one ends.
type guardian struct {
	argv    []string
	log     *slog.Logger
	deliver func(*guardProcess, report)
	changed func()                  // after current changed; must not block
	event   func(EventKind, string) // a guard was replaced

	stop chan struct{}
	done chan struct{}
	err  error // of the last start or end; read after done

	mu  sync.Mutex
	now *guardProcess
}

// run keeps the guard alive until stop is closed. It closes first when the first guard is
// ready, or sends its error.
func (s *guardian) run(first chan<- error) {
	defer close(s.done)
	wait := respawnPause
	for started := false; ; {
		g, err := startGuard(s.argv, s.deliver)
		if err == nil {
			err = s.awaitReady(g)
		}
		if !started {
			first <- err
			if err != nil {
				return
			}
		}
		if err != nil {
			s.log.Error("guard cannot be started", "error", err)
			if !s.pause(wait) {
				return
			}
			wait = min(2*wait, respawnPauseMax)
			continue
		}
		wait = respawnPause
		s.set(g)
		if started {
			s.event(EventGuardRespawned, "the guard process had ended; a new one runs")
		}
		started = true
		select {
		case <-g.dead:
			s.set(nil)
		case <-s.stop:
			s.set(nil)
			s.err = g.quit(guardQuit)
			return
		}
	}
}

// awaitReady waits for g's first report; if there is none g is killed.
func (s *guardian) awaitReady(g *guardProcess) error {
	t := time.NewTimer(guardStart)
	defer t.Stop()
	select {
	case <-g.ready:
		return nil
	case <-g.dead:
	case <-t.C:
	case <-s.stop:
	}
	g.kill()
	<-g.dead
	return errGuardSilent(s.argv)
}

// pause waits; it returns false when the guardian shall end.
func (s *guardian) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.stop:
		return false
	}
}

func (s *guardian) set(g *guardProcess) {
	s.mu.Lock()
	s.now = g
	s.mu.Unlock()
	s.changed()
}

// current returns the guard that is ready, or nil.
func (s *guardian) current() *guardProcess {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}
