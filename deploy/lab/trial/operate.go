package trial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"redundancypool/deploy/lab"
	"redundancypool/deploy/lab/control"
)

// Operate carries out an order from another terminal: one fault, one repair, or the status.
func (p *Pool) Operate(ctx context.Context, o control.Order, say func(string)) error {
	if o.Verb == "status" {
		return p.sayStatus(ctx, say)
	}
	if o.Verb == "heal" && o.Host == "" {
		return p.lab.HealAll()
	}
	h, err := p.lab.Host(o.Host)
	if err != nil {
		return err
	}
	if !hasProgram(h.Name()) && (o.Verb == "kill" || o.Verb == "start") {
		return fmt.Errorf("%s %s: no Manager or Arbiter runs there: name master, backup or arbiter", o.Verb, h.Name())
	}
	act, ok := p.acts()[o.Verb]
	if !ok {
		return fmt.Errorf("order %q is unknown: use the same version of poollab in both terminals", o.Verb)
	}
	begin := time.Now()
	if err := act(ctx, h, o); err != nil {
		return fmt.Errorf("%s: %w", o.Verb, err)
	}
	say(fmt.Sprintf("%s %s: done at %s, took %.1f ms", o.Verb, h.Name(), begin.UTC().Format("15:04:05.000"), ms(time.Since(begin))))
	return nil
}

// hasProgram says whether a Manager or an Arbiter belongs on the host.
func hasProgram(host string) bool { return host != "client" && host != "stranger" }

type act func(ctx context.Context, h *lab.Host, o control.Order) error

// acts are the orders that name a host.
func (p *Pool) acts() map[string]act {
	return map[string]act{
		"kill": func(ctx context.Context, h *lab.Host, o control.Order) error {
			f := Kill
			if o.Options["guard"] == "true" {
				f = KillGuard
			}
			_, err := p.Inflict(ctx, f, h.Name())
			return err
		},
		"start": func(ctx context.Context, h *lab.Host, _ control.Order) error { return p.StartHost(ctx, h.Name()) },
		"freeze": func(ctx context.Context, h *lab.Host, o control.Order) error {
			f := Freeze
			if o.Options["all"] == "true" {
				f = FreezeAll
			}
			_, err := p.Inflict(ctx, f, h.Name())
			return err
		},
		"thaw": func(_ context.Context, h *lab.Host, _ control.Order) error { return h.Thaw() },
		"poweroff": func(ctx context.Context, h *lab.Host, _ control.Order) error {
			_, err := h.PowerOff()
			return err
		},
		"poweron": func(ctx context.Context, h *lab.Host, _ control.Order) error {
			if !hasProgram(h.Name()) {
				return h.PowerOn()
			}
			return p.Repair(ctx, PowerOff, h.Name())
		},
		"cut":      p.cut,
		"heal":     p.heal,
		"impair":   p.impair,
		"disk":     p.diskFault,
		"stranger": p.stranger,
		"address":  p.address,
	}
}

// cut cuts a host's link, or two hosts from each other, or one way between them.
func (p *Pool) cut(_ context.Context, h *lab.Host, o control.Order) error {
	if o.Peer != "" && o.Options["one-way"] == "true" {
		return p.lab.Block(h.Name(), o.Peer)
	}
	if o.Peer != "" {
		return p.lab.Part(h.Name(), o.Peer)
	}
	link, err := pathOf(h, o)
	if err != nil {
		return err
	}
	if o.Options["carrier"] == "true" {
		return link.Unplug()
	}
	return link.Cut()
}

func (p *Pool) heal(_ context.Context, h *lab.Host, o control.Order) error {
	if o.Peer != "" {
		return p.lab.Join(h.Name(), o.Peer)
	}
	var errs []error
	for i := 0; ; i++ {
		link, err := h.Link(i)
		if err != nil {
			return errors.Join(errs...)
		}
		errs = append(errs, link.Heal(), link.Impair(lab.Impairment{}))
	}
}

func (p *Pool) impair(_ context.Context, h *lab.Host, o control.Order) error {
	link, err := pathOf(h, o)
	if err != nil {
		return err
	}
	var i lab.Impairment
	if i.Delay, err = time.ParseDuration(o.Options["delay"]); err != nil {
		return fmt.Errorf("delay: %w", err)
	}
	if i.Jitter, err = time.ParseDuration(o.Options["jitter"]); err != nil {
		return fmt.Errorf("jitter: %w", err)
	}
	if i.Loss, err = strconv.ParseFloat(o.Options["loss"], 64); err != nil {
		return fmt.Errorf("loss: %w", err)
	}
	return link.Impair(i)
}

func pathOf(h *lab.Host, o control.Order) (*lab.Link, error) {
	i, err := strconv.Atoi(o.Options["path"])
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	return h.Link(i)
}

func (p *Pool) diskFault(_ context.Context, h *lab.Host, o control.Order) error {
	faults := map[string]func() error{
		"fill": h.FillDisk, "free": h.FreeDisk, "hang": h.HangDisk, "thaw": h.ThawDisk,
		"fail": h.FailDisk, "repair": h.RepairDisk,
	}
	fn, ok := faults[o.Options["fault"]]
	if !ok {
		return fmt.Errorf("disk fault %q is unknown: choose from fill, free, hang, thaw, fail, repair", o.Options["fault"])
	}
	return fn()
}

// stranger lets the host named stranger own an address, or give it up.
func (p *Pool) stranger(_ context.Context, h *lab.Host, o control.Order) error {
	addr, err := netip.ParseAddr(o.Options["address"])
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if o.Options["release"] == "true" {
		return h.DeleteAddr(addr)
	}
	return h.AddAddr(netip.PrefixFrom(addr, addr.BitLen()))
}

// address adds or deletes an address behind the Manager's back.
func (p *Pool) address(ctx context.Context, h *lab.Host, o control.Order) error {
	return p.stranger(ctx, h, o)
}

// sayStatus describes every host, and each member's own view of the pool.
func (p *Pool) sayStatus(ctx context.Context, say func(string)) error {
	for _, h := range p.lab.Hosts() {
		line := fmt.Sprintf("%-8s %-12s", h.Name(), h.Addr())
		if !h.On() {
			say(line + " powered off")
			continue
		}
		line += p.describe(ctx, h)
		say(line + "  [" + h.EnterCommand() + "]")
	}
	return p.TwoPrimaries()
}

func (p *Pool) describe(ctx context.Context, h *lab.Host) string {
	proc, err := h.Process(program(h.Name()))
	switch {
	case h.Name() == "client":
		return fmt.Sprintf(" %d simulated field units", len(p.units))
	case err != nil:
		return " no program"
	case !proc.Alive():
		return fmt.Sprintf(" %s has ended", proc.Name)
	}
	line := fmt.Sprintf(" %s pid %d", proc.Name, proc.PID())
	s, err := p.Status(ctx, h.Name())
	if err != nil {
		return line + ": " + err.Error()
	}
	line += ": " + s.why() + fmt.Sprintf(", term %d", s.Term)
	if s.VIP.Bound {
		line += ", VIP " + s.VIP.Address
	}
	if s.GuardPID > 0 {
		line += fmt.Sprintf(", guard pid %d", s.GuardPID)
	}
	return line
}
