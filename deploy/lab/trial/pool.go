// Package trial puts a pool of redundancy into a lab and tries it: it starts the real programs,
// forms the pool with the commands that a person would type, puts it under load, breaks it, and
// compares what units were acknowledged with what the databases hold.
//
// It knows the programs only by their commands and JSON, never by their packages, so that what
// it finds holds for what is shipped. cmd/poollab calls it.
package trial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"redundancypool/deploy/lab"
)

// Config says how a pool is started.
type Config struct {
	Bin         Binaries
	VIP         netip.Prefix
	Active      bool          // the Master takes Primary back by itself
	FaultyDisks bool          // the Managers' data stand on lab disks
	SecondPath  bool          // the lab has eth1 too: members also hear one another there
	Patience    time.Duration // for the pool to form or to become Protected again
	Say         func(format string, args ...any)
}

// Pool is a Master, a Backup and an Arbiter in a lab, with their field units on the client.
type Pool struct {
	lab    *lab.Lab
	cfg    Config
	units  []string     // names of the simulated field units
	load   *lab.Process // runs them; nil: none were started
	ledger *Ledger

	mu    sync.Mutex
	terms map[uint64]string // term -> the host that said it was Primary in it
	twice error             // the first time that two hosts said so
}

// New only builds; Start begins.
func New(l *lab.Lab, cfg Config) *Pool { return &Pool{lab: l, cfg: cfg, terms: map[uint64]string{}} }

// Managers are the names of the hosts that can be Primary.
func Managers() []string { return []string{"master", "backup"} }

// Other returns the other Manager's host name.
func Other(name string) string {
	if name == "master" {
		return "backup"
	}
	return "master"
}

// Lab returns the lab that the pool runs in.
func (p *Pool) Lab() *lab.Lab { return p.lab }

// DataDir is the data folder of the Manager or Arbiter on a host.
func (p *Pool) DataDir(h *lab.Host) string {
	if p.cfg.FaultyDisks && h.Name() != "arbiter" {
		return filepath.Join(h.DiskPath(), "data")
	}
	return filepath.Join(h.Dir(), "data")
}

