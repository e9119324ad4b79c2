package trust

import (
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"time"
)

// TokenValidity is how long a token can be used after it was made, unless NewToken is told
// otherwise: long enough to walk from one machine to the other, short enough to be forgotten.
const TokenValidity = time.Hour

// maxWrong is how many wrong proofs burn a token.
const maxWrong = 5

var (
	// ErrNoToken is returned by Pair when no token was made, or the last one was used.
	ErrNoToken = errors.New("no pairing token is valid here: make a new one on the node to be joined")
	// ErrTokenExpired is returned by Pair when the token's validity is over.
	ErrTokenExpired = errors.New("the pairing token has expired: make a new one on the node to be joined")
	// ErrTokenBurnt is returned by Pair after too many wrong proofs.
	ErrTokenBurnt = errors.New("the pairing token was burnt by wrong tries: make a new one on the node to be joined")
	// ErrWrongProof is returned when the other side does not know the token.
	ErrWrongProof = errors.New("the pairing token does not match: copy the newest one again")
)

// tokenState is what trust.json keeps of a token: never the secret itself.
type tokenState struct {
	Key     []byte    `json:"key"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires"`
	Wrong   int       `json:"wrong"`
}

// NewToken makes a token that replaces any earlier one. It is valid once, for the given time
// (zero: TokenValidity), also after a restart. It returns once the token is on disk.
func (s *Store) NewToken(validity time.Duration) (Token, error) {
	if validity < 0 {
		return Token{}, fmt.Errorf("trust: a token's validity cannot be %v", validity)
	}
	if validity == 0 {
		validity = TokenValidity
	}
	t := Token{Fingerprint: s.fp}
	if _, err := rand.Read(t.secret[:]); err != nil {
		return Token{}, fmt.Errorf("trust: make token: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	next := s.state
	next.Token = &tokenState{Key: t.proofKey(), Created: now, Expires: now.Add(validity)}
	if err := s.save(next); err != nil {
		return Token{}, err
	}
	s.wrong = 0
	return t, nil
}

// TokenPending reports whether a token is valid now, and until when.
func (s *Store) TokenPending() (until time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usableToken() != nil {
		return time.Time{}, false
	}
	return s.state.Token.Expires, true
}

// RevokeToken ends the validity of the token, if there is one.
func (s *Store) RevokeToken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Token == nil {
		return nil
	}
	next := s.state
	next.Token = nil
	return s.save(next)
}

// Pair checks the proof of a client that was given this node's token. When it is right, the
// client is approved as its record says, the token is used up (both in one durable write), and
// the answer that proves this node's knowledge is returned: see Token.CheckServer.
//
// binding is Binding of the connection, client.Fingerprint is Peer of it. A wrong proof counts
// against the token. Errors: ErrNoToken, ErrTokenExpired, ErrTokenBurnt, ErrWrongProof, or a failed write.
func (s *Store) Pair(binding, got []byte, client PeerRecord) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usableToken(); err != nil {
		return nil, err
	}
	key := s.state.Token.Key
	if !hmac.Equal(proof(key, "client", binding, client.Fingerprint, s.fp), got) {
		return nil, s.countWrong()
	}
	client.How = ByToken
	next, err := s.withPeer(client)
	if err != nil {
		return nil, err
	}
	next.Token = nil
	if err := s.save(next); err != nil {
		return nil, err
	}
	return proof(key, "server", binding, client.Fingerprint, s.fp), nil
}

// usableToken returns why the token cannot be used, or nil; s.mu is held.
func (s *Store) usableToken() error {
	t := s.state.Token
	switch now := s.now(); {
	case t == nil:
		return ErrNoToken
	case s.wrong >= maxWrong:
		return ErrTokenBurnt
	case now.After(t.Expires), now.Before(t.Created.Add(-t.Expires.Sub(t.Created))): // the clock was set back far
		return ErrTokenExpired
	}
	return nil
}

// countWrong counts in memory first, so that a disk that refuses gives no free tries; s.mu is held.
func (s *Store) countWrong() error {
	s.wrong++
	next := s.state
	t := *s.state.Token
	t.Wrong = s.wrong
	next.Token = &t
	if err := s.save(next); err != nil {
		return errors.Join(ErrWrongProof, err)
	}
	if s.wrong >= maxWrong {
		return ErrTokenBurnt
	}
	return ErrWrongProof
}
