// Package browser_test drives the pages of real Managers with a real Chromium, in network
// namespaces of its own: what people click and read, not what handlers return.
//
// With SCREENSHOTS=FOLDER in the environment it also takes a picture of every page at 1280 and
// 390 pixels.
package browser_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// inside names the lab, in the process that runs in its client's namespace.
const inside = "REDUNDANCYPOOL_BROWSER_LAB"

// why is the reason for not testing; empty: the lab is there.
var why string

// TestMain makes four hosts on one switch and runs the tests again on the fourth, so that both
// tests and browser reach the others as a person in the LAN does.
func TestMain(m *testing.M) {
	if os.Getenv(inside) != "" {
		os.Exit(m.Run())
	}
	for _, program := range []string{"ip", "chromium"} {
		if _, err := exec.LookPath(program); err != nil {
			why = program + " is not installed"
		}
	}
	if os.Getuid() != 0 {
		why = "namespaces need root"
	}
	if why != "" {
		os.Exit(m.Run())
	}
	os.Exit(inLab())
}

func inLab() int {
	lab := fmt.Sprintf("w3t%d", os.Getpid())
	dir, err := os.MkdirTemp("", "browser-lab-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	sh := func(args ...string) bool {
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil {
			fmt.Fprintf(os.Stderr, "ip %v: %v: %s\n", args, err, out)
		}
		return err == nil
	}
	sw := lab + "s"
	defer sh("netns", "del", sw)
	if !sh("netns", "add", sw) || !sh("-n", sw, "link", "add", "br0", "type", "bridge") || !sh("-n", sw, "link", "set", "br0", "up") {
		return 1
	}
	for i, h := range []string{"m", "b", "a", "c"} {
		ns := lab + h
		defer sh("netns", "del", ns)
		if !sh("netns", "add", ns) || !sh("-n", ns, "link", "set", "lo", "up") ||
			!sh("-n", sw, "link", "add", "p"+h, "type", "veth", "peer", "name", "eth0", "netns", ns) ||
			!sh("-n", sw, "link", "set", "p"+h, "master", "br0", "up") ||
			!sh("-n", ns, "addr", "add", fmt.Sprintf("10.79.0.%d/24", i+1), "dev", "eth0") ||
			!sh("-n", ns, "link", "set", "eth0", "up") {
			return 1
		}
	}
	build := exec.Command("go", "build", "-o", dir+"/", "redundancypool/cmd/manager", "redundancypool/cmd/arbiter")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the programs:", err)
		return 1
	}
	again := exec.Command("ip", append([]string{"netns", "exec", lab + "c", os.Args[0]}, os.Args[1:]...)...)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.Env = append(os.Environ(), inside+"="+lab, inside+"_DIR="+dir)
	if err := again.Run(); err != nil {
		return 1
	}
	return 0
}

// node is one Manager or Arbiter in the lab.
type node struct {
	t       *testing.T
	host    string // m, b or a
	address string
	dir     string
	extra   []string
	cmd     *exec.Cmd
	log     *journal
}

// journal is what a process writes, for searching while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func program(name string) string { return filepath.Join(os.Getenv(inside+"_DIR"), name) }

// start runs a node with an empty data folder.
func start(t *testing.T, host string, extra ...string) *node {
	n := &node{t: t, host: host, address: map[string]string{"m": "10.79.0.1", "b": "10.79.0.2", "a": "10.79.0.3"}[host], dir: t.TempDir(), extra: extra, log: &journal{}}
	n.run()
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			text := n.log.String()
			t.Logf("log of %s:\n%s", host, text[max(0, len(text)-6000):])
		}
	})
	return n
}

func (n *node) run() {
	n.t.Helper()
	name := "manager"
	if n.host == "a" {
		name = "arbiter"
	}
	n.cmd = exec.Command("ip", append([]string{"netns", "exec", os.Getenv(inside) + n.host, program(name), "serve", "--data", n.dir}, n.extra...)...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	if name == "manager" {
		n.await("serves", func() bool {
			return exec.Command(program("manager"), "status", "--data", n.dir).Run() == nil
		})
	}
}

// stop ends the process in order, and for sure.
func (n *node) stop() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = n.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
	n.cmd = nil
}

// ip runs the ip tool in the node's host.
func (n *node) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", append([]string{"-n", os.Getenv(inside) + n.host}, args...)...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// slow limits what the node's host sends, so that copying takes long enough to be watched; false:
// this kernel cannot.
func (n *node) slow(rate string) bool {
	err := exec.Command("ip", "netns", "exec", os.Getenv(inside)+n.host, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "64kb", "latency", "100ms").Run()
	if err != nil {
		n.t.Log("the network cannot be slowed down here, so the copy's progress is not watched: ", err)
	}
	return err == nil
}

func (n *node) fast() {
	n.t.Helper()
	if out, err := exec.Command("ip", "netns", "exec", os.Getenv(inside)+n.host, "tc", "qdisc", "del", "dev", "eth0", "root").CombinedOutput(); err != nil {
		n.t.Errorf("tc: %v: %s", err, out)
	}
}

