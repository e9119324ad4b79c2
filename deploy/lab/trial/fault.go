package trial

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"redundancypool/deploy/lab"
)

// Fault is one way in which a Manager's host fails, or is asked to hand over.
type Fault string

// The faults that rounds and measurements choose from.
const (
	Kill      Fault = "kill"      // SIGKILL of the process alone
	KillGuard Fault = "killguard" // SIGKILL of the process and its guard at once
	Freeze    Fault = "freeze"    // SIGSTOP of the process alone
	FreezeAll Fault = "freezeall" // SIGSTOP of everything on the host
	PowerOff  Fault = "poweroff"  // the host vanishes without a word
	Cut       Fault = "cut"       // its link is cut in silence
	Unplug    Fault = "unplug"    // its link loses the carrier
	Apart     Fault = "apart"     // the two Managers do not see each other; everybody else sees both
	Deaf      Fault = "deaf"      // it hears no other member, and is heard
	Mute      Fault = "mute"      // it is heard by no other member, and hears
	HandOver  Fault = "handover"  // no fault: the planned change
	SigTerm   Fault = "sigterm"   // no fault either: its process is stopped, as before a reboot
	Flap      Fault = "flap"      // its link is cut and healed every 2 s for a minute
)

// mayStay says that the pool may keep its Primary through the fault, or move it: clients reach both
// Managers all the while.
func (f Fault) mayStay() bool { return f == Apart || f == Deaf || f == Mute || f == Flap }

// others are the members besides host.
func others(host string) []string { return []string{Other(host), "arbiter"} }

// Faults are all there are.
func Faults() []Fault {
	return []Fault{Kill, KillGuard, Freeze, FreezeAll, PowerOff, Cut, Unplug, Apart, Deaf, Mute, HandOver, SigTerm, Flap}
}

// ParseFaults reads a list such as "kill,poweroff".
func ParseFaults(list string) ([]Fault, error) {
	var faults []Fault
	for word := range strings.SplitSeq(list, ",") {
		f := Fault(strings.TrimSpace(word))
		if !slices.Contains(Faults(), f) {
			return nil, fmt.Errorf("fault %q is unknown: choose from %v", f, Faults())
		}
		faults = append(faults, f)
	}
	return faults, nil
}

// Inflict causes a fault on a host and returns the moment of its cause.
func (p *Pool) Inflict(ctx context.Context, f Fault, host string) (time.Time, error) {
	h, err := p.lab.Host(host)
	if err != nil {
		return time.Time{}, err
	}
	link, err := h.Link(0)
	if err != nil {
		return time.Time{}, err
	}
	switch f {
	case PowerOff:
		return h.PowerOff()
	case Cut:
		return time.Now(), link.Cut()
	case Unplug:
		return time.Now(), link.Unplug()
	case FreezeAll:
		return time.Now(), h.Freeze()
	case Apart:
		return time.Now(), p.lab.Part(host, Other(host))
	case Deaf, Mute:
		return time.Now(), p.block(f, host, p.lab.Block)
	case HandOver:
		return p.handOver(ctx, host)
	case SigTerm:
		return p.stopped(host)
	case Flap:
		return time.Now(), nil // the trial lets it come and go
	}
	proc, err := p.Process(host)
	if err != nil {
		return time.Time{}, err
	}
	switch f {
	case Kill:
		return proc.Kill()
	case Freeze:
		return proc.Freeze()
	case KillGuard:
		return p.killWithGuard(ctx, host, proc)
	}
	return time.Time{}, fmt.Errorf("fault %q is unknown: choose from %v", f, Faults())
}

// block sets or lifts the one-way blocks of a host that is deaf or mute.
func (p *Pool) block(f Fault, host string, set func(from, to string) error) error {
	var errs []error
	for _, o := range others(host) {
		if f == Deaf {
			errs = append(errs, set(o, host))
		} else {
			errs = append(errs, set(host, o))
		}
	}
	return errors.Join(errs...)
}

// handOver asks a Manager to hand over. It may refuse with a reason that passes, such as a Backup
// that has just fallen an entry behind on a busy machine: then it is asked again, for 10 s.
func (p *Pool) handOver(ctx context.Context, host string) (time.Time, error) {
	deadline := time.Now().Add(10 * time.Second)
	for {
		at := time.Now()
		_, err := p.command(ctx, host, "redundancy", "handover")
		if err == nil || time.Now().After(deadline) || !pause(ctx, 200*time.Millisecond) {
			return at, err
		}
	}
}

// killWithGuard kills the guard first, without waiting, so that it cannot notice its parent's end.
func (p *Pool) killWithGuard(ctx context.Context, host string, proc *lab.Process) (time.Time, error) {
	s, err := p.Status(ctx, host)
	if err != nil {
		return time.Time{}, fmt.Errorf("find the guard: %w", err)
	}
	if s.GuardPID <= 1 {
		return proc.Kill() // it has none while it is not Primary
	}
	at := time.Now()
	if err := unix.Kill(s.GuardPID, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return at, fmt.Errorf("kill guard %d: %w", s.GuardPID, err)
	}
	_, err = proc.Kill()
	return at, err
}

// Repair undoes a fault as an operator or a service manager would: power on, start, thaw, heal.
func (p *Pool) Repair(ctx context.Context, f Fault, host string) error {
	h, err := p.lab.Host(host)
	if err != nil {
		return err
	}
	link, err := h.Link(0)
	if err != nil {
		return err
	}
	switch f {
	case PowerOff:
		if err := h.PowerOn(); err != nil {
			return err
		}
		return p.StartHost(ctx, host)
	case Kill, KillGuard, SigTerm:
		return p.StartHost(ctx, host)
	case Freeze, FreezeAll:
		return h.Thaw()
	case Cut, Unplug, Flap:
		return link.Heal()
	case Apart:
		return p.lab.Join(host, Other(host))
	case Deaf, Mute:
		return p.block(f, host, p.lab.Unblock)
	case HandOver:
		return nil
	}
	return fmt.Errorf("fault %q is unknown: choose from %v", f, Faults())
}
