package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"redundancypool/deploy/lab/trial"
)

type demoCmd struct {
	Once bool `help:"End after the report instead of leaving the pool running."`
	JSON bool `name:"json" help:"Print the report as one JSON object; progress goes to standard error."`
}

func (d *demoCmd) options() options { return options{Quiet: d.JSON} }

// run shows the takeover, prints the report, and leaves the pool running unless --once.
func (d *demoCmd) run(ctx context.Context, p *trial.Pool, s *stage) (int, error) {
	t, err := p.Open()
	if err != nil {
		return 1, err
	}
	report, err := t.Demo(ctx)
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return 1, err
	}
	if err := printReport(d.JSON, report, report.Text()); err != nil {
		return 1, err
	}
	code := 0
	if len(report.Problems) > 0 {
		code = 1
	}
	if !d.Once {
		s.wait(ctx)
	}
	return code, nil
}

// wait prints where the pages are and waits for Ctrl-C or 'poollab down'.
func (s *stage) wait(ctx context.Context) {
	s.say("the pool goes on running; its pages (the browser will ask about their certificates):")
	for _, d := range s.doors {
		s.say("  %s", d)
	}
	s.say("in another terminal: poollab status | kill master | freeze backup | cut master backup | heal ...")
	s.say("%s: Ctrl-C here or 'poollab down' ends the lab", readyMark)
	<-ctx.Done()
}

// readyMark is in the line that says that the pool is up.
const readyMark = "ready"

type loadFlags struct {
	Units  int     `help:"Simulated field units." default:"10"`
	Rate   float64 `help:"Records a second of each unit." default:"50"`
	HTTP   int     `name:"http" help:"Clients that write by the API, ten records a second each, with an Idempotency-Key." default:"0"`
	Report string  `help:"Write the report as JSON to this file." type:"path" placeholder:"FILE"`
}

// httpRate is how many records a second a client of the API writes.
const httpRate = 10

// startHTTP adds the clients that write by the API.
func (l loadFlags) startHTTP(ctx context.Context, p *trial.Pool, s *stage) error {
	if l.HTTP == 0 {
		return nil
	}
	if err := p.StartHTTP(ctx, l.HTTP, httpRate); err != nil {
		return err
	}
	s.say("%d clients write by the API, %d records a second each", l.HTTP, httpRate)
	return p.WaitUnits(ctx, time.Now(), time.Minute)
}

type runCmd struct {
	loadFlags
	Rounds int    `help:"How many faults, one after the other." default:"200"`
	Seed   uint64 `help:"The same seed gives the same faults; 0 chooses one." default:"0"`
	Faults string `help:"What to choose from: kill, killguard, freeze, freezeall, poweroff, cut, unplug, apart, deaf, mute, handover, sigterm, flap." default:"kill"`
}

func (r *runCmd) run(ctx context.Context, p *trial.Pool, s *stage) (int, error) {
	faults, err := trial.ParseFaults(r.Faults)
	if err != nil {
		return 2, err
	}
	seed := r.Seed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	s.say("%d rounds of %v, seed %d", r.Rounds, faults, seed)
	if err := r.startHTTP(ctx, p, s); err != nil {
		return 1, err
	}
	t, err := p.Open()
	if err != nil {
		return 1, err
	}
	defer t.Close()
	sampling, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); p.Sample(sampling, 500*time.Millisecond) }()
	report := t.Run(ctx, r.Rounds, seed, faults)
	stop()
	<-done
	return finish(r.Report, report)
}

type measureCmd struct {
	loadFlags
	N      int    `help:"How often each fault hits the Primary." default:"20" short:"n"`
	Faults string `help:"Which faults, one after the other." default:"kill,poweroff,handover"`
}

func (m *measureCmd) run(ctx context.Context, p *trial.Pool, s *stage) (int, error) {
	faults, err := trial.ParseFaults(m.Faults)
	if err != nil {
		return 2, err
	}
	if err := m.startHTTP(ctx, p, s); err != nil {
		return 1, err
	}
	t, err := p.Open()
	if err != nil {
		return 1, err
	}
	defer t.Close()
	return finish(m.Report, t.Measure(ctx, m.N, faults))
}

func finish(path string, report trial.Report) (int, error) {
	fmt.Print("\n", report.Text())
	if path != "" {
		data, err := json.MarshalIndent(report, "", "  ")
		if err != nil {
			return 1, fmt.Errorf("write report: %w", err)
		}
		if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
			return 1, fmt.Errorf("write report: %w", err)
		}
	}
	if report.Failed() {
		return 1, nil
	}
	return 0, nil
}

func printReport(asJSON bool, report any, text string) error {
	if !asJSON {
		fmt.Print("\n", text, "\n")
		return nil
	}
	data, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	_, err = fmt.Println(string(data))
	return err
}

type upCmd struct {
	Foreground  bool    `help:"Stay in this terminal until Ctrl-C."`
	SecondPath  bool    `help:"A second LAN: every host has eth1 on 10.0.1.0/24."`
	FaultyDisks bool    `help:"Managers' data on small disks of their own that can be broken."`
	Active      bool    `help:"The Master takes Primary back by itself."`
	Unformed    bool    `help:"Start the three programs but form no pool: for setting one up by hand."`
	Units       int     `help:"Simulated field units." default:"10"`
	Rate        float64 `help:"Records a second of each unit." default:"10"`
}

// up starts a lab: here, or in the background, following its words until it is ready.
func (c *cli) up(ctx context.Context) (int, error) {
	u := c.Up
	if u.Foreground {
		o := options{SecondPath: u.SecondPath, FaultyDisks: u.FaultyDisks, Active: u.Active, Unformed: u.Unformed}
		return c.own(ctx, func(ctx context.Context, _ *trial.Pool, s *stage) (int, error) {
			s.wait(ctx)
			return 0, nil
		}, u.Units, u.Rate, o)
	}
	if err := c.makeDir(); err != nil {
		return 1, err
	}
	path := filepath.Join(c.Dir, "poollab.log")
	log, err := os.Create(path)
	if err != nil {
		return 1, fmt.Errorf("open the lab's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", append(os.Args[1:], "--foreground")...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("start the lab in the background: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return follow(ctx, path, cmd, ended)
}

// follow copies the background lab's words to this terminal until it is ready or has ended.
func follow(ctx context.Context, path string, cmd *exec.Cmd, ended <-chan error) (int, error) {
	in, err := os.Open(path)
	if err != nil {
		return 1, fmt.Errorf("follow the lab's log: %w", err)
	}
	defer in.Close()
	for {
		var over error
		select {
		case err := <-ended:
			over = fmt.Errorf("the lab ended: %v", err)
		case <-ctx.Done():
			_ = cmd.Process.Signal(syscall.SIGTERM)
			<-ended
			over = fmt.Errorf("interrupted")
		case <-time.After(50 * time.Millisecond):
		}
		text, err := io.ReadAll(in)
		if err != nil {
			return 1, fmt.Errorf("follow the lab's log: %w", err)
		}
		os.Stdout.Write(text)
		if over != nil {
			return 1, over
		}
		if strings.Contains(string(text), readyMark+": Ctrl-C") {
			return 0, nil
		}
	}
}
