// Package database is the state machine of the pool's replicated log: one SQLite file that
// holds units, users, settings, telemetry, events and changeovers, together with the index and
// term of the last log entry it contains.
//
// There is one way to write: Apply, with committed entries in the order of the log. Every
// command is deterministic (times, ids and random values are fixed by the proposer), so two
// nodes that applied the same entries hold the same rows; Digest proves it cheaply. Because
// the position stands in the same transaction as the data, the file itself is the snapshot:
// View streams it at one index, Incoming and Replace take it in on another node.
//
// The package does not replicate, does not elect and knows no network: package manager adapts
// it to the log. It keeps no private keys. It is the only importer of the SQLite driver.
//
// "Stored once" holds for telemetry with a sequence number (unit, boot, seq) or with a source
// time (unit, node, group, tag, source time and value), for as long as the retention (Prune)
// keeps the record. Telemetry with neither is stored each time it is proposed anew, with the
// proposer's time; only a repeated command (same client and sequence) is recognised then.
package database
