package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"redundancypool/deploy/lab"
	"redundancypool/deploy/lab/control"
	"redundancypool/deploy/lab/trial"
)

// options are what a lab may have besides its three members.
type options struct {
	SecondPath  bool
	FaultyDisks bool
	Active      bool
	Unformed    bool // start the programs, form no pool
	Quiet       bool // say nothing on standard output: it holds JSON
}

// job is what the owner of a lab does once the pool is Protected and under load. It returns the
// exit code.
type job func(ctx context.Context, p *trial.Pool, s *stage) (int, error)

// stage is what a job needs besides the pool.
type stage struct {
	doors []string // "what: address" of each page
	say   func(format string, args ...any)
}

// own makes this process the owner of a lab: programs, namespaces, pool, load, job, clean-up.
// Without the privilege it starts itself again in a user namespace and waits.
func (c *cli) own(ctx context.Context, do job, units int, rate float64, o options) (int, error) {
	inside, err := lab.InsideUserNamespace()
	if err != nil {
		return 1, err
	}
	if err := c.makeDir(); err != nil {
		return 1, err
	}
	say := sayer(o.Quiet)
	bin, err := c.binaries(ctx, inside, say)
	if err != nil {
		return 1, err
	}
	listeners, err := doorListeners(inside)
	if err != nil {
		return 1, err
	}
	if !inside && !lab.MayBuild() {
		if err := os.Setenv("POOLLAB_DIR", c.Dir); err != nil { // the default names a user id, which is 0 in there
			return 1, err
		}
		return enter(listeners)
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	cfg := lab.DefaultConfig(c.Dir, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	cfg.SecondPath = o.SecondPath
	l, err := lab.Open(cfg)
	if err != nil {
		return 1, err
	}
	p := trial.New(l, trial.Config{Bin: bin, VIP: lab.VirtualAddr, Active: o.Active, FaultyDisks: o.FaultyDisks, SecondPath: o.SecondPath,
		Patience: 2 * time.Minute, Say: say})
	code := 1
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.serve(gctx, p, end) })
	g.Go(func() error {
		defer end()
		var err error
		code, err = play(gctx, p, do, units, rate, o, &stage{say: say}, listeners)
		return err
	})
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		code, err = 130, errors.New("interrupted")
	}
	say("removing the lab")
	return code, errors.Join(err, l.Close())
}

func play(ctx context.Context, p *trial.Pool, do job, units int, rate float64, o options, s *stage, listeners []net.Listener) (int, error) {
	forwarders, err := p.OpenDoors(listeners)
	if err != nil {
		return 1, err
	}
	for i, f := range forwarders {
		defer f.Close()
		s.doors = append(s.doors, fmt.Sprintf("https://%-17s %s, %s in the LAN", f.Addr(), p.Doors()[i].What, p.Doors()[i].Target))
	}
	begin := time.Now()
	s.say("starting Master, Backup and Arbiter on %s, %s, %s", lab.MasterAddr.Addr(), lab.BackupAddr.Addr(), lab.ArbiterAddr.Addr())
	if err := p.Start(ctx); err != nil {
		return 1, err
	}
	if !o.Unformed {
		if err := p.Form(ctx); err != nil {
			return 1, err
		}
		s.say("pool is Protected, virtual IP %s, %.1f s after the start", lab.VirtualAddr.Addr(), time.Since(begin).Seconds())
		if units == 0 {
			return do(ctx, p, s)
		}
		if err := p.StartUnits(ctx, units, rate); err != nil {
			return 1, err
		}
		if err := p.WaitUnits(ctx, time.Now(), time.Minute); err != nil {
			return 1, err
		}
		s.say("%d simulated field units publish %v records a second each, and are acknowledged", units, rate)
	}
	return do(ctx, p, s)
}

// serve answers other terminals; the order down ends the lab.
func (c *cli) serve(ctx context.Context, p *trial.Pool, end func()) error {
	return control.Serve(ctx, c.socket(), func(ctx context.Context, o control.Order, say func(string)) error {
		if o.Verb == "down" {
			say("ending the lab")
			end()
			return nil
		}
		return p.Operate(ctx, o, say)
	})
}

// makeDir creates the lab's folder for this user alone, and refuses one of somebody else.
func (c *cli) makeDir() error {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("create the lab's folder: %w", err)
	}
	st, err := os.Lstat(c.Dir)
	if err != nil {
		return fmt.Errorf("look at the lab's folder: %w", err)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.IsDir() || int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is not a folder of this user: choose another with --dir", c.Dir)
	}
	return nil
}

// binaries finds the programs, or builds them; in the user namespace they were built before.
func (c *cli) binaries(ctx context.Context, inside bool, say func(string, ...any)) (trial.Binaries, error) {
	if c.Bin != "" {
		return trial.FindBinaries(c.Bin)
	}
	dir := filepath.Join(c.Dir, "bin")
	if inside {
		return trial.FindBinaries(dir)
	}
	say("building manager, arbiter and fieldunit")
	return trial.BuildBinaries(ctx, dir)
}

// doorListeners listens on the machine's loopback; in the user namespace the listeners were
// opened outside and are the files 3 and up.
func doorListeners(inside bool) ([]net.Listener, error) {
	var all []net.Listener
	for i, d := range (&trial.Pool{}).Doors() {
		if !inside {
			ln, err := lab.ListenLoopback(d.Listen)
			if err != nil {
				return nil, err
			}
			all = append(all, ln)
			continue
		}
		f := os.NewFile(uintptr(3+i), d.What)
		ln, err := net.FileListener(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("take over the listener for %s: %w", d.What, err)
		}
		all = append(all, ln)
	}
	return all, nil
}

func enter(listeners []net.Listener) (int, error) {
	var files []*os.File
	for _, ln := range listeners {
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			return 1, fmt.Errorf("pass on a listener: %w", err)
		}
		defer f.Close()
		ln.Close()
		files = append(files, f)
	}
	return lab.EnterUserNamespace(files)
}

func sayer(quiet bool) func(string, ...any) {
	out := os.Stdout
	if quiet {
		out = os.Stderr
	}
	begin := time.Now()
	return func(format string, args ...any) {
		fmt.Fprintf(out, "%6.1f s  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
}

type downCmd struct{}

// down ends a running lab, waits until it is gone, and sweeps what a killed one left.
func (c *cli) down(ctx context.Context) error {
	if _, err := os.Stat(c.Dir); errors.Is(err, fs.ErrNotExist) {
		fmt.Println("there is no lab in", c.Dir)
		return nil
	}
	err := control.Send(ctx, c.socket(), control.Order{Verb: "down"}, os.Stdout)
	if err != nil && !errors.Is(err, control.ErrNoLab) {
		return err
	}
	deadline := time.Now().Add(time.Minute)
	for {
		err := lab.Sweep(c.Dir)
		if err == nil {
			fmt.Println("the lab is gone; its files are in", c.Dir)
			return nil
		}
		if !errors.Is(err, lab.ErrBusy) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
