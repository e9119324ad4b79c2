package pool

import (
	"fmt"
	"slices"
	"time"
)

// A link or a member that comes and goes must not move Primary again and again. Taking back waits
// for a stretch in which the pool was Protected throughout; each interruption of that wait, and each
// taking back, doubles it, up to backOffMost, and backOffQuiet without either resets it.
const (
	backOffMost  = time.Hour
	backOffQuiet = time.Hour
	// flapping is a member that went away so often within flapWindow.
	flapping   = 3
	flapWindow = 2 * time.Minute
)

// backOffLocked makes the wait before taking back longer.
func (p *Pool) backOffLocked() {
	p.backOff = min(backOffMost, max(2*p.backOff, 2*p.timing.StabilityDelay))
	p.backOffAt = Now()
}

// takeBackWaitLocked is how long the pool must have been Protected before the Master takes Primary
// back.
func (p *Pool) takeBackWaitLocked() time.Duration {
	if p.backOffAt != 0 && Since(p.backOffAt) > max(backOffQuiet, 2*p.backOff) {
		p.backOff, p.backOffAt = 0, 0
	}
	return max(p.timing.StabilityDelay, p.backOff)
}

// noteStatusLocked counts how often a member went away.
func (pr *peer) noteStatusLocked(now Status) {
	if now == Unreachable && pr.was != Unreachable && pr.was != Unknown {
		pr.drops = append(pr.drops, Now())
	}
	pr.was = now
	pr.drops = slices.DeleteFunc(pr.drops, func(at Instant) bool { return Since(at) > flapWindow })
}

// notesLocked are what an operator must know although it hinders no failover.
func (p *Pool) notesLocked() (out []Reason) {
	for _, m := range p.record.Members {
		if pr := p.peers[m.ID]; pr != nil && len(pr.drops) >= flapping {
			out = append(out, Reason{m.Role.String() + "_flapping", fmt.Sprintf(
				"%s went away %d times within the last two minutes: Primary stays where it is until it has been steady; look at its cable, switch or power", m.Name, len(pr.drops))})
		}
	}
	if p.record.Active && p.record.me().Role == Backup && p.status == Primary {
		text := fmt.Sprintf("the Master takes Primary back once the pool has been Protected for %v", p.takeBackWaitLocked())
		if p.backOff > 0 {
			text += fmt.Sprintf(" (longer than %v, because Primary was taken back or the Master was lost again a short time ago)", p.timing.StabilityDelay)
		}
		out = append(out, Reason{"take_back_waits", text})
	}
	return out
}
