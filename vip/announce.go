package vip

import (
	"bytes"
	"fmt"
	"net"
)

// startBurst announces the address at once and has the rest of a burst follow.
func (l *Lease) startBurst() {
	l.burst = 0
	l.continueBurst()
}

// continueBurst sends the next announcement of the burst, or the periodic one after it.
func (l *Lease) continueBurst() {
	if !l.bound {
		return
	}
	l.send()
	l.burst++
	next := l.k.cfg.AnnouncePeriod
	if l.burst < l.k.cfg.AnnounceCount {
		next = burst(l.burst, l.k.cfg.AnnounceInterval)
	}
	l.timer.Reset(next)
}

// send makes one announcement if the address is still ours: a late one would steal it back.
func (l *Lease) send() {
	if l.right.ended() {
		return
	}
	if err := l.wire.announce(l.ifi.HardwareAddr); err != nil {
		l.k.log.Warn("announcement failed", "address", l.bind.Address, "error", err)
	}
}

// claimed acts on another host's claim while the address is held.
func (l *Lease) claimed(mac net.HardwareAddr) {
	if bytes.Equal(mac, l.ifi.HardwareAddr) {
		return
	}
	l.conflict(mac)
}

// conflict makes a claim known and defends the address, once it is bound, as often as RFC 5227
// allows. Each event is one defence, begun or due, so a claimer that insists does not flood.
func (l *Lease) conflict(mac net.HardwareAddr) {
	peer := l.right.heldBy(mac)
	l.k.noteConflict(mac, peer)
	d, who := &l.strangers, "a stranger"
	if peer {
		d, who = &l.peers, "the other Manager"
	}
	fresh := d.due == 0
	now := d.claim(Now())
	if fresh {
		l.k.event(Event{Kind: EventConflict, MAC: mac, Text: fmt.Sprintf("%s, %v, claims the address", who, mac)})
	}
	if now && l.bound {
		l.defend(mac)
	}
}

// defend announces the address because of a conflict, once.
func (l *Lease) defend(mac net.HardwareAddr) {
	l.send()
	l.k.event(Event{Kind: EventDefended, MAC: mac, Text: "the address was announced again because of a conflicting claim"})
}
