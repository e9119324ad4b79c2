package manager

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"redundancypool/arbiter"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
)

// bound is where this process listens, apart from the field units' ports, which are the Primary's.
type bound struct {
	pool, http, https string
	browsers          int
}

func (m *Manager) wantsBound(s settings.Settings) bound {
	b := bound{http: s.Listen.HTTP, https: s.Listen.HTTPS, browsers: s.Limits.Browsers}
	for _, l := range m.listeners(s) {
		switch l.field {
		case "local.port":
			b.pool = l.addr
		case "listen.http":
			b.http = l.addr
		case "listen.https":
			b.https = l.addr
		}
	}
	return b
}

// listen opens the pool port and the pages.
func (m *Manager) listen() error {
	want := m.wantsBound(m.settings)
	if err := m.openPort(want); err != nil {
		return err
	}
	if err := m.openPages(want); err != nil {
		return err
	}
	m.bound = want
	return nil
}

func (m *Manager) openPort(want bound) error {
	ln, err := net.Listen("tcp", want.pool)
	if err != nil {
		return fmt.Errorf("listen on the pool port %s: %w; choose another with --pool-listen, or stop what uses it", want.pool, err)
	}
	m.port = transport.NewPort(ln, transport.PortConfig{TLS: m.trust.ServerTLS(), Fingerprint: arbiter.PeerFingerprint, Refused: m.refusedPeer, Log: m.log})
	m.registerCalls()
	return nil
}

// relisten moves the listeners to where the settings want them now; no engine runs meanwhile. What
// cannot be opened stays where it was, and is an event.
func (m *Manager) relisten() {
	s, _, _ := m.snapshot()
	want, now := m.wantsBound(s), m.bound
	if want == now {
		return
	}
	if want.pool != now.pool {
		err := m.movePort(want)
		if err != nil {
			want.pool = now.pool
		}
		m.listened("the pool port", err)
	}
	if want.http != now.http || want.https != now.https || want.browsers != now.browsers {
		err := m.pages.Close()
		if e := m.openPages(want); e != nil {
			err = errors.Join(err, e, m.openPages(now))
			want.http, want.https, want.browsers = now.http, now.https, now.browsers
		}
		m.listened("the pages", err)
	}
	m.bound = want
}

// movePort serves the pool port at its new place, and nowhere else.
func (m *Manager) movePort(want bound) error {
	port, err := strconv.ParseUint(portOf(want.pool), 10, 16)
	if err != nil {
		return err
	}
	if !m.port.Listens(uint16(port)) {
		ln, err := net.Listen("tcp", want.pool)
		if err != nil {
			return err
		}
		if err := m.port.Listen(ln); err != nil {
			return err
		}
	}
	return m.port.Keep(uint16(port))
}

func (m *Manager) listened(what string, err error) {
	if err != nil {
		m.log.Error("moving a listener", "what", what, "error", err)
		m.event(journal.Error, "node", "listen_failed", what+" cannot be moved and stay where they were: "+err.Error(), nil)
	}
}
