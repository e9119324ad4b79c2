package settings

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// FieldError says what is wrong with one field, for showing beside it.
type FieldError struct {
	Field   string `json:"field"`   // the key in the file, "peer.address"
	Code    string `json:"code"`    // stable, for programs: required, invalid, duplicate, subnet, reserved, range
	Message string `json:"message"` // what is wrong, with the value
	Fix     string `json:"fix"`     // what to do
}

func (e FieldError) Error() string { return e.Field + ": " + e.Message + ": " + e.Fix }

// Errors are all the faults of one Settings.
type Errors []FieldError

func (e Errors) Error() string {
	text := make([]string, len(e))
	for i, fe := range e {
		text[i] = fe.Error()
	}
	return strings.Join(text, "; ")
}

func (e *Errors) add(field, code, message, fix string) {
	*e = append(*e, FieldError{Field: field, Code: code, Message: message, Fix: fix})
}

// Validate checks every field by itself and against the others. It returns nil or Errors; it
// looks at nothing outside s (whether an address is this node's, or free on the wire, others ask).
func (s Settings) Validate() error {
	var e Errors
	switch s.Mode {
	case Standalone, "":
	case Master, Backup:
		s.checkPool(&e)
	default:
		e.add("mode", "invalid", fmt.Sprintf("%q is no running mode", s.Mode), "use standalone, master or backup")
	}
	s.checkTexts(&e)
	s.checkListen(&e)
	s.Timing.check(&e)
	s.Limits.check(&e)
	if len(e) > 0 {
		return e
	}
	return nil
}

// checkPool checks what a member of a pool needs.
func (s Settings) checkPool(e *Errors) {
	required(e, "local.address", s.Local.Address, "give this node's own static address")
	required(e, "peer.address", s.Peer.Address, "give the address of the other Manager")
	if s.Mode == Master {
		required(e, "arbiter.address", s.Arbiter.Address, "give the address of the Redundancy Arbiter")
	}
	if s.Mode == Backup && s.Active {
		e.add("active", "invalid", "taking Primary back by itself is decided on the Master", "clear it here and set it on the Master")
	}
	if !s.VIP.IsValid() {
		e.add("vip", "required", "the virtual IP is missing", "give a free static address with the LAN's prefix length, 10.0.0.50/24")
	}
	named := s.addresses()
	for _, a := range named {
		checkAddress(e, a)
	}
	for i, a := range named {
		for _, b := range named[:i] {
			if a.addr == b.addr && !(a.port != b.port && a.addr.IsLoopback()) {
				e.add(a.field, "duplicate", fmt.Sprintf("%v is also %s", a.addr, b.field), "every member needs an address of its own")
			}
		}
	}
	if s.VIP.IsValid() {
		s.checkVIP(e, named)
	}
	s.checkSecondPath(e)
}

// named is one address of the form.
type named struct {
	field string
	addr  netip.Addr
	port  uint16
	first bool // on the LAN of the virtual IP
}

// addresses lists those that are set.
func (s Settings) addresses() []named {
	all := []named{
		{"local.address", s.Local.Address, s.Local.MemberPort(), true},
		{"peer.address", s.Peer.Address, s.Peer.MemberPort(), true},
		{"arbiter.address", s.Arbiter.Address, s.Arbiter.MemberPort(), true},
		{"local.second", s.Local.Second, s.Local.MemberPort(), false},
		{"peer.second", s.Peer.Second, s.Peer.MemberPort(), false},
		{"arbiter.second", s.Arbiter.Second, s.Arbiter.MemberPort(), false},
	}
	set := all[:0]
	for _, a := range all {
		if a.addr.IsValid() {
			set = append(set, a)
		}
	}
	return set
}

func required(e *Errors, field string, a netip.Addr, fix string) {
	if !a.IsValid() {
		e.add(field, "required", "the address is missing", fix)
	}
}

func checkAddress(e *Errors, a named) {
	const fix = "give the static address of one host"
	switch {
	case a.addr.IsUnspecified():
		e.add(a.field, "invalid", fmt.Sprintf("%v means every address", a.addr), fix)
	case a.addr.IsMulticast(), a.addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		e.add(a.field, "invalid", fmt.Sprintf("%v is a group of hosts", a.addr), fix)
	case a.addr.Is4In6():
		e.add(a.field, "invalid", fmt.Sprintf("%v is an IPv4 address in IPv6 form", a.addr), "write "+a.addr.Unmap().String())
	}
}

