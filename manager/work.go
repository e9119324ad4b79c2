package manager

import (
	"context"
	"fmt"
	"sync"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
)

// work is the account of one change of the running pool, for the page that shows it live and the
// command that waits for it. The zero value takes steps that nobody asked for.
type work struct {
	mu      sync.Mutex
	title   string
	began   time.Time
	steps   []workStep
	result  string
	err     error
	over    bool
	waiting chan struct{} // closed at the next change
}

type workStep struct {
	control.Step
	done bool
}

// startWork opens the account of a new change.
func (m *Manager) startWork(title string) *work {
	w := &work{title: title, began: time.Now()}
	m.mu.Lock()
	m.working = w
	m.mu.Unlock()
	return w
}

// work returns the account of the latest change.
func (m *Manager) work() *work {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.working == nil {
		m.working = &work{}
	}
	return m.working
}

func (w *work) changedLocked() {
	if w.waiting != nil {
		close(w.waiting)
		w.waiting = nil
	}
}

// step notes a step; the same code again replaces its text.
func (w *work) step(code, text string, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.title == "" || w.over {
		return
	}
	s := workStep{control.Step{AtMS: time.Since(w.began).Milliseconds(), Code: code, Text: text}, done}
	for i, old := range w.steps {
		if old.Code == code {
			if old.Text != text || old.done != done {
				w.steps[i] = s
				w.changedLocked()
			}
			return
		}
	}
	w.steps = append(w.steps, s)
	w.changedLocked()
}

func (w *work) poolStep(s pool.Step) { w.step(s.Code, s.Text, s.Done) }

// finish closes the account.
func (w *work) finish(result string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.title == "" || w.over {
		return
	}
	for i := range w.steps {
		w.steps[i].done = w.steps[i].done || err == nil // the next Primary may have done the rest of it
	}
	w.result, w.err, w.over = result, err, true
	w.changedLocked()
}

// next returns the steps as they are, a channel that is closed at the next change, and, once the
// work is over, what it came to.
func (w *work) next() (steps []workStep, over bool, changed <-chan struct{}, result string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting == nil {
		w.waiting = make(chan struct{})
	}
	return append([]workStep(nil), w.steps...), w.over, w.waiting, w.result, w.err
}

// follow passes the steps on until the change is over or nobody listens any more.
func (w *work) follow(ctx context.Context, step func(control.Step) error) (control.Done, error) {
	said := map[string]string{}
	for {
		steps, over, changed, result, err := w.next()
		for _, s := range steps {
			if said[s.Code] != s.Text {
				said[s.Code] = s.Text
				if step != nil {
					if serr := step(s.Step); serr != nil {
						return control.Done{}, serr
					}
				}
			}
		}
		if over {
			return control.Done{Message: result}, err
		}
		if step == nil { // the page shows the steps itself
			return control.Done{Message: "begun; the steps are shown here as they are done"}, nil
		}
		select {
		case <-ctx.Done():
			return control.Done{}, fmt.Errorf("it goes on without anybody listening: %w", context.Cause(ctx))
		case <-changed:
		}
	}
}
