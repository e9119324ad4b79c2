package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
)

// methodUser asks the Primary, on the pool port, to keep what a person changed about their own login on
// the other Manager.
const methodUser = "user"

// userChange is the body of methodUser: the hash of the password and the number of the sessions' generation.
type userChange struct {
	Name       string `json:"name"`
	Hash       string `json:"hash"`
	Generation uint64 `json:"generation"`
}

// onUser keeps a change that the other Manager has checked. One that is not the next after the present one
// is refused: somebody else has changed the login meanwhile.
func (m *Manager) onUser(ctx context.Context, q userChange) (any, error) {
	e, err := faces{m}.primary(ctx)
	if err != nil {
		return nil, transport.Refuse("not_primary", "%v", err)
	}
	u, err := e.db.User(ctx, q.Name)
	if err != nil || u.Generation+1 != q.Generation || q.Hash == "" {
		return nil, transport.Refuse("changed", "this login has been changed meanwhile: try again")
	}
	_, err = e.proposer.propose(ctx, database.UserPut{Name: q.Name, Hash: q.Hash, Generation: q.Generation})
	return struct{}{}, err
}

// keepUser stores a login, on whichever Manager it was changed, and returns once this node's own copy
// of the data has it, so that a session begun then is of the new generation.
func (f faces) keepUser(ctx context.Context, u database.User) error {
	e, err := f.primary(ctx)
	if err == nil {
		_, err := e.proposer.propose(ctx, database.UserPut(u))
		return err
	}
	var no *control.Error
	if !errors.As(err, &no) || no.Code != "not_primary" {
		return err
	}
	if e, err = f.m.engineNow(ctx); err != nil {
		return err
	}
	st := e.pool.State()
	for _, o := range st.Members {
		if o.Status != pool.Primary || o.ID == st.Record.Self {
			continue
		}
		if err := f.m.call(ctx, o.Address, o.Fingerprint, methodUser, userChange{u.Name, u.Hash, u.Generation}, nil); err != nil {
			return refuse("primary", "try again, or do it on the Primary", "%s, which is Primary, did not keep it: %v", o.Name, err)
		}
		return e.awaitUser(ctx, u)
	}
	return no
}

// awaitUser waits until this node's copy has a login, or a newer one.
func (e *engine) awaitUser(ctx context.Context, u database.User) error {
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		if now, err := e.db.User(ctx, u.Name); err == nil && now.Generation >= u.Generation {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	return refuse("behind", "log in again in a moment", "it is kept, but this Manager's copy of the data has not got it yet")
}

// login returns a person's login from this node's own copy.
func (f faces) login(ctx context.Context, name string) (database.User, error) {
	e, err := f.openDatabase(ctx)
	if err != nil {
		return database.User{}, err
	}
	u, err := e.db.User(ctx, name)
	if errors.Is(err, database.ErrNotFound) {
		return u, refuse("unknown", "use \"manager user add\"", "there is no user %q", name)
	}
	return u, err
}

// EndSessions implements control.Users: the user is logged out everywhere, on both Managers.
func (f faces) EndSessions(ctx context.Context, name string) (control.Done, error) {
	u, err := f.login(ctx, name)
	if err != nil {
		return control.Done{}, err
	}
	u.Generation++
	if err := f.keepUser(ctx, u); err != nil {
		return control.Done{}, err
	}
	f.m.event(journal.Info, "user", "sessions_ended", fmt.Sprintf("user %s was logged out everywhere", name), nil)
	return control.Done{Message: "user " + name + " is logged out everywhere"}, nil
}

// EndSessions implements web.Administration.
func (d desk) EndSessions(ctx context.Context, name string) (string, error) {
	return said(d.faces().EndSessions(ctx, name))
}
