// Command poollab runs a Master, a Backup, an Arbiter and a client with field units as hosts of
// a small LAN on this machine, in network namespaces, and breaks them on request. It needs root
// or, where the kernel allows it, nothing: a normal user's lab stands in a user namespace.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"redundancypool/deploy/lab/control"
)

type cli struct {
	Dir string `help:"Folder that holds everything of the lab." default:"${dir}" env:"POOLLAB_DIR" type:"path"`
	Bin string `help:"Folder with the programs manager, arbiter and fieldunit; without it they are built from this module." type:"path" placeholder:"DIR"`

	Demo    demoCmd    `cmd:"" help:"Start a pool, kill its Primary under load, print time line and ledger, leave the pool running."`
	Up      upCmd      `cmd:"" help:"Start a pool and leave it running for the commands below."`
	Down    downCmd    `cmd:"" help:"End the lab and remove what it made; also what a killed one left."`
	Status  statusCmd  `cmd:"" help:"Show every host and what its member says."`
	Run     runCmd     `cmd:"" help:"Random faults under load, each checked; exit code 1 if anything was lost or stored twice."`
	Measure measureCmd `cmd:"" help:"The same fault of the Primary N times: median, least and most of each time."`

	Kill     killCmd     `cmd:"" help:"SIGKILL the Manager or Arbiter of a host."`
	Start    hostCmd     `cmd:"" help:"Start the Manager or Arbiter of a host on the data it has."`
	Freeze   freezeCmd   `cmd:"" help:"SIGSTOP the Manager or Arbiter of a host."`
	Thaw     hostCmd     `cmd:"" help:"SIGCONT everything on a host."`
	Poweroff hostCmd     `cmd:"" help:"Let a host vanish without a word."`
	Poweron  hostCmd     `cmd:"" help:"Power a host on and start its program."`
	Cut      cutCmd      `cmd:"" help:"Cut a host's link, or two hosts from each other."`
	Heal     healCmd     `cmd:"" help:"Heal a host's links, two hosts, or everything."`
	Impair   impairCmd   `cmd:"" help:"Delay and drop frames of a host's link; 0 everywhere ends it."`
	Disk     diskCmd     `cmd:"" help:"Break a Manager's disk (needs 'up --faulty-disks')."`
	Stranger strangerCmd `cmd:"" help:"Let a host that belongs to nobody own an address."`
	Address  addressCmd  `cmd:"" help:"Add or delete an address on a host as another tool would."`
}

type hostArg struct {
	Host string `arg:"" help:"master, backup, arbiter, client or stranger."`
}

type hostCmd struct{ hostArg }

type killCmd struct {
	hostArg
	Guard bool `help:"Kill the guard of its virtual IP with it."`
}

type freezeCmd struct {
	hostArg
	All bool `help:"Everything on the host, the guard included."`
}

type cutCmd struct {
	hostArg
	From    string `arg:"" optional:"" help:"The other host; without it the link is cut from everybody."`
	OneWay  bool   `help:"Drop only what goes from the first host to the second."`
	Carrier bool   `help:"Take the carrier away too, as when the host's own cable is pulled."`
	Path    int    `help:"0 is eth0, 1 is eth1." default:"0"`
}

type healCmd struct {
	Host string `arg:"" optional:"" help:"Host; without one everything is healed and thawed."`
	From string `arg:"" optional:"" help:"The other host of a cut between two."`
}

type impairCmd struct {
	hostArg
	Delay  time.Duration `help:"Added to every frame, each way." default:"0s"`
	Jitter time.Duration `help:"Up to this much more; frames may overtake one another." default:"0s"`
	Loss   float64       `help:"Share of frames dropped, 0 to 1." default:"0"`
	Path   int           `help:"0 is eth0, 1 is eth1." default:"0"`
}

type diskCmd struct {
	hostArg
	Fault string `arg:"" enum:"fill,free,hang,thaw,fail,repair" help:"fill, free; hang, thaw; fail (turns read-only), repair."`
}

