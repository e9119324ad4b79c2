package web

// described is how the form names and explains each key of the settings.
var described = map[string]struct{ label, help, kind string }{
	"mode":          {"Running mode", "", ""},
	"active":        {"Active", "", "bool"},
	"name":          {"Node name", "Shown to people. Free to change: no data are keyed by it.", "text"},
	"local.address": {"Local address", "This node's own static address in the LAN of the virtual IP.", "choice"},
	"peer.address":  {"Master address", "The other Manager.", "text"},
	"arbiter.address": {"Arbiter address", "The machine of the Redundancy Arbiter. It must be newly installed or reset.",
		"text"},
	"vip":             {"Virtual IP", "A free static address in the same subnet. It moves to whichever Manager is Primary.", "text"},
	"pairing":         {"Pairing token of the Backup", "Shown on the Backup's waiting page. Used once. Empty: its fingerprint is compared and approved on both sides after Save.", "text"},
	"arbiter_pairing": {"Pairing token of the Arbiter", "Printed by “arbiter token” there. Used once. Empty: its fingerprint is approved here, and this node's there by “arbiter approve”.", "text"},
	"interface":       {"Interface of the virtual IP", "Empty: the one that has the local address.", "text"},

	"local.port": {"Pool port of this node", "8099 by default. It must be free on this host, and is what the others enter for this node.", "number"}, "peer.port": {"Pool port of the other Manager", "As it is set there.", "number"},
	"arbiter.port": {"Pool port of the Arbiter", "As it is set there.", "number"}, "local.second": {"Second path, this node", "Address on a second network for heartbeats. Empty: none.", "text"},
	"peer.second": {"Second path, other Manager", "", "text"}, "arbiter.second": {"Second path, Arbiter", "", "text"},

	"local.symbol": {"Symbol of this node", "A short name.", "text"}, "local.comment": {"Comment on this node", "", "text"},
	"peer.symbol": {"Symbol of the other Manager", "", "text"}, "peer.comment": {"Comment on the other Manager", "", "text"},
	"arbiter.symbol": {"Symbol of the Arbiter", "", "text"}, "arbiter.comment": {"Comment on the Arbiter", "", "text"},

	"timing.heartbeat_period":   {"Heartbeat period", "How often a member speaks to each other one.", "duration"},
	"timing.heartbeat_timeout":  {"Heartbeat timeout", "An answer later than this counts as missed.", "duration"},
	"timing.missed_heartbeats":  {"Missed heartbeats", "So many in a row make a member silent.", "number"},
	"timing.connect_timeout":    {"Connect timeout", "One attempt to connect.", "duration"},
	"timing.long_lived_timeout": {"Connection timeout", "One message on a standing connection.", "duration"},
	"timing.connection_wait":    {"Wait for the Master", "After a cold start the Backup leaves the first candidacy to its Master for so long.", "duration"},
	"timing.stability_delay":    {"Stability delay", "An Active Master is up and in step for so long before it takes back.", "duration"},
	"timing.disk_timeout":       {"Disk timeout", "A write that takes longer makes this node unfit.", "duration"},
	"timing.hold_timeout":       {"Hold timeout", "A write waits so long for a Backup that answers but does not store.", "duration"},
	"timing.announce_count":     {"Announcements", "How often the virtual IP is announced when it is bound.", "number"},
	"timing.announce_interval":  {"Announcement interval", "", "duration"},
	"timing.announce_period":    {"Announcement repeat", "Afterwards, for as long as it is held.", "duration"},
	"timing.standby_activity":   {"Standby activity", "What an Online Manager does about the devices.", "choice"},

	"listen.https": {"HTTPS", ":PORT for all addresses, which the virtual IP needs, or ADDRESS:PORT.", "text"}, "listen.http": {"HTTP on this machine", "Loopback only.", "text"},
	"listen.mqtt": {"MQTT with TLS", "For field units, on the Primary.", "text"}, "listen.mqtt_plain": {"MQTT without TLS", "Empty: off.", "text"},
	"limits.field_units": {"Most field units", "", "number"}, "limits.browsers": {"Most live pages", "", "number"}, "limits.journal_mib": {"Own events (MiB)", "", "number"},
}

// groups are the parts of the form that all modes share.
var groups = map[string][]string{
	"timing": {"timing.heartbeat_period", "timing.heartbeat_timeout", "timing.missed_heartbeats", "timing.connect_timeout", "timing.long_lived_timeout",
		"timing.connection_wait", "timing.stability_delay", "timing.disk_timeout", "timing.hold_timeout"},
	"announce": {"timing.announce_count", "timing.announce_interval", "timing.announce_period", "timing.standby_activity"},
	"paths":    {"local.port", "peer.port", "arbiter.port", "local.second", "peer.second", "arbiter.second", "interface"},
	"names":    {"local.symbol", "local.comment", "peer.symbol", "peer.comment", "arbiter.symbol", "arbiter.comment"},
	"listen":   {"listen.https", "listen.http", "listen.mqtt", "listen.mqtt_plain", "limits.field_units", "limits.browsers", "limits.journal_mib"},
}

// shownFields are the keys that the form has; values of others are not taken from it.
var shownFields = func() map[string]bool {
	shown := map[string]bool{}
	for key := range described {
		shown[key] = true
	}
	return shown
}()