func (n *node) await(what string, f func() bool) {
	n.t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); {
		if time.Now().After(end) {
			n.t.Fatalf("%s: not within 30 s that it %s; log:\n%s", n.host, what, n.log)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// told runs a command of the node's program and returns the last line.
func (n *node) told(args ...string) string {
	n.t.Helper()
	name := "manager"
	if n.host == "a" {
		name = "arbiter"
	}
	out, err := exec.Command(program(name), append(args, "--data", n.dir)...).Output()
	if err != nil {
		n.t.Fatalf("%s %v: %v", name, args, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// code is what the node printed for the first administrator.
func (n *node) code() string {
	n.t.Helper()
	var code string
	n.await("prints the code for the first administrator", func() bool {
		_, rest, ok := strings.Cut(n.log.String(), "with this code\" code=")
		if ok {
			code = strings.Fields(rest)[0]
		}
		return ok
	})
	return code
}

// page is a tab of the browser.
type page struct {
	t    *testing.T
	ctx  context.Context
	base string
}

var (
	browserOnce sync.Once
	browserCtx  context.Context
)

// open begins a tab on a node's pages, over HTTPS as in the LAN.
func open(t *testing.T, n *node) *page {
	t.Helper()
	browserOnce.Do(func() {
		dir, err := os.MkdirTemp(os.Getenv(inside+"_DIR"), "profile-")
		if err != nil {
			t.Fatal(err)
		}
		alloc, _ := chromedp.NewExecAllocator(context.Background(),
			chromedp.ExecPath("chromium"), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
			chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
			chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("ignore-certificate-errors", true),
			chromedp.UserDataDir(dir), chromedp.WindowSize(1280, 900), chromedp.WSURLReadTimeout(60*time.Second))
		browserCtx, _ = chromedp.NewContext(alloc)
		if err := chromedp.Run(browserCtx); err != nil {
			t.Fatal("start chromium: ", err)
		}
	})
	if browserCtx == nil {
		t.Fatal("no browser")
	}
	ctx, cancel := chromedp.NewContext(browserCtx)
	t.Cleanup(cancel)
	if err := chromedp.Run(ctx); err != nil { // the tab lives as long as the context of its first run
		t.Fatal("open a tab: ", err)
	}
	return &page{t: t, ctx: ctx, base: "https://" + n.address + ":8443"}
}

// do runs steps, each within 30 s.
func (p *page) do(actions ...chromedp.Action) {
	p.t.Helper()
	for i, a := range actions {
		var err error
		for range 3 {
			ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
			err = chromedp.Run(ctx, a)
			cancel()
			if err == nil || !strings.Contains(err.Error(), "(-32000)") {
				break
			}
			// The page was replaced in between; nothing was done yet.
		}
		if err != nil {
			p.t.Fatalf("step %d at %s: %v; the page has:\n%s", i+1, p.base, err, p.text())
		}
	}
}

func (p *page) text() string {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	var text, at string
	_ = chromedp.Run(ctx, chromedp.Location(&at), chromedp.Evaluate(`document.body ? document.body.innerText : ""`, &text))
	return at + "\n" + text
}

func (p *page) visit(path string) { p.t.Helper(); p.do(chromedp.Navigate(p.base + path)) }

// sees waits until the page shows a text.
func (p *page) sees(texts ...string) {
	p.t.Helper()
	for _, want := range texts {
		var now string
		for end := time.Now().Add(45 * time.Second); ; time.Sleep(100 * time.Millisecond) {
			if now = p.text(); strings.Contains(now, want) {
				break
			}
			if time.Now().After(end) {
				p.t.Fatalf("the page does not show %q but\n%s", want, now)
			}
		}
	}
}

// beside waits until the field with this id shows a text beside it.
func (p *page) beside(id, want string) {
	p.t.Helper()
	var now string
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_ = chromedp.Run(p.ctx, chromedp.Evaluate(`(document.getElementById("`+id+`-help")||{innerText:""}).innerText`, &now))
		if strings.Contains(now, want) {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("beside %s stands %q, not %q; the page:\n%s", id, now, want, p.text())
		}
	}
}

// fill types into fields by id; a select is set likewise.
func (p *page) fill(pairs ...string) {
	p.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		p.do(chromedp.SetValue("#"+pairs[i], pairs[i+1], chromedp.ByQuery))
	}
}

// press clicks a button and waits for the page after it.
func (p *page) press(selector string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(selector, chromedp.ByQuery)); err != nil {
		p.t.Fatalf("press %s at %s: %v; the page has:\n%s", selector, p.base, err, p.text())
	}
}

// front shows the tab: one behind another is not drawn and gets no keys.
func (p *page) front() {
	p.t.Helper()
	p.do(chromedp.ActionFunc(func(ctx context.Context) error {
		return chromedp.FromContext(ctx).Target.Execute(ctx, "Page.bringToFront", nil, nil)
	}))
}

// shot takes pictures of the page, if they are wanted.
func (p *page) shot(name string) {
	p.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	for _, width := range []int64{1280, 390} {
		var png []byte
		p.front()
		p.do(chromedp.EmulateViewport(width, 900), chromedp.FullScreenshot(&png, 100))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.png", name, width)), png, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	p.do(chromedp.EmulateViewport(1280, 900))
}

// says reports whether a command of the node's program succeeds.
func (n *node) says(args ...string) bool {
	name := "manager"
	if n.host == "a" {
		name = "arbiter"
	}
	return exec.Command(program(name), append(args, "--data", n.dir)...).Run() == nil
}
