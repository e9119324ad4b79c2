package control

import (
	"context"
	"encoding/json"
)

// Tokens are what programs log in with to the API.
type Tokens interface {
	// AddToken makes a token with the scope "read" or "operate" that expires after so many days; 0:
	// never. Its text is in the answer and nowhere else.
	AddToken(ctx context.Context, name, scope string, days int, by string) (NewToken, error)
	// ListTokens returns them, oldest first, without their texts.
	ListTokens(ctx context.Context) ([]Token, error)
	RemoveToken(ctx context.Context, id string) (Done, error)
}

// Token is one of them.
type Token struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Scope     string `json:"scope"`
	By        string `json:"by"` // who made it
	CreatedMS int64  `json:"created_ms"`
	ExpiresMS int64  `json:"expires_ms"` // 0: never
}

// NewToken is a token with its text.
type NewToken struct {
	Token
	Text string `json:"token"`
}

type tokenRequest struct {
	Name  string `json:"name,omitempty"`
	Scope string `json:"scope,omitempty"`
	Days  int    `json:"days,omitempty"`
	By    string `json:"by,omitempty"`
}

func tokenOps(m Manager) map[string]Handler {
	return map[string]Handler{
		"api-token/add": func(ctx context.Context, in json.RawMessage, _ func(any) error) (any, error) {
			var r tokenRequest
			if err := decodeRequest(in, &r); err != nil {
				return nil, err
			}
			return m.AddToken(ctx, r.Name, r.Scope, r.Days, r.By)
		},
		"api-token/list":   simple(func(ctx context.Context, _ request) (any, error) { return m.ListTokens(ctx) }),
		"api-token/remove": simple(func(ctx context.Context, r request) (any, error) { return m.RemoveToken(ctx, r.Name) }),
	}
}

// AddToken implements Tokens.
func (r *Remote) AddToken(ctx context.Context, name, scope string, days int, by string) (NewToken, error) {
	return call[NewToken](ctx, r, "api-token/add", tokenRequest{Name: name, Scope: scope, Days: days, By: by})
}

// ListTokens implements Tokens.
func (r *Remote) ListTokens(ctx context.Context) ([]Token, error) {
	return call[[]Token](ctx, r, "api-token/list", request{})
}

// RemoveToken implements Tokens.
func (r *Remote) RemoveToken(ctx context.Context, id string) (Done, error) {
	return call[Done](ctx, r, "api-token/remove", request{Name: id})
}
