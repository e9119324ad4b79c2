// Package settings holds this node's own settings: its role, its addresses and ports, the times
// it works by. They stand in one TOML file that a person may edit while the Manager is stopped,
// are validated as a whole, and are never replicated: what both Managers share lives in the
// database.
//
// A second small file keeps how far the forming of a pool has come, so that a restart in the
// middle neither forgets the deadline nor the reason of a fall back.
//
// It opens no connection and changes nothing outside the data folder. The composer loads and
// saves; the pages and the command line show its FieldErrors next to the fields.
package settings

import (
	"net/netip"
	"time"
)

// FileName is the settings file inside the data folder.
const FileName = "settings.toml"

// DefaultPoolPort is the one port that members use among one another.
const DefaultPoolPort = 8099

// Mode is the configured role of a Manager.
type Mode string

// The modes. The zero value is read as Standalone.
const (
	Standalone Mode = "standalone"
	Master     Mode = "master"
	Backup     Mode = "backup"
)

// Activity is what a Manager that is Online does about the devices.
type Activity string

// The standby activity levels.
const (
	Cold Activity = "cold" // no collection
	Warm Activity = "warm" // connected and reading, nothing processed or stored
)

// Settings are one node's own settings. Compare with == to see whether a restart is needed.
type Settings struct {
	// Name is shown to people and free to change: nothing is keyed by it. Empty: unnamed.
	Name string `toml:"name"`
	Mode Mode   `toml:"mode"`
	// Deactivated leaves all values in place but lets the node work alone (maintenance).
	Deactivated bool `toml:"deactivated"`
	// Active lets the Master take Primary back by itself once it is up, in step and stable.
	// Cleared, the Backup stays Primary until someone hands over.
	Active bool `toml:"active"`
	// VIP is the virtual IP with the length of the LAN's prefix; Interface carries it.
	VIP       netip.Prefix `toml:"vip"`
	Interface string       `toml:"interface"`

	Local   Member `toml:"local"`   // this node
	Peer    Member `toml:"peer"`    // the other Manager: the Backup of a Master, the Master of a Backup
	Arbiter Member `toml:"arbiter"` // on the Master only: the Backup learns it from the Master

	Listen Listen `toml:"listen"`
	Timing Timing `toml:"timing"`
	Limits Limits `toml:"limits"`
}

// Member is how one member of the pool is reached, and what people call it.
type Member struct {
	Address netip.Addr `toml:"address"`
	Port    uint16     `toml:"port"`
	// Second is the member's address on the optional second path; the port is the same.
	Second  netip.Addr `toml:"second"`
	Symbol  string     `toml:"symbol"`
	Comment string     `toml:"comment"`
}

// Listen says where this node's servers listen: "host:port" or ":port", empty for not at all.
// The pool port is Local.Port.
type Listen struct {
	HTTPS   string `toml:"https"`
	HTTP    string `toml:"http"` // without TLS: on loopback only
	MQTT    string `toml:"mqtt"` // with TLS, on the Primary
	MQTTRaw string `toml:"mqtt_plain"`
}

// Timing are the times that the members work by. How they must relate to one another the pool
// itself checks; here each one is only kept within sense.
type Timing struct {
	HeartbeatPeriod  time.Duration `toml:"heartbeat_period"`
	HeartbeatTimeout time.Duration `toml:"heartbeat_timeout"`
	MissedHeartbeats int           `toml:"missed_heartbeats"`
	ConnectTimeout   time.Duration `toml:"connect_timeout"`
	LongLivedTimeout time.Duration `toml:"long_lived_timeout"`
	ConnectionWait   time.Duration `toml:"connection_wait"`
	StabilityDelay   time.Duration `toml:"stability_delay"`
	DiskTimeout      time.Duration `toml:"disk_timeout"`
	HoldTimeout      time.Duration `toml:"hold_timeout"`
	// The virtual IP is announced AnnounceCount times, AnnounceInterval apart, when it is bound,
	// and every AnnouncePeriod after that.
	AnnounceCount    int           `toml:"announce_count"`
	AnnounceInterval time.Duration `toml:"announce_interval"`
	AnnouncePeriod   time.Duration `toml:"announce_period"`
	StandbyActivity  Activity      `toml:"standby_activity"`
}

// Limits bound what this node admits, so that a small machine stays in service.
type Limits struct {
	FieldUnits int `toml:"field_units"` // connections of field units
	Browsers   int `toml:"browsers"`    // pages with live updates
	JournalMiB int `toml:"journal_mib"` // disk space of this node's own events
}

// Default returns the settings of a new node: Standalone, no addresses.
func Default() Settings {
	return Settings{
		Mode:    Standalone,
		Local:   Member{Port: DefaultPoolPort},
		Peer:    Member{Port: DefaultPoolPort},
		Arbiter: Member{Port: DefaultPoolPort},
		Listen:  Listen{HTTPS: ":8443", HTTP: "127.0.0.1:8080", MQTT: ":8883"},
		Timing: Timing{
			HeartbeatPeriod:  25 * time.Millisecond,
			HeartbeatTimeout: 50 * time.Millisecond,
			MissedHeartbeats: 12,
			ConnectTimeout:   2 * time.Second,
			LongLivedTimeout: 2 * time.Second,
			ConnectionWait:   3 * time.Second,
			StabilityDelay:   30 * time.Second,
			DiskTimeout:      time.Second,
			HoldTimeout:      500 * time.Millisecond,
			AnnounceCount:    5,
			AnnounceInterval: 300 * time.Millisecond,
			AnnouncePeriod:   30 * time.Second,
			StandbyActivity:  Cold,
		},
		Limits: Limits{FieldUnits: 10000, Browsers: 200, JournalMiB: 16},
	}
}

// MemberPort returns m's pool port, the default one where none is set.
func (m Member) MemberPort() uint16 {
	if m.Port == 0 {
		return DefaultPoolPort
	}
	return m.Port
}

// AddrPort returns where m is reached on the first path; invalid when m has no address.
func (m Member) AddrPort() netip.AddrPort {
	if !m.Address.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(m.Address, m.MemberPort())
}

// SecondAddrPort returns where m is reached on the second path; invalid when it has none.
func (m Member) SecondAddrPort() netip.AddrPort {
	if !m.Second.IsValid() {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(m.Second, m.MemberPort())
}
