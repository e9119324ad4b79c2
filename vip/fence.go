package vip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// errLapsed: the fence's element had timed out before it was renewed.
var errLapsed = errors.New("vip: the fence had lapsed")

// closingTime is how long TCP to the address is answered with a reset although the address is
// still bound: the time to destroy its connections and remove it.
const closingTime = time.Second

const (
	setLease   = "lease"
	setClosing = "closing"
)

// fence owns two nftables tables named after the VIP and touches no other.
//
//	table netdev redundancypool_10.0.0.50 {    # the lease, beneath everything else
//	  set lease { type ipv4_addr; flags timeout; }
//	  chain out { type filter hook egress device eth0 priority 0;
//	    ip saddr 10.0.0.50 ip saddr != @lease tcp flags & rst == rst accept
//	    ip saddr 10.0.0.50 ip saddr != @lease drop
//	    arp saddr ip 10.0.0.50 arp saddr ip != @lease drop } }
//	table inet redundancypool_10.0.0.50 {      # clients that come to the wrong host
//	  set closing { type ipv4_addr; flags timeout; }
//	  chain in { type filter hook prerouting priority raw;
//	    iif eth0 ip daddr 10.0.0.50 fib daddr type != local meta l4proto tcp reject with tcp reset
//	    iif eth0 ip daddr @closing meta l4proto tcp reject with tcp reset } }
//
// Resets may always leave: they are what makes a client try again at once, at the new holder.
// A renewal is one batch of "delete element" and "add element": once the element has timed out
// the delete fails and the kernel refuses the batch whole, so a late renewal cannot resurrect it.
type fence struct {
	conn *nftables.Conn
}

// openFence opens nftables; keep: with a socket that stays open, for the guard. A process must
// not have one open when it dies: the kernel then waits for all readers of the rules, 10 to
// 30 ms, and with a lock that the guard needs at that moment.
func openFence(keep bool) (*fence, error) {
	var options []nftables.ConnOption
	if keep {
		options = append(options, nftables.AsLasting())
	}
	conn, err := nftables.New(options...)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &fence{conn: conn}, nil
}

func (f *fence) close() { _ = f.conn.CloseLasting() }

func tableName(a netip.Addr) string {
	return "redundancypool_" + strings.ReplaceAll(a.String(), ":", "_")
}

func leaseTable(a netip.Addr) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyNetdev, Name: tableName(a)}
}

func resetTable(a netip.Addr) *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName(a)}
}

func timeoutSet(t *nftables.Table, name string, a netip.Addr) *nftables.Set {
	s := &nftables.Set{Table: t, Name: name, HasTimeout: true, KeyType: nftables.TypeIPAddr}
	if a.Is6() {
		s.KeyType = nftables.TypeIP6Addr
	}
	return s
}

func element(a netip.Addr, timeout time.Duration) []nftables.SetElement {
	return []nftables.SetElement{{Key: a.AsSlice(), Timeout: timeout}}
}

// install makes both tables anew, for the interface with that name and index. The two errors
// are independent: without the first there is no lease in nftables, without the second no
// reset for clients that come to the wrong host.
func (f *fence) install(a netip.Addr, device string, index int) (noLease, noReset error) {
	f.remove(a)
	if err := f.installLease(a, device); err != nil {
		noLease = fmt.Errorf("install nftables egress rules: %w", err)
	}
	if err := f.installReset(a, index); err != nil {
		noReset = fmt.Errorf("install nftables reset rules: %w", err)
	}
	return noLease, noReset
}

func (f *fence) installLease(a netip.Addr, device string) error {
	t := f.conn.AddTable(leaseTable(a))
	set := timeoutSet(t, setLease, a)
	if err := f.conn.AddSet(set, nil); err != nil {
		return err
	}
	accept := nftables.ChainPolicyAccept
	out := f.conn.AddChain(&nftables.Chain{Table: t, Name: "out", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookEgress, Priority: nftables.ChainPriorityFilter, Policy: &accept, Device: device})
	from := family(a).source
	rule := func(es ...[]expr.Any) {
		f.conn.AddRule(&nftables.Rule{Table: t, Chain: out, Exprs: join(es...)})
	}
	notLeased := []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: setLease, SetID: set.ID, Invert: true}}
	drop := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}

	rule(etherType(family(a).etherType), is(from, a.AsSlice()), notLeased, tcp(), resetFlag(),
		[]expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})
	rule(etherType(family(a).etherType), is(from, a.AsSlice()), notLeased, drop)
	if a.Is4() {
		rule(etherType(unix.ETH_P_ARP), is(arpSender, a.AsSlice()), notLeased, drop)
	} else {
		rule(etherType(unix.ETH_P_IPV6), l4proto(unix.IPPROTO_ICMPV6), is(icmpType, []byte{136}), // neighbour advertisement
			is(ndTarget, a.AsSlice()), notLeased, drop)
	}
	return f.conn.Flush()
}

func (f *fence) installReset(a netip.Addr, index int) error {
	t := f.conn.AddTable(resetTable(a))
	set := timeoutSet(t, setClosing, a)
	if err := f.conn.AddSet(set, nil); err != nil {
		return err
	}
	accept := nftables.ChainPolicyAccept
	in := f.conn.AddChain(&nftables.Chain{Table: t, Name: "in", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw, Policy: &accept})
	rule := func(es ...[]expr.Any) {
		f.conn.AddRule(&nftables.Rule{Table: t, Chain: in, Exprs: join(es...)})
	}
	here := join(inputIndex(index), l3proto(family(a).nfproto), is(family(a).destination, a.AsSlice()))
	closing := []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: setClosing, SetID: set.ID}}
	reset := []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}

	rule(here, closing, tcp(), reset)
	rule(here, notLocal(), tcp(), reset)
	return f.conn.Flush()
}

