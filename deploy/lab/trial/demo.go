package trial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"redundancypool/deploy/lab"
)

// Demo is the report of the demonstration.
type Demo struct {
	Round     Round        `json:"round"`
	Mosquitto []string     `json:"mosquitto"`
	Ledger    []Comparison `json:"ledger"`
	Problems  []string     `json:"problems"`
}

// Demo shows what happens when the Primary is killed: ten units publish, mosquitto_pub too if it
// is installed, the Primary gets SIGKILL, the units find the other Manager by themselves, the
// killed one is started again, and the ledgers are compared with both databases.
func (t *Trial) Demo(ctx context.Context) (Demo, error) {
	p := t.pool
	var d Demo
	lines, err := p.Mosquitto(ctx)
	switch {
	case errors.Is(err, ErrNotInstalled):
		lines = append(lines, "mosquitto_pub is not installed: not shown")
	case err != nil:
		d.Problems = append(d.Problems, err.Error())
	}
	d.Mosquitto = lines
	for _, l := range lines {
		p.cfg.Say("%s", l)
	}
	if !pause(ctx, 2*time.Second) { // a little history before the fault
		return d, context.Cause(ctx)
	}
	primary, _, err := p.Primary(ctx)
	if err != nil {
		return d, err
	}
	p.cfg.Say("kill -9 of the Primary (%s)", primary)
	d.Round, err = t.Round(ctx, 1, Kill, primary)
	if err != nil {
		return d, err
	}
	d.Problems = append(d.Problems, d.Round.Problems...)
	d.Ledger, err = p.Compare(ctx, time.Time{}, Managers()...)
	if err != nil {
		return d, err
	}
	for _, c := range d.Ledger {
		if c.Lost > 0 || c.Twice > 0 {
			d.Problems = append(d.Problems, fmt.Sprintf("%s: %s: %v", c.Host, c.Text(), c.Examples))
		}
	}
	return d, nil
}

// Text is the time line and the ledger as people read them.
func (d Demo) Text() string {
	var b strings.Builder
	r := d.Round
	line := func(at float64, what string) {
		if at >= 0 {
			fmt.Fprintf(&b, "  %9.1f ms  %s\n", at, what)
		} else {
			fmt.Fprintf(&b, "          - ms  %s: not seen\n", what)
		}
	}
	fmt.Fprintf(&b, "Time line, ms after kill -9 of the Primary (%s), as seen from outside:\n", r.Host)
	line(0, "killed")
	line(r.OldAnswerMS, "last answer of the old host for the VIP")
	line(r.VIPMovedMS, "VIP moved")
	line(r.FirstWriteMS, "first write acknowledged")
	line(r.AllUnitsMS, "all units back")
	if c := r.Changeover; c != nil {
		fmt.Fprintf(&b, "The new Primary's own account (%s, cause: %s, term %d):\n", c.Kind, c.Cause, c.Term)
		line(c.DetectedMS, "detected")
		line(c.ElectedMS, "elected")
		line(c.VIPMS, "VIP bound and announced")
		line(c.FirstWriteMS, "first write")
		line(c.FirstUnitMS, "first unit")
		line(c.AllUnitsMS, "all units")
	}
	fmt.Fprintf(&b, "Two hosts answered for the VIP during %.1f ms.\n", r.BothMS)
	fmt.Fprintf(&b, "Started again, the %s was in step and the pool Protected after %.0f ms.\n", r.Host, r.ProtectedMS)
	fmt.Fprintf(&b, "Ledger of %d acknowledged records against each Manager's database:\n", acknowledged(d.Ledger))
	for _, c := range d.Ledger {
		fmt.Fprintf(&b, "  %-7s %s\n", c.Host, c.Text())
	}
	for _, p := range d.Problems {
		fmt.Fprintf(&b, "PROBLEM: %s\n", p)
	}
	return b.String()
}

func acknowledged(all []Comparison) int {
	n := 0
	for _, c := range all {
		n = max(n, c.Acknowledged)
	}
	return n
}

// Door is a page of the pool that the machine's own browser can open.
type Door struct {
	What   string
	Listen string // where to listen on this machine
	Target string // in the LAN
}

// Doors are the two Managers' pages and the VIP's, each on a loopback address of its own, so
// that a browser keeps their cookies apart.
func (p *Pool) Doors() []Door {
	return []Door{
		{"Master", "127.0.0.11:8443", page(lab.MasterAddr.Addr())},
		{"Backup", "127.0.0.12:8443", page(lab.BackupAddr.Addr())},
		{"VIP (whoever is Primary)", "127.0.0.50:8443", page(p.cfg.VIP.Addr())},
	}
}

// OpenDoors forwards each listener to its door's target, dialled from the client, until the
// forwarders are closed. listeners are in the order of Doors.
func (p *Pool) OpenDoors(listeners []net.Listener) ([]*lab.Forwarder, error) {
	client, err := p.lab.Host("client")
	if err != nil {
		return nil, err
	}
	doors := p.Doors()
	if len(listeners) != len(doors) {
		return nil, fmt.Errorf("%d listeners for %d doors", len(listeners), len(doors))
	}
	var all []*lab.Forwarder
	for i, d := range doors {
		all = append(all, client.Forward(listeners[i], d.Target))
	}
	return all, nil
}

// lastNumber reads the number in the last line of a query's output.
func lastNumber(out string) (int, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	n, err := strconv.Atoi(strings.TrimSpace(lines[len(lines)-1]))
	if err != nil {
		return 0, fmt.Errorf("query printed %q, not a number", out)
	}
	return n, nil
}
