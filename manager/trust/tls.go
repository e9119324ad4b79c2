package trust

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
)

// ErrNoPeer is returned by Peer when the other side showed no certificate or the handshake is
// not complete.
var ErrNoPeer = errors.New("trust: the peer showed no certificate")

// PeerError reports that the other side of a connection has another key than expected.
type PeerError struct {
	Want, Got Fingerprint
}

func (e *PeerError) Error() string {
	if e.Want.IsZero() {
		return fmt.Sprintf("trust: no fingerprint was expected, the peer has %v: approve it first", e.Got)
	}
	return fmt.Sprintf("trust: the peer has fingerprint %v, expected %v: another node answers at this address, "+
		"or the peer was installed anew and must be approved again", e.Got, e.Want)
}

// ClientTLS returns a configuration for connecting to the member whose fingerprint is expect;
// the handshake fails with a PeerError for every other, and for all when expect is zero.
// The caller owns the result and may set NextProtos.
func (s *Store) ClientTLS(expect Fingerprint) *tls.Config {
	c := s.baseTLS()
	c.InsecureSkipVerify = true // names and dates are not looked at: the key is pinned just below
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		got, err := Peer(cs)
		if err != nil {
			return err
		}
		if expect.IsZero() || got != expect {
			return &PeerError{Want: expect, Got: got}
		}
		return nil
	}
	return c
}

// ProbeTLS returns a configuration that connects to any member, whoever it is: for showing its
// fingerprint to a person, and nothing else. Before anything is believed, the caller must
// compare Peer with what it expects.
func (s *Store) ProbeTLS() *tls.Config {
	c := s.baseTLS()
	c.InsecureSkipVerify = true // by design: see above
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := Peer(cs)
		return err
	}
	return c
}

// ServerTLS returns a configuration for the pool port. Every client must show a certificate and
// prove that it owns the key; whose it is the caller asks with Peer, and then Approved.
func (s *Store) ServerTLS() *tls.Config {
	c := s.baseTLS()
	c.ClientAuth = tls.RequireAnyClientCert
	c.SessionTicketsDisabled = true
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := Peer(cs)
		return err
	}
	return c
}

func (s *Store) baseTLS() *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{s.cert},
	}
}

// Peer returns the fingerprint of the other side of an established connection.
// Error: ErrNoPeer.
func Peer(cs tls.ConnectionState) (Fingerprint, error) {
	if len(cs.PeerCertificates) == 0 {
		return Fingerprint{}, ErrNoPeer
	}
	return sha256.Sum256(cs.PeerCertificates[0].RawSubjectPublicKeyInfo), nil
}

// bindingLabel names the keying material that ties a pairing proof to its connection (RFC 5705,
// RFC 9266), so that a proof cannot be carried over to another one.
const bindingLabel = "EXPORTER-redundancypool-pairing"

// Binding returns 32 bytes that are the same at both ends of this connection and different on
// every other.
func Binding(cs tls.ConnectionState) ([]byte, error) {
	b, err := cs.ExportKeyingMaterial(bindingLabel, nil, 32)
	if err != nil {
		return nil, fmt.Errorf("trust: bind the pairing to its connection: %w", err)
	}
	return b, nil
}
