package arbiter

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/netip"

	"redundancypool/manager/pool"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/trust"
)

// AcceptPairing answers MethodPair on the node that issued the token: when the caller proves that
// it was given the token, it is approved in the role it names, and gets the counter-proof. The
// Managers use it as well.
func AcceptPairing(s *trust.Store, c *transport.Conn, body []byte, self pool.Role, name string) (any, error) {
	var q pool.PairRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, transport.Refuse("malformed", "pairing message cannot be read: %v", err)
	}
	if q.Role != pool.Master {
		return nil, transport.Refuse("wrong_role", "only a Master pairs with this node, not a %v", q.Role)
	}
	fp, err := trust.Peer(c.TLS())
	if err != nil {
		return nil, err
	}
	binding, err := trust.Binding(c.TLS())
	if err != nil {
		return nil, err
	}
	proof, err := s.Pair(binding, q.Proof, trust.PeerRecord{Fingerprint: fp, Role: q.Role.String(), Name: q.Name, Address: hostOf(c)})
	if err != nil {
		return nil, transport.Refuse("pairing", "%v", err)
	}
	return pool.PairAnswer{Proof: proof, Role: self, Name: name}, nil
}

// Pair proves to the node at addr that this one was given its token, checks that it is the node
// that made it, and approves it in the role it has.
func Pair(ctx context.Context, s *trust.Store, d *transport.Dialer, addr netip.AddrPort, token trust.Token, self pool.Role, name string) (pool.PairAnswer, error) {
	text, err := token.Fingerprint.MarshalText()
	if err != nil {
		return pool.PairAnswer{}, err
	}
	var binding []byte
	var ans pool.PairAnswer
	err = d.Call(ctx, addr.String(), string(text), transport.Hello{Method: pool.MethodPair},
		func(cs tls.ConnectionState) (any, error) {
			var err error
			if binding, err = trust.Binding(cs); err != nil {
				return nil, err
			}
			return pool.PairRequest{Proof: token.ClientProof(binding, s.Fingerprint()), Role: self, Name: name}, nil
		}, &ans)
	if err != nil {
		return pool.PairAnswer{}, err
	}
	if err := token.CheckServer(binding, s.Fingerprint(), ans.Proof); err != nil {
		return pool.PairAnswer{}, fmt.Errorf("node at %v: %w", addr, err)
	}
	return ans, s.Approve(trust.PeerRecord{
		Fingerprint: token.Fingerprint, Role: ans.Role.String(), Name: ans.Name, Address: addr.String(), How: trust.ByToken,
	})
}
