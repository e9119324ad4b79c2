// Package pool decides who is Primary. It wraps hashicorp/raft in what a redundancy pool of two
// Managers and a data-less Arbiter needs beside it: a lease from a quorum counted from when the
// question was sent, voters that keep the promise behind that lease, heartbeats off the disk
// path, fast and safe detection of a dead Primary, a watchdog on the disk, forming and leaving.
//
// It does not bind addresses, serve field units or know SQL: package manager does, and arbiter
// runs the same code as a voter that never leads.
package pool

import "fmt"

// Role is what a member is configured to be.
type Role uint8

// The roles. The zero Role is Standalone: a pool of one.
const (
	Standalone Role = iota
	Master
	Backup
	Arbiter
)

var roleWords = []string{"standalone", "master", "backup", "arbiter"}

func (r Role) String() string { return word(roleWords, uint8(r), "role") }

// MarshalText implements encoding.TextMarshaler with the lower-case words of the API.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Role) UnmarshalText(b []byte) error { return parse(roleWords, b, "role", (*uint8)(r)) }

// Status is what a member does now. The zero value allows nothing.
type Status uint8

// The values of Status.
const (
	Unknown     Status = iota // not yet heard
	Unreachable               // heard before, silent now
	OnHold                    // a Backup that waits for its Master
	Configuring               // a pool that is being formed
	Online                    // follows: reads only, no field units
	Primary                   // writes, admits field units, holds the VIP
	Alone                     // Standalone: a pool of one, reads and writes, no VIP
)

var statusWords = []string{"unknown", "unreachable", "on_hold", "configuring", "online", "primary", "standalone"}

func (s Status) String() string { return word(statusWords, uint8(s), "status") }

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(b []byte) error { return parse(statusWords, b, "status", (*uint8)(s)) }

// Health is the state of the pool as a whole, the same on every member.
type Health uint8

// The values of Health.
const (
	Failure          Health = iota // no member can be Primary: read-only
	Degraded                       // service goes on, the next fault may stop it
	Protected                      // the Backup is in step and all three are reachable
	HealthStandalone               // no redundancy configured
	HealthForming                  // being formed
)

var healthWords = []string{"failure", "degraded", "protected", "standalone", "configuring"}

func (h Health) String() string { return word(healthWords, uint8(h), "health") }

// MarshalText implements encoding.TextMarshaler.
func (h Health) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (h *Health) UnmarshalText(b []byte) error { return parse(healthWords, b, "health", (*uint8)(h)) }

func word(words []string, n uint8, what string) string {
	if int(n) < len(words) {
		return words[n]
	}
	return fmt.Sprintf("%s(%d)", what, n)
}

func parse(words []string, b []byte, what string, into *uint8) error {
	for i, w := range words {
		if w == string(b) {
			*into = uint8(i)
			return nil
		}
	}
	return fmt.Errorf("unknown %s %q: one of %v", what, b, words)
}
