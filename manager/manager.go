// Package manager composes a Manager from its leaves: settings, trust, journal, the pool, the
// database, the virtual IP, the broker of the field units and the pages. It is the only place
// where a change of Status causes anything: primary.go takes up and lays down the duties of the
// Primary, hold.go and forming.go lead a node from one role to another.
//
// cmd/manager runs it. What each duty does is the leaf's business.
package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"redundancypool/arbiter"
	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/pool/transport"
	"redundancypool/manager/settings"
	"redundancypool/manager/trust"
	"redundancypool/web"
)

// Config says how one Manager process is run. Empty addresses take what the settings say.
type Config struct {
	Dir                  string
	ListenHTTP           string
	ListenHTTPS          string
	PoolListen           string
	ConfigurationTimeout time.Duration // 0: 10 minutes
	VerifyEvery          time.Duration // how often a running pool verifies itself; 0: every 30 s
	DrillSettle          time.Duration // how long a drill waits for the pool in between; 0: 60 s
	GuardCommand         []string      // argv of the guard of the virtual IP; nil: this program with "guard"
	Version              string
	Modules              []string // licensed modules, sorted; nil: this product has none
	Log                  *slog.Logger
}

// DefaultConfigurationTimeout is how long forming may take before both sides fall back.
const DefaultConfigurationTimeout = 10 * time.Minute

// Manager is one running Manager. It outlives its changes of mode: the process, its control
// socket and its pages stay, the engine behind them is replaced.
type Manager struct {
	cfg     Config
	log     *slog.Logger
	trust   *trust.Store
	journal *journal.Journal
	port    *transport.Port
	pages   *web.Server
	bound   bound // where port and pages are
	control *control.Server
	dialer  *transport.Dialer
	certs   certificates
	first   firstCode
	logs    *logbook
	ending  context.Context // ends before the ports close
	end     context.CancelFunc
	// background is what runs beside the engines until ending.
	background sync.WaitGroup
	space      space  // guarded by mu
	why        string // of the last restart into another mode; guarded by mu
	known      acquaintance

	flood flood
	facts *arbiter.Facts

	mu       sync.Mutex
	settings settings.Settings
	progress settings.Progress
	engine   *engine
	restart  chan string // reason; buffered 1
	attempt  *attempt    // the forming under way on a Master
	held     *heldJoin   // what a Backup on hold has agreed to
	mismatch mismatch    // what the Master last asked for in vain
	dropped  bool        // the next engine starts without what an unfinished attempt left
	watched  watched     // what a running pool checks by itself
	trouble  error       // why no engine runs
	working  *work       // the latest change of the running pool

	agreeing    sync.Mutex // one change of the pool's agreement at a time
	reconciling sync.Mutex // one who changes the log's members at a time
}

