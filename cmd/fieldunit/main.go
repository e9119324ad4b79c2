// Command fieldunit is the agent of a field unit: it publishes what it is given to the Manager
// of a destination profile, and keeps it until the Manager has stored it.
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
)

// Exit codes.
const (
	exitDone    = 0
	exitRefused = 1
	exitUsage   = 2
)

type cli struct {
	Run runCmd `cmd:"" help:"Publish standard input, a JSON object a line, or simulated values."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// usageError is a wrong combination of flags.
type usageError struct{ error }

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	var c cli
	left := -1
	p, err := kong.New(&c, kong.Name("fieldunit"), kong.Writers(out, errs), kong.Exit(func(code int) { left = code }),
		kong.Description("The agent of a field unit: publishes to the virtual IP of a redundancy pool and loses nothing on the way."))
	if err != nil {
		fmt.Fprintln(errs, "fieldunit:", err)
		return exitUsage
	}
	_, err = p.Parse(args)
	if left >= 0 {
		return left // --help
	}
	if err != nil {
		fmt.Fprintln(errs, "fieldunit:", oneLine(err), "(see fieldunit --help)")
		return exitUsage
	}
	err = c.Run.run(ctx, in, out, errs)
	if err == nil {
		return exitDone
	}
	fmt.Fprintln(errs, "fieldunit:", oneLine(err))
	if ue := (usageError{}); errors.As(err, &ue) {
		return exitUsage
	}
	return exitRefused
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