// remove takes both tables away; that they are not there is no error.
func (f *fence) remove(a netip.Addr) {
	for _, t := range []*nftables.Table{leaseTable(a), resetTable(a)} {
		f.conn.DelTable(t)
		_ = f.conn.Flush() // ENOENT; anything else shows when the table is made or listed
	}
}

// present tells whether the lease's table is there.
func (f *fence) present(a netip.Addr) bool {
	t, err := f.conn.ListTableOfFamily(tableName(a), nftables.TableFamilyNetdev)
	return err == nil && t != nil
}

// admit lets the address's packets pass for b.Fence from now. With fresh they need not have
// passed before; without, errLapsed tells that the element had timed out.
func (f *fence) admit(b binding, fresh bool) error {
	if b.Fence == 0 {
		return nil
	}
	lease := timeoutSet(leaseTable(b.Address), setLease, b.Address)
	if fresh {
		if err := f.erase(timeoutSet(resetTable(b.Address), setClosing, b.Address), b.Address); err != nil {
			return err
		}
		_ = f.conn.Flush() // fails only where the kernel refused the reset rules
		if err := f.erase(lease, b.Address); err != nil {
			return err
		}
	} else if err := f.conn.SetDeleteElements(lease, element(b.Address, 0)); err != nil {
		return err
	}
	if err := f.conn.SetAddElements(lease, element(b.Address, b.Fence)); err != nil {
		return err
	}
	err := f.conn.Flush()
	if !fresh && errors.Is(err, unix.ENOENT) {
		return errLapsed
	}
	if err != nil {
		return fmt.Errorf("admit %v: %w", b.Address, err)
	}
	return nil
}

// erase adds to the batch what removes the element whether or not it is there: it is added
// first, which does nothing if it is. A batch that fails costs 10 to 30 ms, because the kernel
// waits for all readers of the rules before it undoes one.
func (f *fence) erase(s *nftables.Set, a netip.Addr) error {
	if err := f.conn.SetAddElements(s, element(a, closingTime)); err != nil {
		return err
	}
	return f.conn.SetDeleteElements(s, element(a, 0))
}

// shut stops the address's packets, resets excepted, and has TCP to it answered with a reset.
func (f *fence) shut(b binding) error {
	if err := f.conn.SetAddElements(timeoutSet(resetTable(b.Address), setClosing, b.Address), element(b.Address, closingTime)); err != nil {
		return err
	}
	errReset := f.conn.Flush()
	if b.Fence == 0 {
		return nil // without the egress hook the reset rules may be missing too
	}
	if err := f.erase(timeoutSet(leaseTable(b.Address), setLease, b.Address), b.Address); err != nil {
		return err
	}
	return errors.Join(errReset, f.conn.Flush())
}

// Parts of rules. Each leaves what it loaded in register 1.

type field struct {
	base        expr.PayloadBase
	offset, len uint32
}

type familyFields struct {
	etherType           uint16
	nfproto             byte
	source, destination field
}

var (
	arpSender = field{expr.PayloadBaseNetworkHeader, 14, 4}   // RFC 826, Ethernet and IPv4
	icmpType  = field{expr.PayloadBaseTransportHeader, 0, 1}  // RFC 4443
	ndTarget  = field{expr.PayloadBaseTransportHeader, 8, 16} // RFC 4861, 4.4
	tcpFlags  = field{expr.PayloadBaseTransportHeader, 13, 1} // RFC 9293
)

func family(a netip.Addr) familyFields {
	network := expr.PayloadBaseNetworkHeader
	if a.Is4() {
		return familyFields{unix.ETH_P_IP, unix.NFPROTO_IPV4, field{network, 12, 4}, field{network, 16, 4}}
	}
	return familyFields{unix.ETH_P_IPV6, unix.NFPROTO_IPV6, field{network, 8, 16}, field{network, 24, 16}}
}

func join(parts ...[]expr.Any) []expr.Any {
	var out []expr.Any
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func equal(data []byte) *expr.Cmp { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }

func is(f field, data []byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: f.base, Offset: f.offset, Len: f.len}, equal(data)}
}

func meta(key expr.MetaKey, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, equal(data)}
}

func etherType(t uint16) []expr.Any {
	return meta(expr.MetaKeyPROTOCOL, binary.BigEndian.AppendUint16(nil, t))
}

func l3proto(p byte) []expr.Any { return meta(expr.MetaKeyNFPROTO, []byte{p}) }
func l4proto(p byte) []expr.Any { return meta(expr.MetaKeyL4PROTO, []byte{p}) }
func tcp() []expr.Any           { return l4proto(unix.IPPROTO_TCP) }

func inputIndex(i int) []expr.Any {
	return meta(expr.MetaKeyIIF, binary.NativeEndian.AppendUint32(nil, uint32(i)))
}

func resetFlag() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: tcpFlags.base, Offset: tcpFlags.offset, Len: tcpFlags.len},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{4}, Xor: []byte{0}},
		equal([]byte{4}),
	}
}

func notLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binary.NativeEndian.AppendUint32(nil, unix.RTN_LOCAL)},
	}
}