func (s Settings) checkVIP(e *Errors, all []named) {
	vip := s.VIP.Addr()
	const fix = "choose a free address of the LAN, outside any DHCP range"
	switch {
	case vip.IsUnspecified(), vip.IsMulticast(), vip.IsLoopback(), vip.Is4In6():
		e.add("vip", "invalid", fmt.Sprintf("%v cannot be a virtual IP", vip), fix)
		return
	case s.VIP.Bits() == 0:
		e.add("vip", "invalid", "the prefix length is 0", "give the length of the LAN's own prefix, usually 24")
		return
	}
	network, broadcast := bounds(s.VIP)
	if wide := vip.BitLen() - s.VIP.Bits(); wide >= 2 { // RFC 3021: a /31 has neither
		switch {
		case vip == network && vip.Is4():
			e.add("vip", "reserved", fmt.Sprintf("%v is the network address of %v", vip, s.VIP.Masked()), fix)
		case vip == network:
			e.add("vip", "reserved", fmt.Sprintf("%v is the routers' anycast address of %v", vip, s.VIP.Masked()), fix)
		case vip == broadcast && vip.Is4():
			e.add("vip", "reserved", fmt.Sprintf("%v is the broadcast address of %v", vip, s.VIP.Masked()), fix)
		}
	}
	for _, a := range all {
		switch {
		case a.addr == vip:
			e.add("vip", "duplicate", fmt.Sprintf("%v is also %s", vip, a.field), "the virtual IP belongs to no node: choose another")
		case a.first && a.addr.Is4() != vip.Is4():
			e.add(a.field, "subnet", fmt.Sprintf("%v and the virtual IP %v are of different families", a.addr, vip), "use IPv4 for all or IPv6 for all")
		case a.first && !s.VIP.Contains(a.addr):
			e.add(a.field, "subnet", fmt.Sprintf("%v is outside %v, the network of the virtual IP", a.addr, s.VIP.Masked()),
				"members and virtual IP share one LAN: correct the address or the prefix length")
		case a.first && a.addr.Is4() && s.VIP.Bits() <= 30 && (a.addr == network || a.addr == broadcast):
			e.add(a.field, "reserved", fmt.Sprintf("%v is the network or broadcast address of %v", a.addr, s.VIP.Masked()), "give the address of one host")
		}
	}
}

// checkSecondPath wants the second addresses of all members or of none; a Backup may leave the
// Arbiter's to its Master.
func (s Settings) checkSecondPath(e *Errors) {
	local, peer, arbiter := s.Local.Second.IsValid(), s.Peer.Second.IsValid(), s.Arbiter.Second.IsValid()
	if !local && !peer && !arbiter {
		return
	}
	const fix = "give every member an address on the second path, or none"
	if !local {
		e.add("local.second", "required", "this node has no address on the second path", fix)
	}
	if !peer {
		e.add("peer.second", "required", "the other Manager has no address on the second path", fix)
	}
	if !arbiter && s.Mode == Master {
		e.add("arbiter.second", "required", "the Arbiter has no address on the second path", fix)
	}
}

// bounds returns the first and the last address of p.
func bounds(p netip.Prefix) (first, last netip.Addr) {
	first = p.Masked().Addr()
	raw := first.AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ = netip.AddrFromSlice(raw)
	return first, last
}

func (s Settings) checkTexts(e *Errors) {
	for _, t := range []struct {
		field, text string
		most        int
	}{
		{"name", s.Name, 64}, {"interface", s.Interface, 15}, // IFNAMSIZ is 16 with the ending zero
		{"local.symbol", s.Local.Symbol, 32}, {"local.comment", s.Local.Comment, 256},
		{"peer.symbol", s.Peer.Symbol, 32}, {"peer.comment", s.Peer.Comment, 256},
		{"arbiter.symbol", s.Arbiter.Symbol, 32}, {"arbiter.comment", s.Arbiter.Comment, 256},
	} {
		switch {
		case !utf8.ValidString(t.text) || strings.ContainsFunc(t.text, func(r rune) bool { return r < ' ' || r == 0x7f }):
			e.add(t.field, "invalid", "the text has control characters", "use printable text")
		case utf8.RuneCountInString(t.text) > t.most:
			e.add(t.field, "range", fmt.Sprintf("the text has %d characters", utf8.RuneCountInString(t.text)), fmt.Sprintf("use %d at most", t.most))
		}
	}
	if strings.ContainsAny(s.Interface, "/ \t:") || s.Interface == "." || s.Interface == ".." {
		e.add("interface", "invalid", fmt.Sprintf("%q is no name of a network interface", s.Interface), "look it up with: ip link")
	}
}