type strangerCmd struct {
	Address string `arg:"" optional:"" default:"10.0.0.50" help:"The address to own."`
	Release bool   `help:"Give it up."`
}

type addressCmd struct {
	hostArg
	Do      string `arg:"" enum:"add,delete" help:"add or delete."`
	Address string `arg:"" help:"The address."`
}

type statusCmd struct{}

func (c *killCmd) order() control.Order {
	return control.Order{Verb: "kill", Host: c.Host, Options: map[string]string{"guard": fmt.Sprint(c.Guard)}}
}

func (c *freezeCmd) order() control.Order {
	return control.Order{Verb: "freeze", Host: c.Host, Options: map[string]string{"all": fmt.Sprint(c.All)}}
}

func (c *cutCmd) order() control.Order {
	return control.Order{Verb: "cut", Host: c.Host, Peer: c.From, Options: map[string]string{
		"one-way": fmt.Sprint(c.OneWay), "carrier": fmt.Sprint(c.Carrier), "path": fmt.Sprint(c.Path)}}
}

func (c *healCmd) order() control.Order {
	return control.Order{Verb: "heal", Host: c.Host, Peer: c.From}
}

func (c *impairCmd) order() control.Order {
	return control.Order{Verb: "impair", Host: c.Host, Options: map[string]string{
		"delay": c.Delay.String(), "jitter": c.Jitter.String(), "loss": fmt.Sprint(c.Loss), "path": fmt.Sprint(c.Path)}}
}

func (c *diskCmd) order() control.Order {
	return control.Order{Verb: "disk", Host: c.Host, Options: map[string]string{"fault": c.Fault}}
}

func (c *strangerCmd) order() control.Order {
	return control.Order{Verb: "stranger", Host: "stranger", Options: map[string]string{
		"address": c.Address, "release": fmt.Sprint(c.Release)}}
}

func (c *addressCmd) order() control.Order {
	return control.Order{Verb: "address", Host: c.Host, Options: map[string]string{
		"address": c.Address, "release": fmt.Sprint(c.Do == "delete")}}
}

func main() {
	var c cli
	k := kong.Parse(&c, kong.Name("poollab"), kong.UsageOnError(),
		kong.Description("A pool of redundancy on one machine: three hosts and a client in network namespaces, and every fault."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"dir": filepath.Join(os.TempDir(), fmt.Sprintf("poollab-%d", os.Getuid()))})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	code, err := c.dispatch(ctx, k.Selected().Name)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "poollab: %v\n", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// dispatch runs the chosen command and returns the exit code.
func (c *cli) dispatch(ctx context.Context, name string) (int, error) {
	orders := map[string]func() control.Order{
		"kill": c.Kill.order, "freeze": c.Freeze.order, "cut": c.Cut.order, "heal": c.Heal.order,
		"impair": c.Impair.order, "disk": c.Disk.order, "stranger": c.Stranger.order, "address": c.Address.order,
		"start":    func() control.Order { return control.Order{Verb: name, Host: c.Start.Host} },
		"thaw":     func() control.Order { return control.Order{Verb: name, Host: c.Thaw.Host} },
		"poweroff": func() control.Order { return control.Order{Verb: name, Host: c.Poweroff.Host} },
		"poweron":  func() control.Order { return control.Order{Verb: name, Host: c.Poweron.Host} },
		"status":   func() control.Order { return control.Order{Verb: name} },
	}
	if order, ok := orders[name]; ok {
		return 0, control.Send(ctx, c.socket(), order(), os.Stdout)
	}
	switch name {
	case "demo":
		return c.own(ctx, c.Demo.run, 10, 50, c.Demo.options())
	case "run":
		return c.own(ctx, c.Run.run, c.Run.Units, c.Run.Rate, options{})
	case "measure":
		return c.own(ctx, c.Measure.run, c.Measure.Units, c.Measure.Rate, options{})
	case "up":
		return c.up(ctx)
	case "down":
		return 0, c.down(ctx)
	}
	return 2, fmt.Errorf("command %q has no meaning", name)
}

func (c *cli) socket() string { return filepath.Join(c.Dir, "control.sock") }
