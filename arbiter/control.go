package arbiter

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
)

// Status is the object that "arbiter status --json" prints.
type Status struct {
	Node        string         `json:"node"`
	Role        pool.Role      `json:"role"`
	Status      pool.Status    `json:"status"` // online
	Pool        *string        `json:"pool"`   // null: belongs to none
	Phase       string         `json:"phase"`
	Term        uint64         `json:"term"`
	LastIndex   uint64         `json:"last_index"`
	BytesOnDisk int64          `json:"bytes_on_disk"`
	Fingerprint string         `json:"fingerprint"`
	Members     []StatusMember `json:"members"`
	// Refused is why the other members refuse this one for good; empty: they do not.
	Refused string `json:"refused,omitempty"`
}

// StatusMember is one member as the Arbiter sees it.
type StatusMember struct {
	Name        string      `json:"name"`
	Role        pool.Role   `json:"role"`
	Status      pool.Status `json:"status"`
	Address     string      `json:"address"`
	LastHeardMS int64       `json:"last_heard_ms"` // -1: never
}

func (a *Arbiter) control() (*control.Server, error) {
	ops := a.trustOps()
	maps.Copy(ops, map[string]control.Handler{
		"status": func(context.Context, json.RawMessage, func(any) error) (any, error) { return a.status(), nil },
		"token": func(ctx context.Context, _ json.RawMessage, _ func(any) error) (any, error) {
			t, err := a.trust.NewToken(0)
			if err != nil {
				return nil, err
			}
			a.event(journal.Info, "user", "token", "a pairing token was made by "+caller(ctx))
			return t.Text(), nil
		},
		"logs": a.logs,
	})
	return control.Open(a.cfg.Dir, ops, a.cfg.Log)
}

func (a *Arbiter) status() Status {
	s := Status{Node: a.name(), Role: pool.Arbiter, Status: pool.Online, Fingerprint: a.fingerprint(), BytesOnDisk: size(a.cfg.Dir), Members: []StatusMember{}}
	member := a.seen.Load()
	if member == nil {
		return s
	}
	st := member.State()
	s.Pool, s.Phase, s.Term, s.LastIndex = &st.Record.Pool, string(st.Record.Phase), st.Term, st.Last.Index
	for _, why := range st.Reasons {
		if strings.HasPrefix(why.Code, "refused_") {
			s.Refused = why.Text
		}
	}
	for _, m := range st.Members {
		row := StatusMember{Name: m.Name, Role: m.Role, Status: m.Status, Address: m.Address.String(), LastHeardMS: -1}
		if m.Heard >= 0 {
			row.LastHeardMS = m.Heard.Milliseconds()
		}
		if m.ID == st.Record.Self {
			row.Status = pool.Online
		}
		s.Members = append(s.Members, row)
	}
	return s
}

// Reset makes the folder that of a new Arbiter: identity, approvals and pools are removed, and
// nothing else that may lie there. It refuses a folder that is not an Arbiter's, and while a
// process runs on it (ErrBusy).
func Reset(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "node.key")); err != nil {
		return fmt.Errorf("%s is not an Arbiter's data folder: %w; check --data", dir, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "settings.toml")); err == nil {
		return fmt.Errorf("%s is a Manager's data folder: check --data", dir)
	}
	srv, err := control.Open(dir, nil, slog.New(slog.DiscardHandler)) // takes the folder's lock, so that nobody starts meanwhile
	if err != nil {
		return fmt.Errorf("%w: stop it first (%w)", ErrBusy, err)
	}
	defer srv.Close()
	for _, name := range []string{"pools", "journal", "trust.json", "node.crt", "node.key"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return nil
}
