package pool

import (
	"sync"
	"time"
)

// applyLagLimit is from when on a Manager whose database trails its log is not in step: the next
// Primary would first have to catch up, and what is read there is old.
const applyLagLimit = 500 * time.Millisecond

// backlog tells how long committed entries wait until they are in the database. It is asked at
// every heartbeat and remembers, for each, up to where the log was committed.
type backlog struct {
	mu    sync.Mutex
	marks []mark
}

type mark struct {
	committed uint64
	at        Instant
}

// lag returns how long ago the oldest entry that is not applied yet was first seen committed; 0
// when there is none.
func (b *backlog) lag(committed, applied uint64, now Instant) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	done := 0
	for done < len(b.marks) && b.marks[done].committed <= applied {
		done++
	}
	b.marks = append(b.marks[:0], b.marks[done:]...)
	if committed <= applied {
		return 0
	}
	if n := len(b.marks); (n == 0 || b.marks[n-1].committed < committed) && n < mostMarks {
		b.marks = append(b.marks, mark{committed, now})
	}
	return now.Sub(b.marks[0].at)
}

// mostMarks bounds the memory of a backlog; by then the first mark is what counts.
const mostMarks = 1024
