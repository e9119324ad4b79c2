package trial

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"redundancypool/deploy/lab"
)

// profile is the part of a destination profile that a client which nobody here wrote needs.
type profile struct {
	Host     string `json:"host"`
	Port     int    `json:"port"`
	CA       string `json:"ca"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// AddUnit creates a unit on the Primary and keeps its destination profile on the client.
func (p *Pool) AddUnit(ctx context.Context, name string) (string, error) {
	primary, _, err := p.Primary(ctx)
	if err != nil {
		return "", err
	}
	out, err := p.command(ctx, primary, "unit", "add", name)
	if err != nil {
		return "", fmt.Errorf("add unit %s: %w", name, err)
	}
	client, err := p.lab.Host("client")
	if err != nil {
		return "", err
	}
	dir := filepath.Join(client.Dir(), name)
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("empty the unit's folder: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create the unit's folder: %w", err)
	}
	path := filepath.Join(dir, "profile.json")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		return "", fmt.Errorf("keep the profile of %s: %w", name, err)
	}
	return path, nil
}

// StartUnits adds n units and lets each publish rate records a second. It may be called once.
func (p *Pool) StartUnits(ctx context.Context, n int, rate float64) error {
	client, err := p.lab.Host("client")
	if err != nil {
		return err
	}
	if p.load != nil {
		return errors.New("start units: they run already")
	}
	ledger, spool := filepath.Join(client.Dir(), "ledger.jsonl"), filepath.Join(client.Dir(), "spool")
	if err := errors.Join(os.RemoveAll(ledger), os.RemoveAll(spool)); err != nil {
		return fmt.Errorf("remove an earlier lab's records: %w", err)
	}
	args := []string{"run", "--simulate", "--rate", fmt.Sprint(rate), "--ledger", ledger, "--spool", spool}
	var names []string
	for i := range n {
		name := fmt.Sprintf("unit-%02d", i+1)
		path, err := p.AddUnit(ctx, name)
		if err != nil {
			return err
		}
		names = append(names, name)
		args = append(args, "--profile", path)
	}
	proc, err := client.Start(lab.Command{Name: "fieldunit", Path: p.cfg.Bin.FieldUnit, Args: args})
	if err != nil {
		return fmt.Errorf("start units: %w", err)
	}
	p.units, p.load, p.ledger = names, proc, NewLedger(ledger)
	return nil
}

// WaitUnits waits until every unit got an acknowledgement after the given moment.
func (p *Pool) WaitUnits(ctx context.Context, after time.Time, patience time.Duration) error {
	if p.load == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if err := p.ledger.Read(); err != nil {
			return err
		}
		missing := ""
		for _, name := range p.units {
			if p.ledger.FirstAfter(name, after).IsZero() {
				missing = name
				break
			}
		}
		if missing == "" {
			return nil
		}
		if !p.load.Alive() {
			return fmt.Errorf("the units' process ended: %s", tail(p.load.Log(), 3))
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s got no acknowledgement within %v: %s", missing, patience, tail(p.load.Log(), 3))
		}
	}
}

func readProfile(path string) (profile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return profile{}, fmt.Errorf("read profile: %w", err)
	}
	var pr profile
	if err := json.Unmarshal(data, &pr); err != nil {
		return profile{}, fmt.Errorf("profile %s: %w", path, err)
	}
	return pr, nil
}
