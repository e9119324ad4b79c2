package lab

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Block drops every frame from one host to another, one way, on all paths: ARP, broadcasts and
// IPv6 included. Both keep seeing everybody else.
func (l *Lab) Block(from, to string) error { return l.setBlocks(true, [2]string{from, to}) }

// Unblock lifts a Block.
func (l *Lab) Unblock(from, to string) error { return l.setBlocks(false, [2]string{from, to}) }

// Part keeps two hosts from seeing each other, both ways.
func (l *Lab) Part(a, b string) error {
	return l.setBlocks(true, [2]string{a, b}, [2]string{b, a})
}

// Join lifts a Part.
func (l *Lab) Join(a, b string) error {
	return l.setBlocks(false, [2]string{a, b}, [2]string{b, a})
}

func (l *Lab) setBlocks(on bool, pairs ...[2]string) error {
	for _, p := range pairs {
		for _, name := range p {
			if _, err := l.Host(name); err != nil {
				return err
			}
		}
		if p[0] == p[1] {
			return fmt.Errorf("block from %s to itself: name two hosts", p[0])
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range pairs {
		if on {
			l.blocks[p] = true
		} else {
			delete(l.blocks, p)
		}
	}
	return l.syncBlocks()
}

// resyncBlocks follows a port that got another name.
func (l *Lab) resyncBlocks() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.blocks) == 0 {
		return nil
	}
	return l.syncBlocks()
}

// syncBlocks makes the bridge's filter drop exactly what l.blocks says, in one transaction. Rules
// name a pair's cable and its relay port alike, so that they hold whichever is in use. The
// caller holds l.mu.
func (l *Lab) syncBlocks() error {
	c, err := nftables.New(nftables.WithNetNSFd(int(l.swtch.handle)))
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	table := &nftables.Table{Name: "poollab", Family: nftables.TableFamilyBridge}
	c.AddTable(table) // so that the deletion finds one
	c.DelTable(table)
	c.AddTable(table)
	chain := c.AddChain(&nftables.Chain{
		Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	pairs := make([][2]string, 0, len(l.blocks))
	for p := range l.blocks {
		pairs = append(pairs, p)
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for _, p := range pairs {
		for i, from := range l.hosts[p[0]].links {
			to := l.hosts[p[1]].links[i]
			for _, in := range []string{from.cable(), from.cable() + "-r"} {
				for _, out := range []string{to.cable(), to.cable() + "-r"} {
					c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: dropBetween(in, out)})
				}
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("set the bridge's filter (nftables, bridge family): %w", err)
	}
	return nil
}

// dropBetween drops what enters the bridge by one port and would leave it by another.
func dropBetween(in, out string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifName(in)},
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ifName(out)},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// ifName is an interface's name as the kernel compares it: 16 bytes, filled with zeros.
func ifName(s string) []byte {
	b := make([]byte, 16)
	copy(b, s)
	return b
}
