package vip

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is also the guard and the manager of the kernel tests: it starts itself with
// roleVariable set.
const roleVariable = "VIP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "manager":
		os.Exit(runManager())
	case "":
		os.Exit(m.Run())
	}
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		if err := RunGuard(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// managerSettings is the argument of the manager role.
type managerSettings struct {
	Address   netip.Prefix
	Peers     []string // MACs of the other Manager
	Farewells []Farewell
	Period    time.Duration // AnnouncePeriod, if not 0
	Powerless bool          // run in a user namespace that does not own the network
	GuardOnce string        // a file; once it exists no guard can be started
	Listen    bool          // accept TCP on port 7000 of every address and say nothing
	Vacant    bool          // Right.Vacant
}

// answer is one line of the manager role's standard output.
type answer struct {
	Op    string
	Micro int64 `json:",omitempty"`
	Err   string
	Kind  EventKind `json:",omitempty"`
	MAC   string    `json:",omitempty"`
	State *State    `json:",omitempty"`
}

// runManager is a process that holds a VIP as its standard input says: acquire (a right that
// is renewed while the process runs, 200 ms ahead), expire (the right ends now), release,
// announce, state, close.
func runManager() int {
	var set managerSettings
	if err := json.Unmarshal([]byte(os.Args[1]), &set); err != nil {
		panic(err)
	}
	var outMu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(a answer) {
		outMu.Lock()
		defer outMu.Unlock()
		_ = out.Encode(a)
	}
	fail := func(op string, err error) {
		a := answer{Op: op}
		if err != nil {
			a.Err = err.Error()
		}
		say(a)
	}
	if set.Listen {
		ln, err := net.Listen("tcp", ":7000") // dual stack, as servers are
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				if _, err := ln.Accept(); err != nil {
					return
				}
			}
		}()
	}
	baseline := goleak.IgnoreCurrent()
	c := DefaultConfig()
	c.Address = set.Address
	os.Setenv(roleVariable, "guard")
	c.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c.Event = func(e Event) { say(answer{Op: "event", Kind: e.Kind, MAC: e.MAC.String(), Err: e.Text}) }
	if set.Period != 0 {
		c.AnnouncePeriod = set.Period
	}
	if set.GuardOnce != "" {
		c.GuardCommand = []string{"/bin/sh", "-c", `set -e; [ ! -e "$1" ]; : > "$1"; exec "$0" guard`, os.Args[0], set.GuardOnce}
	}
	ctx := context.Background()
	k, err := Open(ctx, c)
	fail("open", err)
	if err != nil {
		return 1
	}
	var lease *Lease
	var expired sync.Map
	n := 0
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		switch commands.Text() {
		case "acquire":
			n++
			mine := n
			begin := time.Now()
			l, err := k.Acquire(ctx, Right{
				Until: func() Instant {
					if _, over := expired.Load(mine); over {
						return Now() - 1
					}
					return Now().Add(200 * time.Millisecond)
				},
				Farewell: set.Farewells,
				Vacant:   set.Vacant,
				HeldBy:   func(m net.HardwareAddr) bool { return strings.Contains(strings.Join(set.Peers, " "), m.String()) },
			})
			a := answer{Op: "acquire", Micro: time.Since(begin).Microseconds()}
			if err != nil {
				a.Err = err.Error()
				say(a)
				continue
			}
			lease = l
			say(a)
			go func() {
				<-l.Done()
				fail("done", l.Err())
			}()
		case "expire":
			expired.Store(n, true)
		case "announce":
			lease.Announce()
		case "release":
			begin := time.Now()
			err := lease.Release()
			a := answer{Op: "release", Micro: time.Since(begin).Microseconds()}
			if err != nil {
				a.Err = err.Error()
			}
			say(a)
		case "state":
			s := k.State()
			say(answer{Op: "state", State: &s})
		case "close":
			err := k.Close()
			if err == nil {
				err = goleak.Find(baseline)
			}
			fail("close", err)
			return 0
		default:
			panic("unknown command " + strconv.Quote(commands.Text()))
		}
	}
	return 0
}
