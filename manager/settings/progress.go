package settings

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// ProgressFile is the progress file inside the data folder.
const ProgressFile = "progress.json"

// Progress is how far this node has come with forming a pool. The zero value: nothing is under
// way and nothing went wrong.
type Progress struct {
	// Forming is set from Save until the pool is effective, cancelled or fallen back from.
	Forming bool `json:"forming"`
	// Attempt numbers the tries, so that the members can tell an old one from the present one.
	Attempt string `json:"attempt,omitempty"`
	// Remaining is the time left before falling back. It is a duration and not a moment, so that
	// neither a clock step nor the time that the node was off changes the deadline.
	Remaining time.Duration `json:"remaining_ns"`
	// Committed is set once there is no way back but an ordered leave.
	Committed bool `json:"committed"`
	// FallBack is why the last try ended, kept until someone dismisses it; nil: it did not.
	FallBack *FallBack `json:"fall_back,omitempty"`
	// Before are the settings to return to; Tried are those of "try again with the same values".
	Before *Settings `json:"before,omitempty"`
	Tried  *Settings `json:"tried,omitempty"`
}

// FallBack is why a node returned to Standalone.
type FallBack struct {
	Code   string `json:"code"` // stable: timeout, cancelled, refused, ...
	Text   string `json:"text"` // for people: what happened and what to do
	TimeMS int64  `json:"time_ms"`
}

// LoadProgress reads the progress kept in dir; without a file it is the zero value.
func LoadProgress(dir string) (Progress, error) {
	path := filepath.Join(dir, ProgressFile)
	text, err := readLimited(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Progress{}, nil
	}
	if err != nil {
		return Progress{}, err
	}
	p, err := decodeProgress(text)
	if err != nil {
		return Progress{}, fmt.Errorf("settings: %s is damaged: %w: remove it, the node then starts in the mode of %s", path, err, FileName)
	}
	return p, nil
}

func decodeProgress(text []byte) (Progress, error) {
	var p Progress
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Progress{}, err
	}
	if p.Remaining < 0 {
		return Progress{}, fmt.Errorf("remaining_ns is negative (%d)", p.Remaining)
	}
	return p, nil
}

// SaveProgress replaces the progress kept in dir, durably.
func SaveProgress(dir string, p Progress) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fmt.Errorf("settings: encode progress: %w", err)
	}
	return writeFile(filepath.Join(dir, ProgressFile), append(text, '\n'))
}
