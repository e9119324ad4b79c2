package manager

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"redundancypool/fieldunit"
	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/vip"
	"redundancypool/web"
)

// Cost of a password's hash: argon2id with 19 MiB, 2 passes, 1 lane (OWASP's second choice), some
// 35 ms. Two at a time, so that a flood of logins does not take all memory.
const (
	argonMemory = 19456
	argonTime   = 2
	argonLanes  = 1
)

var argonSlots = make(chan struct{}, 2)

func hashPassword(password string, salt []byte) string {
	argonSlots <- struct{}{}
	defer func() { <-argonSlots }()
	sum := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, 32)
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum))
}

func checkPassword(hash, password string) bool {
	parts := strings.Split(hash, "$")
	if len(parts) != 6 {
		return false
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(hashPassword(password, salt)), []byte(hash)) == 1
}

// accounts are the people who may log in, from this node's own copy of the data.
type accounts struct{ m *Manager }

func (a accounts) user(ctx context.Context, name string) (database.User, error) {
	_, _, e := a.m.snapshot()
	if e == nil || e.db == nil {
		return database.User{}, web.ErrLogin
	}
	u, err := e.db.User(ctx, name)
	if errors.Is(err, database.ErrNotFound) {
		return u, web.ErrLogin
	}
	return u, err
}

// sessionKey is derived from the key of the virtual IP, which both Managers have; a Standalone
// uses one of its own.
func (m *Manager) sessionKey() []byte {
	if _, key, err := m.trust.PoolCertificatePEM(); err == nil {
		sum := sha256.Sum256(append([]byte("session cookie\x00"), key...))
		return sum[:]
	}
	path := filepath.Join(m.cfg.Dir, "session.key")
	b, err := os.ReadFile(path)
	if err == nil && len(b) == 32 {
		return b
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("session key", "error", err)
		return nil
	}
	b = make([]byte, 32)
	_, _ = rand.Read(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		m.log.Warn("session key", "error", err)
		return nil
	}
	return b
}

