// Command manager is a Manager: the process that serves, and the commands that talk to it through
// the control socket in its data folder.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"redundancypool/manager"
	"redundancypool/manager/control"
	"redundancypool/vip"
)

// Exit codes.
const (
	exitDone    = 0
	exitRefused = 1 // one line on standard error says what, why, and the fix
	exitUsage   = 2
)

type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run the Manager on a data folder. A new folder starts Standalone."`
	Status      statusCmd      `cmd:"" help:"Show role, status, health, members and the last changeover."`
	Redundancy  redundancyCmd  `cmd:"" help:"Form, change, verify and end a redundancy pool."`
	Unit        unitCmd        `cmd:"" help:"Field units: add, list, remove."`
	User        userCmd        `cmd:"" help:"People who may log in to the pages."`
	APIToken    apiTokenCmd    `cmd:"" name:"api-token" help:"Tokens with which programs use the API."`
	Database    databaseCmd    `cmd:"" help:"Save and restore this node's database."`
	Logs        logsCmd        `cmd:"" help:"Show the events of all members."`
	Notify      notifyCmd      `cmd:"" help:"Notifications by webhook and e-mail: list, set, secret, test."`
	Query       queryCmd       `cmd:"" help:"Run one reading SQL statement on this node's copy."`
	Certificate certificateCmd `cmd:"" help:"The certificate that browsers see: show, install, renew, reset."`
	Sweep       sweepCmd       `cmd:"" hidden:"" help:"Remove a virtual IP that a dead process left; for service managers."`
}

// data is the flag of every command.
type data struct {
	Data string `required:"" type:"path" placeholder:"DIR" help:"Data folder of the Manager."`
}

// console is where a command reads and writes, and what it commands.
type console struct {
	in       io.Reader
	out, err io.Writer
	terminal bool // a person is at in
	connect  func(dir string) control.Manager
	serve    func(context.Context, manager.Config) error
}

func main() {
	// The guard of the virtual IP is this program once more; it must not depend on anything else.
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		if err := vip.RunGuard(); err != nil {
			fmt.Fprintln(os.Stderr, "manager guard:", err)
			os.Exit(exitRefused)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	_, terr := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	os.Exit(run(ctx, os.Args[1:], console{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: terr == nil,
		connect: func(dir string) control.Manager { return control.NewRemote(dir) },
		serve:   manager.Run,
	}))
}

// usageError is a wrong combination of flags.
type usageError struct{ error }

func run(ctx context.Context, args []string, con console) int {
	var c cli
	left := -1
	p, err := kong.New(&c, kong.Name("manager"), kong.Writers(con.out, con.err), kong.Exit(func(code int) { left = code }),
		kong.Description("A Manager, alone or in a redundancy pool of two Managers and an Arbiter."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(con))
	if err != nil {
		fmt.Fprintln(con.err, "manager:", err)
		return exitUsage
	}
	k, err := p.Parse(args)
	if left >= 0 {
		return left // --help
	}
	if err != nil {
		fmt.Fprintln(con.err, "manager:", oneLine(err)+": see manager --help")
		return exitUsage
	}
	err = k.Run()
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(con.err, "manager:", oneLine(err))
	if ue := (usageError{}); errors.As(err, &ue) {
		return exitUsage
	}
	return exitRefused
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}
