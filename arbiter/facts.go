package arbiter

import (
	"context"
	"io/fs"
	"path/filepath"
	"sync/atomic"
	"time"

	"redundancypool/manager/pool"
)

// Facts are what a process tells the other members of itself in each heartbeat. Now never blocks:
// the folder is measured by Run, which a hanging disk may stop.
type Facts struct {
	dir     string
	started time.Time
	bytes   atomic.Int64
}

// NewFacts is for the process that has dir as its data folder.
func NewFacts(dir string) *Facts { return &Facts{dir: dir, started: time.Now()} }

// Now returns what is known.
func (f *Facts) Now() pool.Facts {
	return pool.Facts{StartedMS: f.started.UnixMilli(), Bytes: f.bytes.Load()}
}

// Run measures the folder every five seconds until ctx ends.
func (f *Facts) Run(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		f.bytes.Store(size(f.dir))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// size is the number of bytes in the files below dir.
func size(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if i, err := d.Info(); err == nil {
			n += i.Size()
		}
		return nil
	})
	return n
}
