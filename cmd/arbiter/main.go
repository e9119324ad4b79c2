// Command arbiter is the Redundancy Arbiter: the member of a pool that votes and stores no data,
// and the commands that talk to it through the control socket in its data folder.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
)

// Exit codes.
const (
	exitDone    = 0
	exitRefused = 1 // one line on standard error says what, why, and the fix
	exitUsage   = 2
)

type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run the Arbiter on a data folder."`
	Token       tokenCmd       `cmd:"" help:"Print a one-time pairing token for the Master."`
	Connections connectionsCmd `cmd:"" aliases:"pending" help:"Show whose certificates are trusted here, and who waits for approval."`
	Approve     approveCmd     `cmd:"" help:"Trust a Master by its fingerprint, instead of giving it a token."`
	Reject      rejectCmd      `cmd:"" help:"Refuse a node that waits for approval, for an hour."`
	Withdraw    withdrawCmd    `cmd:"" help:"End the trust in a node that this Arbiter's pool does not need."`
	Status      statusCmd      `cmd:"" help:"Show the pool as the Arbiter sees it."`
	Logs        logsCmd        `cmd:"" help:"Show this Arbiter's own events."`
	Reset       resetCmd       `cmd:"" help:"Make a stopped Arbiter a new one: identity, trust and pools are removed."`
}

// data is the flag of every command.
type data struct {
	Data string `required:"" type:"path" placeholder:"DIR" help:"Data folder of the Arbiter."`
}

// console is where a command reads and writes, and the process it runs.
type console struct {
	in       io.Reader
	out, err io.Writer
	terminal bool // a person is at in
	serve    func(context.Context, arbiter.Config) error
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	context.AfterFunc(ctx, stop) // a second signal ends it at once
	_, terr := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	os.Exit(run(ctx, os.Args[1:], console{in: os.Stdin, out: os.Stdout, err: os.Stderr, terminal: terr == nil, serve: arbiter.Run}))
}

func run(ctx context.Context, args []string, con console) int {
	var c cli
	left := -1
	p, err := kong.New(&c, kong.Name("arbiter"), kong.Writers(con.out, con.err), kong.Exit(func(code int) { left = code }),
		kong.Description("The Redundancy Arbiter of a pool: it votes, and stores no data."),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(con))
	if err != nil {
		fmt.Fprintln(con.err, "arbiter:", err)
		return exitUsage
	}
	k, err := p.Parse(args)
	if left >= 0 {
		return left // --help
	}
	if err != nil {
		fmt.Fprintln(con.err, "arbiter:", oneLine(err)+": see arbiter --help")
		return exitUsage
	}
	if err := k.Run(); err != nil {
		fmt.Fprintln(con.err, "arbiter:", oneLine(err))
		return exitRefused
	}
	return exitDone
}

func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
}

type serveCmd struct {
	data
	Listen   string     `placeholder:"ADDR" help:"Where the Managers connect, :8099 by default."`
	LogLevel slog.Level `default:"info" help:"debug, info, warn or error."`
	LogJSON  bool       `help:"Log as JSON objects."`
}

func (s *serveCmd) Run(ctx context.Context, con console) error {
	syscall.Umask(0o077) // the data are this user's alone, whatever writes them
	var h slog.Handler = slog.NewTextHandler(con.err, &slog.HandlerOptions{Level: s.LogLevel})
	if s.LogJSON {
		h = slog.NewJSONHandler(con.err, &slog.HandlerOptions{Level: s.LogLevel})
	}
	return con.serve(ctx, arbiter.Config{Dir: s.Data, Listen: s.Listen, Version: version(), Log: slog.New(h)})
}

type tokenCmd struct{ data }

// Run prints the token alone on the last line, so that a script finds it.
func (t *tokenCmd) Run(ctx context.Context, con console) error {
	var text string
	if err := control.NewClient(t.Data).Call(ctx, "token", nil, nil, &text); err != nil {
		return err
	}
	if con.terminal {
		fmt.Fprintln(con.err, "Valid once, for one hour; a newer token replaces it. Give it to the Master with --arbiter-pairing.")
	}
	_, err := fmt.Fprintln(con.out, text)
	return err
}

type statusCmd struct {
	data
	JSON bool `help:"One JSON object."`
}

func (s *statusCmd) Run(ctx context.Context, con console) error {
	var raw json.RawMessage
	if err := control.NewClient(s.Data).Status(ctx, &raw); err != nil {
		return err
	}
	if s.JSON {
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return fmt.Errorf("the answer is not JSON: %w", err)
		}
		_, err := fmt.Fprintln(con.out, b.String())
		return err
	}
	var st arbiter.Status
	if err := json.Unmarshal(raw, &st); err != nil {
		return fmt.Errorf("read the status: %w: use commands of the same version as the running process", err)
	}
	return printStatus(con.out, st)
}

// printStatus is the status for people.
func printStatus(w io.Writer, st arbiter.Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	pool := "none: it waits for a Master"
	if st.Pool != nil {
		pool = *st.Pool
	}
	fmt.Fprintf(t, "Node\t%s\nRole\tArbiter\nStatus\t%v\nPool\t%s\nTerm\t%d\nLast index\t%d\nBytes on disk\t%d\nFingerprint\t%s\n",
		st.Node, st.Status, pool, st.Term, st.LastIndex, st.BytesOnDisk, st.Fingerprint)
	if st.Refused != "" {
		fmt.Fprintf(t, "Refused\t%s\n", st.Refused)
	}
	if err := t.Flush(); err != nil || len(st.Members) == 0 {
		return err
	}
	fmt.Fprintln(t, "\nMember\tRole\tStatus\tAddress\tHeard")
	for _, m := range st.Members {
		heard := "never"
		if m.LastHeardMS >= 0 {
			heard = (time.Duration(m.LastHeardMS) * time.Millisecond).String() + " ago"
		}
		fmt.Fprintf(t, "%s\t%v\t%v\t%s\t%s\n", m.Name, m.Role, m.Status, m.Address, heard)
	}
	return t.Flush()
}

type resetCmd struct {
	data
	Yes bool `help:"Answer the confirmation with yes."`
}

// Run asks first: the pool this Arbiter belongs to can then be repaired only by pairing it anew.
func (r *resetCmd) Run(_ context.Context, con console) error {
	if !r.Yes {
		if !con.terminal {
			return errors.New("confirmation needed: reset removes this Arbiter's identity, trust and pools: say --yes if that is wanted")
		}
		fmt.Fprintf(con.err, "This removes the Arbiter's identity, trust and pools in %s.\nType reset to go on: ", r.Data)
		line, err := bufio.NewReader(con.in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the confirmation: %w", err)
		}
		if strings.TrimSpace(line) != "reset" {
			return errors.New("not confirmed: nothing was changed")
		}
	}
	if err := arbiter.Reset(r.Data); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	_, err := fmt.Fprintln(con.out, "The Arbiter is as newly installed. Start it with: arbiter serve --data", r.Data)
	return err
}

// version is that of the module, or the revision that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "development"
}
