package manager

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"redundancypool/manager/settings"
	"redundancypool/vip"
)

// verifyHost looks at this host: addresses, routers, rights, ports, clock, saves. It sends nothing.
func (m *Manager) verifyHost(old, s settings.Settings, f *findings) {
	m.verifyListeners(old, s, f)
	verifyClock(f)
	m.verifySaved(f)
	if s.Mode == settings.Standalone || s.Mode == "" {
		return
	}
	verifyReachableFromAll(s, f)
	if err := vip.Permitted(); err != nil {
		f.add("bind_right", "vip", "", failed, err.Error(), "run the Manager as root or give it CAP_NET_ADMIN and CAP_NET_RAW")
	} else {
		f.add("bind_right", "vip", "", ok, "this Manager may bind addresses and send raw frames", "")
	}
	verifyLocal(s, f)
	verifyGateway(s, f)
	m.verifyNotOwn(s, f)
	if s.VIP.IsValid() {
		f.add("outside_dhcp", "vip", "", unknown, fmt.Sprintf("whether %v lies outside every DHCP range cannot be seen from here", s.VIP.Addr()), "look it up at the DHCP server")
	}
}

func verifyLocal(s settings.Settings, f *findings) {
	if !s.Local.Address.IsValid() {
		return // the form says so
	}
	all, err := vip.LocalAddresses()
	if err != nil {
		f.add("local_address", "local.address", "", unknown, err.Error(), "")
		return
	}
	i := slices.IndexFunc(all, func(a vip.LocalAddress) bool { return a.Address.Addr() == s.Local.Address })
	if i < 0 {
		f.add("local_address", "local.address", "", failed, fmt.Sprintf("this host has no address %v", s.Local.Address), "choose one of this host's addresses")
		return
	}
	a := all[i]
	if a.Up {
		f.add("local_address", "local.address", "", ok, fmt.Sprintf("%v is on %s", a.Address, a.Interface), "")
	} else {
		f.add("local_address", "local.address", "", failed, fmt.Sprintf("%s, which has %v, is down or has no carrier", a.Interface, a.Address), "plug the cable in, or bring it up with: ip link set "+a.Interface+" up")
	}
	if a.Dynamic {
		f.add("local_static", "local.address", "", warning, fmt.Sprintf("%v on %s has a limited lifetime, as one from DHCP", s.Local.Address, a.Interface), "give this host a static address")
	} else {
		f.add("local_static", "local.address", "", ok, fmt.Sprintf("%v is static", s.Local.Address), "")
	}
	if s.Interface != "" && s.Interface != a.Interface {
		text, result := fmt.Sprintf("the virtual IP goes to %s, and the local address is on %s", s.Interface, a.Interface), warning
		if !slices.ContainsFunc(all, func(a vip.LocalAddress) bool { return a.Interface == s.Interface }) {
			text, result = fmt.Sprintf("this host has no interface %s", s.Interface), failed
		}
		f.add("interface", "interface", "", result, text, "leave it empty: then it is the interface of the local address")
	} else {
		f.add("interface", "interface", "", ok, fmt.Sprintf("the virtual IP goes to %s", a.Interface), "")
	}
}

// verifyNotOwn finds the virtual IP among the addresses that somebody gave this host; as the
// Manager itself binds it, it has a prefix of its own and a limited lifetime.
func (m *Manager) verifyNotOwn(s settings.Settings, f *findings) {
	all, err := vip.LocalAddresses()
	if err != nil || !s.VIP.IsValid() {
		return // verifyLocal tells
	}
	i := slices.IndexFunc(all, func(a vip.LocalAddress) bool {
		return a.Address.Addr() == s.VIP.Addr() && !(a.Dynamic && a.Address.IsSingleIP())
	})
	if i >= 0 {
		f.add("not_own", "vip", "", failed, fmt.Sprintf("%v is an address of this host already, on %s", all[i].Address, all[i].Interface), "remove it from this host's network settings, or choose a free address: only the Primary may bind the virtual IP")
		return
	}
	f.add("not_own", "vip", "", ok, fmt.Sprintf("%v is none of this host's own addresses", s.VIP.Addr()), "")
}

func verifyGateway(s settings.Settings, f *findings) {
	if !s.VIP.IsValid() {
		return
	}
	all, err := vip.Gateways()
	switch {
	case err != nil:
		f.add("not_gateway", "vip", "", unknown, err.Error(), "")
	case slices.Contains(all, s.VIP.Addr()):
		f.add("not_gateway", "vip", "", failed, fmt.Sprintf("%v is a gateway of this host", s.VIP.Addr()), "choose a free address: with the router's the whole LAN would lose its way out")
	default:
		f.add("not_gateway", "vip", "", ok, fmt.Sprintf("%v is no gateway of this host", s.VIP.Addr()), "")
	}
}