// Start runs the three programs on new, empty data folders and waits until each answers.
func (p *Pool) Start(ctx context.Context) error {
	for _, name := range []string{"arbiter", "master", "backup"} {
		h, err := p.lab.Host(name)
		if err != nil {
			return err
		}
		if p.cfg.FaultyDisks && name != "arbiter" {
			if err := h.FaultyDisk(256 << 20); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(p.DataDir(h)); err != nil {
			return fmt.Errorf("empty the data folder: %w", err)
		}
		if err := p.StartHost(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// StartHost runs the host's program on the data that it has, as its service manager would after
// a crash or a power on, and waits until it answers.
func (p *Pool) StartHost(ctx context.Context, name string) error {
	h, err := p.lab.Host(name)
	if err != nil {
		return err
	}
	program := program(name)
	proc, err := h.Start(lab.Command{Name: program, Path: p.path(program), Args: []string{"serve", "--data", p.DataDir(h)}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		_, err := p.command(ctx, name, "status", "--json")
		if err == nil {
			return nil
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("%s on %s ended at once: %s", program, name, tail(proc.Log(), 5))
		case <-ctx.Done():
			return fmt.Errorf("%s on %s does not answer: %w; its log ends: %s", program, name, err, tail(proc.Log(), 5))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// program is what runs on a host.
func program(host string) string {
	if host == "arbiter" {
		return "arbiter"
	}
	return "manager"
}

func (p *Pool) path(program string) string {
	if program == "arbiter" {
		return p.cfg.Bin.Arbiter
	}
	return p.cfg.Bin.Manager
}

// Process returns the Manager or Arbiter of a host.
func (p *Pool) Process(name string) (*lab.Process, error) {
	h, err := p.lab.Host(name)
	if err != nil {
		return nil, err
	}
	return h.Process(program(name))
}

// command runs a command of the host's own program on its data folder.
func (p *Pool) command(ctx context.Context, name string, args ...string) ([]byte, error) {
	h, err := p.lab.Host(name)
	if err != nil {
		return nil, err
	}
	prog := program(name)
	args = append(append([]string(nil), args...), "--data", p.DataDir(h))
	return h.Output(ctx, lab.Command{Name: prog + " " + args[0], Path: p.path(prog), Args: args})
}

// Form makes the three programs one pool with the commands that its documentation names, and
// waits until the pool is Protected.
func (p *Pool) Form(ctx context.Context) error {
	hosts := map[string]netip.Addr{}
	for _, name := range []string{"master", "backup", "arbiter"} {
		h, err := p.lab.Host(name)
		if err != nil {
			return err
		}
		hosts[name] = h.Addr()
	}
	p.cfg.Say("backup: manager redundancy set --mode backup")
	args := []string{"redundancy", "set", "--mode", "backup", "--local", hosts["backup"].String(),
		"--peer", hosts["master"].String(), "--vip", p.cfg.VIP.String(), "--interface", "eth0", "--yes"}
	second, err := p.second("--local-second", "backup", "--peer-second", "master")
	if err != nil {
		return err
	}
	if _, err := p.command(ctx, "backup", append(args, second...)...); err != nil {
		return fmt.Errorf("set up the Backup: %w", err)
	}
	backupToken, err := p.token(ctx, "backup", "redundancy", "token")
	if err != nil {
		return err
	}
	arbiterToken, err := p.token(ctx, "arbiter", "token")
	if err != nil {
		return err
	}
	p.cfg.Say("master: manager redundancy set --mode master")
	args = []string{"redundancy", "set", "--mode", "master", "--local", hosts["master"].String(),
		"--peer", hosts["backup"].String(), "--arbiter", hosts["arbiter"].String(), "--vip", p.cfg.VIP.String(),
		"--interface", "eth0", "--pairing", backupToken, "--arbiter-pairing", arbiterToken, "--yes"}
	if p.cfg.Active {
		args = append(args, "--active")
	}
	second, err = p.second("--local-second", "master", "--peer-second", "backup", "--arbiter-second", "arbiter")
	if err != nil {
		return err
	}
	if _, err := p.command(ctx, "master", append(args, second...)...); err != nil {
		return fmt.Errorf("set up the Master: %w", err)
	}
	return p.WaitProtected(ctx)
}

// second turns pairs of a flag and a host into flags with the hosts' addresses on the second
// path; into nothing where there is none.
func (p *Pool) second(pairs ...string) ([]string, error) {
	if !p.cfg.SecondPath {
		return nil, nil
	}
	var args []string
	for i := 0; i < len(pairs); i += 2 {
		h, err := p.lab.Host(pairs[i+1])
		if err != nil {
			return nil, err
		}
		link, err := h.Link(1)
		if err != nil {
			return nil, err
		}
		args = append(args, pairs[i], link.Addr().Addr().String())
	}
	return args, nil
}

// token asks until the program has one: a Backup has none before it is On hold.
func (p *Pool) token(ctx context.Context, host string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		out, err := p.command(ctx, host, args...)
		if err == nil {
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if token := lines[len(lines)-1]; token != "" {
				return token, nil
			}
			err = errors.New("it printed no token")
		}
		if !pause(ctx, 100*time.Millisecond) {
			return "", fmt.Errorf("pairing token of %s: %w", host, err)
		}
	}
}

// Status asks a Manager or the Arbiter for its status; the answer comes within 3 s or is an error.
func (p *Pool) Status(ctx context.Context, host string) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	out, err := p.command(ctx, host, "status", "--json")
	if err != nil {
		return Status{}, err
	}
	s, err := parseStatus(out)
	if err != nil {
		return Status{}, fmt.Errorf("%s: %w", host, err)
	}
	if s.Primary() {
		p.noteTerm(s.Term, host)
	}
	return s, nil
}

func (p *Pool) noteTerm(term uint64, host string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if before, ok := p.terms[term]; ok && before != host && p.twice == nil {
		p.twice = fmt.Errorf("%w: %s and %s in term %d", ErrTwoPrimaries, before, host, term)
	}
	p.terms[term] = host
}

// TwoPrimaries returns an ErrTwoPrimaries once any two statuses, ever, named two Primaries of
// one term; else nil.
func (p *Pool) TwoPrimaries() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.twice
}

// Sample asks both Managers for their status every so often until ctx ends, so that
// TwoPrimaries sees what happens between a trial's own questions.
func (p *Pool) Sample(ctx context.Context, every time.Duration) {
	for pause(ctx, every) {
		for _, name := range Managers() {
			// A Manager that does not answer is not Primary for this check.
			_, _ = p.Status(ctx, name)
		}
	}
}

// Primary returns the host whose Manager says that it is Primary, with its status; when an old
// Primary does not know yet, the one of the higher term. It waits up to 15 s for one.
func (p *Pool) Primary(ctx context.Context) (string, Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		name, s, err := p.primaryNow(ctx)
		if err == nil {
			return name, s, p.TwoPrimaries()
		}
		if !pause(ctx, 50*time.Millisecond) {
			return "", Status{}, fmt.Errorf("no Manager is Primary within 15 s: %w", err)
		}
	}
}

func (p *Pool) primaryNow(ctx context.Context) (string, Status, error) {
	var found string
	var status Status
	var errs []error
	for _, name := range Managers() {
		s, err := p.Status(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if s.Primary() && (found == "" || s.Term > status.Term) {
			found, status = name, s
		}
		errs = append(errs, fmt.Errorf("%s: %s", name, s.why()))
	}
	if found == "" {
		return "", Status{}, errors.Join(errs...)
	}
	return found, status, nil
}

// ErrTwoPrimaries means that two Managers said to be Primary in one term: the one thing that
// must never be.
var ErrTwoPrimaries = errors.New("two Managers are Primary in one term")

// WaitProtected waits until both Managers say that the pool is Protected.
func (p *Pool) WaitProtected(ctx context.Context) error {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Patience)
	defer cancel()
	var last string
	for {
		protected, primaries := 0, 0
		var lines []string
		for _, name := range Managers() {
			s, err := p.Status(ctx, name)
			if err != nil {
				lines = append(lines, name+": "+err.Error())
				continue
			}
			lines = append(lines, name+": "+s.why())
			if s.Protected() {
				protected++
			}
			if s.Primary() {
				primaries++
			}
		}
		if protected == 2 && primaries == 1 {
			return nil
		}
		if ctx.Err() == nil {
			last = strings.Join(lines, " | ") // what was said before the time ran out
		}
		if !pause(ctx, 100*time.Millisecond) {
			return fmt.Errorf("the pool is not Protected after %v: %s", time.Since(begin).Round(time.Second), last)
		}
	}
}

// pause waits for d and says whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// tail returns the last n lines of a log in one.
func tail(path string, n int) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, " / ")
}
