package web

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestHeartbeatsAreNoNews keeps pages from being fetched anew many times a second.
func TestHeartbeatsAreNoNews(t *testing.T) {
	for _, tt := range []struct {
		name     string
		deadline *Deadline
		change   func(*Redundancy, int64) // n-th change, one each 100 ms
		want     time.Duration
		news     bool
	}{
		{"the age of a heartbeat changes all the time: a word each second", nil,
			func(r *Redundancy, n int64) { r.Members[1].LastHeardMS = &n }, alive, false},
		{"while a deadline runs: each second", &Deadline{RemainingMS: 9000},
			func(r *Redundancy, n int64) { r.Deadline = &Deadline{RemainingMS: 9000 - n} }, alive, false},
		{"a member's status changes after 600 ms: soon after", nil,
			func(r *Redundancy, n int64) {
				if n == 6 {
					r.Members[1].Status = "unreachable"
				}
			}, 800 * time.Millisecond, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := full()
				r.Deadline = tt.deadline
				src := newSource(r)
				s := built(t, testConfig(src))
				ctx, cancel := context.WithCancel(t.Context())
				var changes sync.WaitGroup
				defer changes.Wait()
				defer cancel()
				changes.Go(func() {
					for n := int64(1); ctx.Err() == nil; n++ {
						time.Sleep(100 * time.Millisecond)
						src.mu.Lock()
						next := full()
						next.Deadline = src.r.Deadline
						next.Members[1].Status = src.r.Members[1].Status
						tt.change(&next, n)
						src.r = next
						close(src.changed)
						src.changed = make(chan struct{})
						src.mu.Unlock()
					}
				})
				start := time.Now()
				news, ok := s.waitForNews(ctx, src.Redundancy(), src.Changed())
				if !ok || news != tt.news {
					t.Fatalf("news %v, ended by itself: %v", news, !ok)
				}
				// One gathering more than wanted may pass.
				if d := time.Since(start); d < tt.want-gather || d > tt.want+gather {
					t.Errorf("news after %v, want about %v", d, tt.want)
				}
				cancel()
				if _, ok := s.waitForNews(ctx, src.Redundancy(), src.Changed()); ok {
					t.Error("goes on after the page has left")
				}
			})
		})
	}
}
