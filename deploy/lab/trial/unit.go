package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"redundancypool/deploy/lab"
)

// Unit is one simulated field unit on the client.
type Unit struct {
	Name    string
	ledger  *Ledger
	profile string // file
	proc    *lab.Process
}

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

// StartUnits adds n units and lets each publish on its own, one record every so often.
func (p *Pool) StartUnits(ctx context.Context, n int, every time.Duration) error {
	client, err := p.lab.Host("client")
	if err != nil {
		return err
	}
	for i := range n {
		name := fmt.Sprintf("unit-%02d", len(p.units)+1)
		path, err := p.AddUnit(ctx, name)
		if err != nil {
			return err
		}
		dir := filepath.Dir(path)
		u := &Unit{Name: name, profile: path, ledger: NewLedger(name, filepath.Join(dir, "ledger.jsonl"))}
		u.proc, err = client.Start(lab.Command{Name: name, Path: p.cfg.Bin.FieldUnit, Args: []string{"run", "--profile", path,
			"--spool", filepath.Join(dir, "spool"), "--ledger", u.ledger.path, "--simulate", "--interval", every.String()}})
		if err != nil {
			return fmt.Errorf("start unit %d: %w", i+1, err)
		}
		p.units = append(p.units, u)
	}
	return nil
}

// Units are the simulated units that were started.
func (p *Pool) Units() []*Unit { return p.units }

// WaitUnits waits until every unit got an acknowledgement after the given moment.
func (p *Pool) WaitUnits(ctx context.Context, after time.Time, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var missing *Unit
		for _, u := range p.units {
			if err := u.ledger.Read(); err != nil {
				return err
			}
			if u.ledger.FirstAfter(after).IsZero() {
				missing = u
				break
			}
		}
		if missing == nil {
			return nil
		}
		select {
		case <-missing.proc.Done():
			return fmt.Errorf("%s ended: %s", missing.Name, tail(missing.proc.Log(), 3))
		default:
		}
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s got no acknowledgement within %v: %s", missing.Name, patience, tail(missing.proc.Log(), 3))
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