var userName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,64}$`)

const leastPassword = 8

// AddUser implements control.Users.
func (f faces) AddUser(ctx context.Context, name, password string) (control.Done, error) {
	e, err := f.primary(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if _, err := e.db.User(ctx, name); err == nil {
		return control.Done{}, refuse("exists", "use \"manager user passwd\" to change the password", "user %q exists already", name)
	}
	return f.putUser(ctx, name, password, 1)
}

// SetPassword implements control.Users; it ends all sessions of the user.
func (f faces) SetPassword(ctx context.Context, name, password string) (control.Done, error) {
	u, err := f.login(ctx, name)
	if err != nil {
		return control.Done{}, err
	}
	return f.putUser(ctx, name, password, u.Generation+1)
}

func (f faces) putUser(ctx context.Context, name, password string, generation uint64) (control.Done, error) {
	if !userName.MatchString(name) {
		return control.Done{}, refuse("invalid", "use 1 to 64 letters, digits or _ . @ -", "user name %q", name)
	}
	if len(password) < leastPassword || len(password) > 256 {
		return control.Done{}, refuse("invalid", fmt.Sprintf("use %d to 256 characters", leastPassword), "the password has %d", len(password))
	}
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	if err := f.keepUser(ctx, database.User{Name: name, Hash: hashPassword(password, salt), Generation: generation}); err != nil {
		return control.Done{}, err
	}
	f.m.event(journal.Info, "user", "password_set", "the password of user "+name+" was set", nil)
	return control.Done{Message: "user " + name + " can log in"}, nil
}

// primary returns the engine if this node may write.
func (f faces) primary(ctx context.Context) (*engine, error) {
	e, err := f.m.engineNow(ctx)
	if err != nil {
		return nil, err
	}
	if e.pool == nil {
		return nil, refuse("on_hold", "wait until the pool is formed, or cancel", "this Backup is on hold and its database is closed")
	}
	for end := time.Now().Add(3 * time.Second); ; {
		changed := e.pool.Changed()
		if e.duty.Load() != nil {
			return e, nil
		}
		st := e.pool.State()
		for _, o := range st.Members {
			if o.Status == pool.Primary && o.ID != st.Record.Self {
				return nil, refuse("not_primary", fmt.Sprintf("run it on %s at %s", o.Name, o.Address.Addr()), "this Manager is Online and its database read-only")
			}
		}
		if time.Now().After(end) {
			return nil, refuse("no_primary", "look at \"manager status\"", "no Manager is Primary now, so nothing can be written")
		}
		select { // a Manager that has just started is about to be Primary
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-changed:
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// AddUnit implements control.Units: a new unit's destination profile, with its secret, which is
// shown this once.
func (f faces) AddUnit(ctx context.Context, name string) (json.RawMessage, error) {
	if err := fieldunit.ValidateName(name); err != nil {
		return nil, refuse("invalid", "use 1 to 64 letters, digits, _ or -", "%v", err)
	}
	e, err := f.primary(ctx)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, 20)
	_, _ = rand.Read(raw)
	secret := base64.RawURLEncoding.EncodeToString(raw)
	_, err = e.proposer.propose(ctx, database.UnitAdd{Name: name, Secret: sha256.Sum256([]byte(secret))})
	if errors.Is(err, database.ErrUnitExists) {
		return nil, refuse("exists", "remove it first, or choose another name", "field unit %q exists already", name)
	}
	if err != nil {
		return nil, err
	}
	p, err := f.m.profile(name, secret)
	if err != nil {
		return nil, err
	}
	f.m.event(journal.Info, "unit", "added", "field unit "+name+" was added", nil)
	return json.MarshalIndent(p, "", "  ")
}

// profile is what a unit needs to reach this pool, or this Manager while it is Standalone.
func (m *Manager) profile(name, secret string) (fieldunit.Profile, error) {
	s, _, _ := m.snapshot()
	p := fieldunit.Profile{Name: m.name(), Type: fieldunit.TypeManager, TLS: true, Port: 8883, Username: name, Password: secret, Autoconnect: true}
	if _, port, ok := strings.Cut(s.Listen.MQTT, ":"); ok {
		if n, err := strconv.Atoi(port[strings.LastIndex(port, ":")+1:]); err == nil {
			p.Port = n
		}
	}
	if s.VIP.IsValid() && s.Mode != "" && string(s.Mode) != "standalone" {
		p.Host = s.VIP.Addr().String()
		cert, _, err := ensurePoolCertificate(m.trust, s.VIP.Addr())
		p.CA = string(cert)
		return p, err
	}
	p.Host = "127.0.0.1"
	switch {
	case s.Local.Address.IsValid():
		p.Host = s.Local.Address.String()
	default:
		if all, err := vip.LocalAddresses(); err == nil {
			for _, a := range all {
				if a.Address.IsValid() && !a.Loopback && a.Up && a.Address.Addr().Is4() {
					p.Host = a.Address.Addr().String()
					break
				}
			}
		}
	}
	c, err := m.certificateAt(netip.Addr{})
	if err != nil {
		return p, err
	}
	p.CA = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
	return p, nil
}

// ListUnits implements control.Units.
func (f faces) ListUnits(ctx context.Context) ([]control.Unit, error) {
	e, err := f.m.engineNow(ctx)
	if err != nil {
		return nil, err
	}
	if e.db == nil {
		return nil, refuse("on_hold", "wait until the pool is formed, or cancel", "this Backup is on hold and its database is closed")
	}
	units, err := e.db.Units(ctx)
	if err != nil {
		return nil, err
	}
	seen := map[string]int64{}
	for _, s := range e.sessions() {
		last := s.Last
		if last.IsZero() {
			last = s.Since
		}
		seen[s.Unit] = last.UnixMilli()
	}
	out := []control.Unit{}
	for _, u := range units {
		at, on := seen[u.Name]
		out = append(out, control.Unit{Name: u.Name, Connected: on, LastSeenMS: at, NoSecret: u.NoSecret})
	}
	return out, nil
}

// RemoveUnit implements control.Units: the unit may not log in any more; its data stay.
func (f faces) RemoveUnit(ctx context.Context, name string, yes bool) (control.Done, error) {
	e, err := f.primary(ctx)
	if err != nil {
		return control.Done{}, err
	}
	if !yes {
		return control.Done{}, &control.Error{Code: "confirm", Message: "removing a unit ends its access", Fix: "confirm it, or give --yes", Confirm: []control.Question{
			{Code: "remove_unit", Text: "Field unit " + name + " is disconnected and cannot log in any more. Its data stay."}}}
	}
	_, err = e.proposer.propose(ctx, database.UnitRemove{Name: name})
	if errors.Is(err, database.ErrUnknownUnit) {
		return control.Done{}, refuse("unknown", "see \"manager unit list\"", "there is no field unit %q", name)
	}
	if err != nil {
		return control.Done{}, err
	}
	if d := e.duty.Load(); d != nil {
		d.broker.Disconnect(name, "the unit was removed")
	}
	f.m.event(journal.Info, "unit", "removed", "field unit "+name+" was removed", nil)
	return control.Done{Message: "field unit " + name + " was removed"}, nil
}