func (s Settings) checkListen(e *Errors) {
	ports := map[int]string{int(s.Local.MemberPort()): "local.port"}
	for _, l := range []struct{ field, addr string }{
		{"listen.https", s.Listen.HTTPS}, {"listen.http", s.Listen.HTTP},
		{"listen.mqtt", s.Listen.MQTT}, {"listen.mqtt_plain", s.Listen.MQTTRaw},
	} {
		if l.addr == "" {
			continue
		}
		host, port, err := splitListen(l.addr)
		if err != nil {
			e.add(l.field, "invalid", err.Error(), "write ADDRESS:PORT or :PORT, with an IP address")
			continue
		}
		if other, taken := ports[port]; taken && port != 0 {
			e.add(l.field, "duplicate", fmt.Sprintf("port %d is also %s", port, other), "give each server a port of its own")
		}
		ports[port] = l.field
		if l.field == "listen.http" && !host.IsLoopback() {
			e.add(l.field, "invalid", fmt.Sprintf("%s is not on loopback, and there is no encryption on it", l.addr),
				"use 127.0.0.1:PORT; other addresses are served by listen.https")
		}
	}
}

// splitListen reads "host:port"; an empty host gives the invalid Addr.
func splitListen(text string) (netip.Addr, int, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q is no address with a port", text)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q has no port between 0 and 65535", text)
	}
	if host == "" {
		return netip.Addr{}, int(n), nil
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q has no IP address before the port", text)
	}
	return a, int(n), nil
}

func (t Timing) check(e *Errors) {
	for _, d := range []struct {
		field       string
		value       time.Duration
		least, most time.Duration
	}{
		{"heartbeat_period", t.HeartbeatPeriod, 5 * time.Millisecond, 10 * time.Second},
		{"heartbeat_timeout", t.HeartbeatTimeout, 5 * time.Millisecond, time.Minute},
		{"connect_timeout", t.ConnectTimeout, 50 * time.Millisecond, time.Minute},
		{"long_lived_timeout", t.LongLivedTimeout, 100 * time.Millisecond, 10 * time.Minute},
		{"connection_wait", t.ConnectionWait, 0, time.Hour},
		{"stability_delay", t.StabilityDelay, 0, 24 * time.Hour},
		{"disk_timeout", t.DiskTimeout, 50 * time.Millisecond, time.Minute},
		{"hold_timeout", t.HoldTimeout, 50 * time.Millisecond, time.Minute},
		{"announce_interval", t.AnnounceInterval, 10 * time.Millisecond, time.Minute},
		{"announce_period", t.AnnouncePeriod, time.Second, 24 * time.Hour},
	} {
		if d.value < d.least || d.value > d.most {
			e.add("timing."+d.field, "range", fmt.Sprintf("%v is outside sense", d.value), fmt.Sprintf("use %v to %v", d.least, d.most))
		}
	}
	countRange(e, "timing.missed_heartbeats", t.MissedHeartbeats, 1, 1000)
	countRange(e, "timing.announce_count", t.AnnounceCount, 1, 100)
	if t.StandbyActivity != Cold && t.StandbyActivity != Warm {
		e.add("timing.standby_activity", "invalid", fmt.Sprintf("%q is no standby activity level", t.StandbyActivity), "use cold or warm")
	}
}

func (l Limits) check(e *Errors) {
	countRange(e, "limits.field_units", l.FieldUnits, 1, 1_000_000)
	countRange(e, "limits.browsers", l.Browsers, 1, 100_000)
	countRange(e, "limits.journal_mib", l.JournalMiB, 1, 1<<20)
}

func countRange(e *Errors, field string, n, least, most int) {
	if n < least || n > most {
		e.add(field, "range", fmt.Sprintf("%d is outside sense", n), fmt.Sprintf("use %d to %d", least, most))
	}
}
