package manager

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"redundancypool/manager/database"
	"redundancypool/manager/settings"
	"redundancypool/web"
)

// peopleFile keeps who may log in while this node's database is closed: on hold and while it is
// being replaced by the Master's, somebody must be able to see the waiting page and to cancel.
const peopleFile = "people.json"

// keepPeople writes down who may log in now. Without it, only the login on this node would have
// to wait for the pool, so a failure is no more than logged.
func (m *Manager) keepPeople(ctx context.Context) {
	_, _, e := m.snapshot()
	if e == nil || e.db == nil {
		return
	}
	users, err := e.db.Users(ctx)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(users); err == nil {
			err = os.WriteFile(filepath.Join(m.cfg.Dir, peopleFile), text, 0o600)
		}
	}
	if err != nil {
		m.log.Warn("keep who may log in while on hold", "error", err)
	}
}

// keptPeople returns those of keepPeople.
func (m *Manager) keptPeople() []database.User {
	text, err := os.ReadFile(filepath.Join(m.cfg.Dir, peopleFile))
	if err != nil {
		return nil
	}
	var users []database.User
	if err := json.Unmarshal(text, &users); err != nil {
		m.log.Warn("read who may log in while on hold", "error", err)
	}
	return users
}

// pageUsers are the people who may log in to the pages: those of the database, and while it is
// closed or still being filled those of before.
type pageUsers struct{ m *Manager }

func (p pageUsers) user(ctx context.Context, name string) (database.User, error) {
	s, prog, e := p.m.snapshot()
	if e == nil && !prog.Forming {
		if _, err := p.m.engineNow(ctx); err != nil { // it is restarting: that takes a moment
			return database.User{}, err
		}
	}
	u, err := accounts(p).user(ctx, name)
	filling := e == nil || e.db == nil || s.Mode == settings.Backup
	if !prog.Forming || !filling || !errors.Is(err, web.ErrLogin) {
		return u, err
	}
	for _, kept := range p.m.keptPeople() {
		if kept.Name == name {
			return kept, nil
		}
	}
	return u, err
}

// Verify implements web.Users.
func (p pageUsers) Verify(ctx context.Context, name, password string) error {
	u, err := p.user(ctx, name)
	if errors.Is(err, web.ErrLogin) {
		hashPassword(password, make([]byte, 16)) // an unknown name takes as long as a wrong password
		return err
	}
	if err != nil {
		return err
	}
	if !checkPassword(u.Hash, password) {
		return web.ErrLogin
	}
	return nil
}

// Generation implements web.Users. It covers the password's hash, so that a session ends with the
// password it began with, and with the person: the pool's "admin" need not be this node's.
func (p pageUsers) Generation(ctx context.Context, name string) (uint64, error) {
	u, err := p.user(ctx, name)
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(u.Hash+"\x00"), u.Generation))
	return binary.BigEndian.Uint64(sum[:]), nil
}

// firstCode is what somebody in the LAN needs to create the first administrator.
type firstCode struct {
	mu   sync.Mutex
	text string
}

// announceFirst prints the code for the first administrator, as long as there is none.
func (m *Manager) announceFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second) // a disk that hangs must not keep the engine waiting
	defer cancel()
	if _, prog, _ := m.snapshot(); !prog.Forming {
		if err := os.Remove(filepath.Join(m.cfg.Dir, peopleFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Warn("remove who could log in while on hold", "error", err)
		}
	}
	founded, err := desk{m}.Founded(ctx)
	if err != nil || founded {
		return
	}
	m.first.mu.Lock()
	defer m.first.mu.Unlock()
	if m.first.text != "" {
		return
	}
	m.first.text = rand.Text()[:12] // 60 bits
	s, _, _ := m.snapshot()
	m.log.Warn("nobody can log in to the pages yet: create the administrator at /setup, on this machine without or from the LAN with this code", "code", m.first.text, "https", s.Listen.HTTPS)
}

// Founded implements web.Administration.
func (d desk) Founded(ctx context.Context) (bool, error) {
	_, _, e := d.m.snapshot()
	if e == nil || e.db == nil {
		if len(d.m.keptPeople()) > 0 {
			return true, nil
		}
		return false, &web.Problem{Code: "on_hold", Message: "this Manager's database is closed now", Fix: "wait until the pool is formed, or cancel on the command line"}
	}
	users, err := e.db.Users(ctx)
	return len(users) > 0, err
}

// Found implements web.Administration. One at a time, so that there is one first.
func (d desk) Found(ctx context.Context, code, name, password string) error {
	f := &d.m.first
	f.mu.Lock()
	defer f.mu.Unlock()
	founded, err := d.Founded(ctx)
	switch {
	case err != nil:
		return err
	case founded:
		return &web.Problem{Code: "founded", Message: "there is an administrator already", Fix: "log in"}
	case code != "" && (f.text == "" || subtle.ConstantTimeCompare([]byte(code), []byte(f.text)) != 1):
		return &web.Problem{Code: "code", Message: "the code is wrong", Fix: "look it up in the log of “manager serve”"}
	}
	_, err = d.faces().AddUser(ctx, name, password)
	return pageError(err)
}

// SetPassword implements web.Administration.
func (d desk) SetPassword(ctx context.Context, name, password string) error {
	_, err := d.faces().SetPassword(ctx, name, password)
	return pageError(err)
}

// formerKey is the secret that signed sessions before this node joined a pool.
func (m *Manager) formerKey() []byte {
	b, err := os.ReadFile(filepath.Join(m.cfg.Dir, "session.key"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("former session key", "error", err)
	}
	return b
}