// Run serves until ctx ends. It returns nil then, or what kept it from starting.
func Run(ctx context.Context, cfg Config) error {
	arbiter.RaisePriority(cfg.Log)
	m, err := start(cfg)
	if err != nil {
		return err
	}
	defer m.stop()
	m.background.Go(func() { m.watchStatus(m.ending) })
	m.background.Go(func() { m.watchMachine(m.ending) })
	go m.facts.Run(ctx) // not waited for: a disk that hangs would keep it
	for first := true; ; first = false {
		if !first {
			m.relisten()
		}
		again, err := m.runEngine(ctx)
		switch {
		case err != nil && first:
			return err
		case err != nil:
			m.suffer(ctx, err)
		case !again:
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// suffer waits a moment after an engine that could not be opened: a process that has served once
// does not end by itself, because the cause, such as a full disk, may pass.
func (m *Manager) suffer(ctx context.Context, err error) {
	m.mu.Lock()
	before := m.trouble
	m.trouble = err
	if m.settings.Mode == settings.Backup && m.progress.Forming {
		m.dropped = true // back to On hold
	}
	m.mu.Unlock()
	if before == nil || before.Error() != err.Error() {
		m.event(journal.Error, "node", "not_running", "this Manager cannot start into its mode: "+err.Error(), nil)
		m.log.Error("cannot start into the mode of the settings; trying again", "error", err)
	}
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func start(cfg Config) (*Manager, error) {
	if cfg.ConfigurationTimeout == 0 {
		cfg.ConfigurationTimeout = DefaultConfigurationTimeout
	}
	if cfg.VerifyEvery == 0 {
		cfg.VerifyEvery = watchEvery
	}
	if cfg.DrillSettle == 0 {
		cfg.DrillSettle = DefaultDrillSettle
	}
	if cfg.GuardCommand == nil {
		cfg.GuardCommand = []string{"/proc/self/exe", "guard"}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder %s: %w; choose a folder that this user may write with --data", cfg.Dir, err)
	}
	m := &Manager{why: "this Manager has started", cfg: cfg, log: cfg.Log, facts: arbiter.NewFacts(cfg.Dir), restart: make(chan string, 1)}
	m.logs = newLogbook(m)
	m.ending, m.end = context.WithCancel(context.Background())
	var err error
	if m.settings, err = settings.Load(cfg.Dir); err != nil {
		return nil, err
	}
	if err := m.settings.Validate(); err != nil {
		return nil, err
	}
	if m.progress, err = settings.LoadProgress(cfg.Dir); err != nil {
		return nil, err
	}
	if m.settings.Mode == settings.Standalone && m.progress.Forming {
		// The process ended between the two files: the mode is what counts.
		m.progress = settings.Progress{FallBack: m.progress.FallBack, Tried: m.progress.Tried}
	}
	if m.trust, err = trust.Open(cfg.Dir); err != nil {
		return nil, err
	}
	m.journal = journal.Open(journal.Config{Dir: filepath.Join(cfg.Dir, journalFolder), Node: m.name(), MaxBytes: int64(m.settings.Limits.JournalMiB) << 20})
	m.dialer = arbiter.NewDialer(m.trust)
	m.dialer.Failed = m.changed
	// The control socket first: it takes the folder's lock.
	if m.control, err = control.Open(cfg.Dir, m.audited(control.ManagerOps(faces{m})), m.log); err != nil {
		return nil, errors.Join(err, m.journal.Close())
	}
	if err := m.listen(); err != nil {
		m.stop()
		return nil, err
	}
	return m, nil
}

// stop closes what start opened, as far as it came.
func (m *Manager) stop() {
	m.end()
	m.background.Wait()
	var errs []error
	if m.pages != nil {
		errs = append(errs, m.pages.Close())
	}
	errs = append(errs, m.control.Close())
	if m.port != nil {
		errs = append(errs, m.port.Close())
	}
	if err := errors.Join(append(errs, m.journal.Close())...); err != nil {
		m.log.Warn("closing", "error", err)
	}
}

// runEngine runs one engine until it is to be replaced (true) or ctx ends.
func (m *Manager) runEngine(ctx context.Context) (bool, error) {
	if err := m.settleFolders(); err != nil {
		return false, err
	}
	if err := m.isolateIfAsked(ctx); err != nil {
		return false, err
	}
	m.certs.forget()
	e, err := m.openEngine(ctx)
	if err != nil {
		return false, err
	}
	m.mu.Lock()
	m.engine, m.trouble = e, nil
	m.mu.Unlock()
	m.announceFirst(ctx)
	again := false
	select {
	case <-ctx.Done():
		e.handOverOnStop()
	case why := <-m.restart:
		m.mu.Lock()
		m.why = why
		m.mu.Unlock()
		m.log.Info("restarting into another mode", "why", why)
		m.event(journal.Info, "node", "restart", why, nil)
		again = true
	}
	m.mu.Lock()
	m.engine = nil
	m.mu.Unlock()
	if err := e.close(); err != nil {
		m.log.Warn("closing", "error", err)
	}
	return again, nil
}

// requestRestart makes the Manager start anew in the mode that the settings say, within this
// process. A request that is under way already covers a second one.
func (m *Manager) requestRestart(why string) {
	select {
	case m.restart <- why:
	default:
	}
}

func (m *Manager) snapshot() (settings.Settings, settings.Progress, *engine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings, m.progress, m.engine
}

// name is what people call this node: its set name, else its role.
func (m *Manager) name() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return nodeName(m.settings, m.trust)
}

func nodeName(s settings.Settings, t *trust.Store) string {
	if s.Name != "" {
		return s.Name
	}
	text, _ := t.Fingerprint().MarshalText()
	return string(s.Mode) + "-" + string(text[:6])
}

// event records what happened in this node's journal and, while it is Primary, in the history
// that both Managers keep.
func (m *Manager) event(sev journal.Severity, category, code, message string, details map[string]any) {
	e := journal.Event{TimeMS: time.Now().UnixMilli(), Node: m.name(), Severity: sev, Category: category, Code: code, Message: message, Details: details}
	m.record(e)
}

func (m *Manager) record(e journal.Event) {
	if e.From == e.To { // a change of status is always kept
		ok, dropped := m.flood.admit(e.Code, time.Now())
		if !ok {
			return
		}
		if dropped > 0 {
			details := map[string]any{"dropped_before": dropped}
			for k, v := range e.Details {
				details[k] = v
			}
			e.Details = details
		}
	}
	e = m.journal.Append(e)
	m.mu.Lock()
	eng := m.engine
	m.mu.Unlock()
	if eng != nil {
		eng.replicate(e)
	}
}

// journalFolder is where a node's own events are, below its data folder.
const journalFolder = "journal"

// Folders of a Manager below its data folder.
func (m *Manager) poolDir() string     { return filepath.Join(m.cfg.Dir, "pool") }
func (m *Manager) databaseDir() string { return filepath.Join(m.cfg.Dir, "database") }
func (m *Manager) asideDir() string    { return filepath.Join(m.cfg.Dir, "aside") }
func (m *Manager) savesDir() string    { return filepath.Join(m.cfg.Dir, "saves") }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// localAddr is where the other members reach this node.
func localAddr(s settings.Settings) netip.AddrPort { return s.Local.AddrPort() }
