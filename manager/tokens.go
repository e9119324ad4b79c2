package manager

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/database"
	"redundancypool/manager/journal"
	"redundancypool/web"
)

// tokenPrefix begins the key of the replicated setting of an API token. A token's text is
// "rpt_ID_SECRET"; only the SHA-256 of its 160-bit secret is kept, and a saved database has not even
// that (database.Store.Save).
const tokenPrefix = database.TokenPrefix

// mostTokens bounds how many there may be.
const mostTokens = 100

// keptToken is the value of the setting.
type keptToken struct {
	Name      string `json:"name"`
	Scope     string `json:"scope"` // read or operate
	By        string `json:"by"`
	CreatedMS int64  `json:"created_ms"`
	ExpiresMS int64  `json:"expires_ms,omitempty"` // 0: never
	Hash      string `json:"hash"`                 // hex SHA-256 of the secret
}

var tokenName = regexp.MustCompile(`^[A-Za-z0-9_. -]{1,64}$`)

// AddToken implements control.Tokens.
func (f faces) AddToken(ctx context.Context, name, scope string, days int, by string) (control.NewToken, error) {
	var none control.NewToken
	switch {
	case !tokenName.MatchString(name):
		return none, fieldError("name", "invalid", fmt.Sprintf("the name %q of a token", name), "use 1 to 64 letters, digits, spaces or _ . -")
	case scope != web.ScopeRead && scope != web.ScopeOperate:
		return none, fieldError("scope", "invalid", fmt.Sprintf("the scope %q of a token", scope), "choose read (looks only) or operate (may change things too)")
	case days < 0 || days > 3650:
		return none, fieldError("days", "invalid", fmt.Sprintf("%d days", days), "use 1 to 3650 days, or 0 for a token that does not expire")
	}
	e, err := f.primary(ctx)
	if err != nil {
		return none, err
	}
	all, err := e.db.Settings(ctx, tokenPrefix)
	if err != nil {
		return none, err
	}
	if len(all) >= mostTokens {
		return none, refuse("too_many", "remove those that nobody uses", "there are %d tokens already", len(all))
	}
	id, secret := strings.ToLower(rand.Text()[:8]), rand.Text()+rand.Text()[:6] // 160 bits
	sum := sha256.Sum256([]byte(secret))
	k := keptToken{Name: name, Scope: scope, By: by, CreatedMS: time.Now().UnixMilli(), Hash: hex.EncodeToString(sum[:])}
	if days > 0 {
		k.ExpiresMS = time.Now().AddDate(0, 0, days).UnixMilli()
	}
	if _, err := e.proposer.propose(ctx, database.SettingPut{Key: tokenPrefix + id, Value: asJSON(k)}); err != nil {
		return none, err
	}
	f.m.event(journal.Info, "user", "token_added", fmt.Sprintf("API token %s (%s, %s) was made by %s", id, name, scope, by), nil)
	return control.NewToken{Token: tokenOf(id, k), Text: "rpt_" + id + "_" + secret}, nil
}

func tokenOf(id string, k keptToken) control.Token {
	return control.Token{ID: id, Name: k.Name, Scope: k.Scope, By: k.By, CreatedMS: k.CreatedMS, ExpiresMS: k.ExpiresMS}
}

// ListTokens implements control.Tokens.
func (f faces) ListTokens(ctx context.Context) ([]control.Token, error) {
	e, err := f.m.engineNow(ctx)
	if err != nil {
		return nil, err
	}
	if e.db == nil {
		return nil, refuse("on_hold", "wait until the pool is formed, or cancel", "this Backup is on hold and its database is closed")
	}
	all, err := e.db.Settings(ctx, tokenPrefix)
	if err != nil {
		return nil, err
	}
	out := []control.Token{}
	for key, value := range all {
		var k keptToken
		if err := json.Unmarshal([]byte(value), &k); err != nil {
			return nil, fmt.Errorf("setting %s: %w", key, err)
		}
		out = append(out, tokenOf(strings.TrimPrefix(key, tokenPrefix), k))
	}
	slices.SortFunc(out, func(a, b control.Token) int { return int(a.CreatedMS - b.CreatedMS) })
	return out, nil
}

// RemoveToken implements control.Tokens: it ends at once, on both Managers.
func (f faces) RemoveToken(ctx context.Context, id string) (control.Done, error) {
	e, err := f.primary(ctx)
	if err != nil {
		return control.Done{}, err
	}
	_, err = e.proposer.propose(ctx, database.SettingRemove{Key: tokenPrefix + id})
	if errors.Is(err, database.ErrUnknownSetting) {
		return control.Done{}, refuse("unknown", "see the list of tokens", "there is no API token %q", id)
	}
	if err != nil {
		return control.Done{}, err
	}
	f.m.event(journal.Info, "user", "token_removed", "API token "+id+" was removed", nil)
	return control.Done{Message: "API token " + id + " was removed"}, nil
}

// CheckToken implements web.Tokens from this node's own copy of the data.
func (d desk) CheckToken(ctx context.Context, text string) (web.Token, error) {
	var none web.Token
	id, secret, ok := strings.Cut(strings.TrimPrefix(text, "rpt_"), "_")
	_, _, e := d.m.snapshot()
	if !ok || e == nil || e.db == nil {
		return none, web.ErrLogin
	}
	value, err := e.db.Setting(ctx, tokenPrefix+id)
	if errors.Is(err, database.ErrNotFound) {
		return none, web.ErrLogin
	}
	if err != nil {
		return none, err
	}
	var k keptToken
	if err := json.Unmarshal([]byte(value), &k); err != nil {
		return none, fmt.Errorf("API token %s: %w", id, err)
	}
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(k.Hash)) != 1 || k.ExpiresMS != 0 && time.Now().UnixMilli() >= k.ExpiresMS {
		return none, web.ErrLogin
	}
	return web.Token(tokenOf(id, k)), nil
}

// Tokens implements web.Tokens.
func (d desk) Tokens(ctx context.Context) ([]web.Token, error) {
	list, err := d.faces().ListTokens(ctx)
	out := make([]web.Token, 0, len(list))
	for _, t := range list {
		out = append(out, web.Token(t))
	}
	return out, pageError(err)
}

// AddToken implements web.Tokens.
func (d desk) AddToken(ctx context.Context, name, scope string, days int, by string) (web.Token, string, error) {
	t, err := d.faces().AddToken(ctx, name, scope, days, by)
	return web.Token(t.Token), t.Text, pageError(err)
}

// RemoveToken implements web.Tokens.
func (d desk) RemoveToken(ctx context.Context, id string) (string, error) {
	return said(d.faces().RemoveToken(ctx, id))
}