// listener is one server of this node by its setting.
type listener struct{ field, title, addr string }

// listeners lists those that are configured; what the command line gives stands above the settings.
func (m *Manager) listeners(s settings.Settings) []listener {
	all := []listener{
		{"local.port", "the pool port", fmt.Sprintf(":%d", s.Local.MemberPort())},
		{"listen.https", "HTTPS", s.Listen.HTTPS}, {"listen.http", "HTTP", s.Listen.HTTP},
		{"listen.mqtt", "MQTT with TLS", s.Listen.MQTT}, {"listen.mqtt_plain", "MQTT without TLS", s.Listen.MQTTRaw},
	}
	for i, over := range []string{m.cfg.PoolListen, m.cfg.ListenHTTPS, m.cfg.ListenHTTP} {
		if over != "" {
			all[i].addr = over
		}
	}
	return slices.DeleteFunc(all, func(l listener) bool { return l.addr == "" })
}

// verifyListeners tries the ports that would be new. One that this process has now is not tried.
func (m *Manager) verifyListeners(old, s settings.Settings, f *findings) {
	now := map[string]string{} // who has which port now
	for _, l := range m.listeners(old) {
		now[portOf(l.addr)] = l.field
	}
	for _, l := range m.listeners(s) {
		port := portOf(l.addr)
		if now[port] == l.field || port == "0" {
			continue
		}
		ln, err := net.Listen("tcp", l.addr)
		switch {
		case err == nil:
			ln.Close()
			f.add("port_free", l.field, "", ok, fmt.Sprintf("%s can listen on %s", l.title, l.addr), "")
		case now[port] != "":
			f.add("port_free", l.field, "", failed, fmt.Sprintf("port %s is %s's until the change", port, now[port]), "change the two ports one after the other")
		case errors.Is(err, syscall.EADDRINUSE):
			f.add("port_free", l.field, "", failed, fmt.Sprintf("port %s is in use by another program", port), "stop that one, or choose another port")
		default:
			f.add("port_free", l.field, "", failed, fmt.Sprintf("%s cannot listen on %s: %v", l.title, l.addr, err), "use an address of this host, or :PORT for all")
		}
	}
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return port
}

// verifyReachableFromAll finds servers of the virtual IP that listen on one address of one node:
// clients of the virtual IP would not find them there.
func verifyReachableFromAll(s settings.Settings, f *findings) {
	well := true
	for _, l := range []struct {
		field, addr, who string
		result           string
	}{
		{"listen.mqtt", s.Listen.MQTT, "field units", failed}, {"listen.mqtt_plain", s.Listen.MQTTRaw, "field units", failed},
		{"listen.https", s.Listen.HTTPS, "browsers", warning},
	} {
		host, port, err := net.SplitHostPort(l.addr)
		if err != nil || host == "" {
			continue
		}
		if a, err := netip.ParseAddr(host); err == nil && !a.IsUnspecified() {
			well = false
			f.add("only_this_node", l.field, "", l.result, fmt.Sprintf("%s listens on %s alone: %s at the virtual IP do not reach it", l.field, host, l.who), "write :"+port)
		}
	}
	if well {
		f.add("only_this_node", "", "", ok, "the servers for clients of the virtual IP listen on all addresses", "")
	}
}

// clockState is what the kernel says of this node's clock.
type clockState struct {
	Known        bool
	Synchronised bool
	MaxError     time.Duration
}

// readClock asks the kernel (adjtimex(2)); reading needs no privilege.
func readClock() clockState {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return clockState{}
	}
	return clockState{Known: true, Synchronised: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, MaxError: time.Duration(t.Maxerror) * time.Microsecond}
}

func verifyClock(f *findings) {
	switch c := readClock(); {
	case !c.Known:
		f.add("clock_synchronised", "", "", unknown, "the kernel does not say whether this node's clock is synchronised", "")
	case c.Synchronised:
		f.add("clock_synchronised", "", "", ok, fmt.Sprintf("this node's clock is synchronised, to within %v", c.MaxError.Round(time.Millisecond)), "")
	default:
		f.add("clock_synchronised", "", "", warning, "the kernel says that this node's clock is not synchronised", "run chrony, systemd-timesyncd or another NTP client")
	}
}

func (m *Manager) verifySaved(f *findings) {
	all, err := m.listSaves()
	switch {
	case err != nil:
		f.add("database_saved", "", "", unknown, err.Error(), "")
	case len(all) == 0:
		f.add("database_saved", "", "", warning, "the database has not been saved yet", "Save does it first; or press “Save now” on the page Database")
	default:
		f.add("database_saved", "", "", ok, fmt.Sprintf("the database was last saved at %s, to %s", all[0].At.In(time.Local).Format("2006-01-02 15:04:05 MST"), all[0].Name), "")
	}
}
