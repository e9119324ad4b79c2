package manager

import (
	"context"
	"time"

	"redundancypool/manager/database"
)

// How long the history is kept, and how gently it is pruned: at most pruneRows in one command and
// one command each pruneStep, so that units are not kept waiting.
const (
	keepSamples = 90 * 24 * time.Hour
	keepEvents  = 365 * 24 * time.Hour
	pruneRows   = 500
	pruneStep   = time.Second
	pruneEvery  = 10 * time.Minute // after a pass that found nothing more
)

// prune is the Primary's duty to bound the database. It goes through the log like every change, so
// both Managers remove the same rows. It runs until ctx ends.
func prune(ctx context.Context, propose func(context.Context, database.Body) (database.Result, error), now func() time.Time, failed func(error)) {
	for {
		at := now()
		res, err := propose(ctx, database.Prune{
			SamplesBeforeMS: at.Add(-keepSamples).UnixMilli(), EventsBeforeMS: at.Add(-keepEvents).UnixMilli(), Limit: pruneRows,
		})
		wait := pruneEvery
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failed(err)
		case res.More:
			wait = pruneStep
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}
