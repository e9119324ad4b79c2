package browser_test

import (
	"encoding/json"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"redundancypool/web"
)

// js returns what an expression is in the page.
func js[T any](p *page, expression string) (out T) {
	p.t.Helper()
	p.do(chromedp.Evaluate(expression, &out))
	return out
}

// until waits until an expression holds in the page.
func (p *page) until(what, expression string) time.Duration {
	p.t.Helper()
	began := time.Now()
	for {
		var yes bool
		if err := chromedp.Run(p.ctx, chromedp.Evaluate("!!("+expression+")", &yes)); err == nil && yes {
			return time.Since(began)
		}
		if time.Since(began) > 45*time.Second {
			p.t.Fatalf("the page never shows that %s; it has\n%s", what, p.text())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// in logs the administrator in at an address and shows the Redundancy page.
func (p *page) in() *page {
	p.t.Helper()
	p.visit("/login")
	p.fill("name", "admin", "password", password)
	p.press("button.main")
	p.sees("Would a failover succeed now?")
	return p
}

// status is what the node says of itself; zero when it does not answer.
func (n *node) status() (r web.Redundancy) {
	out, err := exec.Command(program("manager"), "status", "--json", "--data", n.dir).Output()
	if err == nil {
		_ = json.Unmarshal(out, &r)
	}
	return r
}

func (n *node) awaitHealth(want string) {
	n.t.Helper()
	n.await("is "+want, func() bool { return n.status().Health == want })
}

// apart keeps a node from speaking to others; together ends it.
func (n *node) apart(from ...*node) {
	for _, o := range from {
		n.ip("route", "add", "unreachable", o.address+"/32")
	}
}

func (n *node) together(with ...*node) {
	for _, o := range with {
		n.ip("route", "del", "unreachable", o.address+"/32")
	}
}

// onePrimary looks until done that no two Managers say at one time that they are Primary.
func onePrimary(t *testing.T, done <-chan struct{}, a, b *node) {
	for {
		select {
		case <-done:
			return
		default:
		}
		if a.status().Status == "primary" && b.status().Status == "primary" && a.status().Status == "primary" {
			t.Error("both Managers say that they are Primary")
			return
		}
	}
}

const (
	verdictText = `document.querySelector(".verdict").innerText.replace(/\s+/g, " ").trim()`
	iconText    = `document.getElementById("pool-button").innerText.replace(/\s+/g, " ").trim()`
	isStale     = `document.body.classList.contains("is-stale")`
	// grey: no state on the page has another colour than text of no importance.
	grey = `[...document.querySelectorAll("main .state, .chip")].every(e => { const s = getComputedStyle(document.body); const probe = document.createElement("i"); probe.style = ""; probe.className = "soft"; document.body.append(probe); const soft = getComputedStyle(probe).color; probe.remove(); const c = getComputedStyle(e).color; return c === soft || c === s.color || e.closest(".s-unreachable, .s-failure, .v-failure") })`
)

func halves(state string) string { return `document.querySelectorAll(".topo .l-` + state + `").length` }

// One page tells at three in the morning what is the matter: on a real pool, with real faults
// underneath.
func TestRedundancyPageThroughFaults(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	back, master, third := start(t, "b"), start(t, "m"), start(t, "a")
	m := open(t, master)
	m.first(master)
	back.told("redundancy", "set", "--mode", "backup", "--local", "10.79.0.2", "--peer", "10.79.0.1", "--vip", "10.79.0.50/24", "--yes")
	master.told("redundancy", "set", "--mode", "master", "--local", "10.79.0.1", "--peer", "10.79.0.2", "--arbiter", "10.79.0.3", "--vip", "10.79.0.50/24",
		"--pairing", back.told("redundancy", "token"), "--arbiter-pairing", third.told("token"), "--yes")
	master.awaitHealth("protected")
	m.visit("/")
	b := open(t, back).in()
	v := open(t, back)
	v.base = "https://10.79.0.50:8443"
	v.in()

	// Healthy, and the same on both.
	for _, p := range []*page{m, b} {
		p.until("all six ends of the links hear", halves("heard")+` === 6`)
		p.sees("Protected", "any one of them may fail", "Yes", "Who hears whom")
	}
	if x, y := js[string](m, verdictText), js[string](b, verdictText); x != y {
		t.Errorf("the Master's page says %q, the Backup's %q", x, y)
	}
	if got := js[string](m, iconText); !strings.Contains(got, "Pool Protected") {
		t.Errorf("the icon says %q", got)
	}
	b.sees("Online (Standby)", "Primary (Running)", "The Primary has all pages")
	if got := js[string](m, `document.getElementById("topo-text").textContent`); !strings.Contains(got, "Master") || !strings.Contains(got, "held by") {
		t.Errorf("the picture's text is %q", got)
	}
	m.shot("redundancy-healthy")
	b.shot("redundancy-healthy-backup")

	// The panel: by focus and key, and it can be put away.
	m.front()
	m.do(chromedp.Focus("#pool-button", chromedp.ByQuery))
	m.until("the panel is open", `getComputedStyle(document.getElementById("pool-panel")).display === "block"`)
	m.shot("redundancy-panel")
	m.do(chromedp.Evaluate(`document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}))`, nil))
	m.until("the panel is shut", `getComputedStyle(document.getElementById("pool-panel")).display === "none"`)

	// Backup and Arbiter do not hear each other: the Primary hears both, and nothing could take over.
	back.apart(third)
	for _, p := range []*page{m, b} {
		p.sees("Degraded", "backup_arbiter_link", "do not hear each other", "Check the network between these two members")
		p.until("only those two ends are broken", halves("silent")+` === 2 && `+halves("heard")+` === 4`)
	}
	if x, y := js[string](m, verdictText), js[string](b, verdictText); x != y {
		t.Errorf("the Master's page says %q, the Backup's %q", x, y)
	}
	m.shot("redundancy-cut")
	back.together(third)
	master.awaitHealth("protected")

	// The Arbiter stands still.
	if err := third.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	m.sees("Degraded", "arbiter_unreachable", "Unreachable (Disconnected)")
	m.until("the far ends are not known", halves("unknown")+` === 2`)
	m.shot("redundancy-degraded")
	b.sees("arbiter_unreachable", "Unreachable (Faulted)")
	if err := third.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	master.awaitHealth("protected")

	// Maintenance closes the button, with that reason.
	back.told("redundancy", "deactivate", "--yes")
	m.sees("backup_maintenance", "in maintenance")
	b.until("its own chip says so", `document.getElementById("chips").innerText.includes("Maintenance")`)
	m.visit("/handover")
	m.sees("Hand over to Backup", "Fail", "backup_maintenance", "It is not safe now")
	m.shot("handover-refused")
	back.told("redundancy", "activate")
	m.until("the button opens by itself", `document.querySelector("#handover-act button.main")`)
	m.shot("handover")

	// Hand over from the Backup's own page, with steps; the pages change by themselves.
	b.visit("/handover")
	b.sees("Hand over to Backup", "Checks before", "None was measured in this pool yet")
	b.do(click("#handover-act button.main"))
	b.until("it is done", `document.querySelector(".m-done")`)
	b.until("the steps have times", `document.querySelectorAll(".timeline li").length >= 3 && /\d+ ms/.test(document.querySelector(".timeline").innerText)`)
	b.sees("no write was possible for", "Hand back to Master")
	b.shot("handover-done")
	b.visit("/")
	m.sees("Hand back to Master")
	v.sees("Hand back to Master") // the browser on the virtual IP followed, and is logged in
	b.until("the Backup holds the flag", `document.querySelector(".vip text").getAttribute("x") > 200`)
	master.awaitHealth("protected")

	// And back, by a browser on the virtual IP, whose connection ends in the middle of it.
	v.visit("/handover")
	v.do(click("#handover-act button.main"))
	v.until("it is done", `document.querySelector(".m-done") && document.querySelector("h1").innerText === "Hand over to Backup" && !`+isStale)
	v.sees("Log out", "no write was possible for")
	v.shot("handover-done-vip")
	v.visit("/")
	master.awaitHealth("protected")

	// The Primary's process is killed: its own page says so and turns grey; a browser on the virtual
	// IP goes on, logged in.
	m.visit("/")
	m.until("it is live", `!`+isStale+` && `+halves("heard")+` === 6`)
	v.do(chromedp.Evaluate(`(() => { window.longest = 0; let last = performance.now(); const s = new EventSource("/api/v1/events");
		const seen = () => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; };
		s.addEventListener("redundancy", seen); s.addEventListener("alive", seen); })()`, nil))
	v.until("the measuring stream runs", `window.longest > 0`)
	if err := master.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = master.cmd.Wait()
	t.Logf("the page whose server was killed says so after %v", m.until("its server died", isStale+` && !document.getElementById("live").hidden`))
	if got := js[string](m, iconText); !strings.Contains(got, "Not live") {
		t.Errorf("the icon says %q", got)
	}
	if !js[bool](m, grey) {
		t.Error("the page keeps colours although its server died")
	}
	m.sees("this server does not answer", "old and may no longer hold", "not live:")
	m.shot("redundancy-server-died")
	b.sees("Degraded", "master_unreachable")
	b.shot("redundancy-takeover")
	v.until("the other Manager serves it", `document.querySelector(".verdict").innerText.includes("backup-") && !`+isStale)
	v.sees("Log out", "Takeover")
	v.until("the stream is back", `window.longest > 0`)
	t.Logf("longest silence of a stream on the virtual IP: %.0f ms", js[float64](v, `window.longest`))
	master.run()
	back.awaitHealth("protected")
	m.until("the page is live again by itself", `!`+isStale+` && document.querySelector(".verdict").innerText.includes("Protected")`)
	m.sees("Online (Standby)")

	// The Primary stands still: nothing of it answers, and nothing tells the browser but silence.
	if err := back.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Logf("the page whose server stands still says so after %v", b.until("its server stands still", isStale))
	m.until("the Master serves", `document.querySelector(".verdict").innerText.includes("master-")`)
	v.until("the virtual IP's page follows", `document.querySelector(".verdict").innerText.includes("master-") && !`+isStale)
	if err := back.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	b.until("it is live again, and Primary no more", `!`+isStale+` && document.getElementById("chips").innerText.includes("Online")`)
	master.awaitHealth("protected")

	// The Primary is cut off from both others and still answers browsers.
	done, looked := make(chan struct{}), make(chan struct{})
	go func() { defer close(looked); onePrimary(t, done, master, back) }()
	master.apart(back, third)
	m.sees("Failure", "This member hears no other one", "no_primary")
	b.sees("Degraded", "Primary (Running)", "master_unreachable")
	close(done)
	<-looked
	if got := js[int](m, `document.querySelectorAll(".topo .tile.s-primary").length`); got != 0 {
		t.Errorf("the isolated Manager's page shows %d Primaries", got)
	}
	if got := js[int](b, `document.querySelectorAll(".topo .tile.s-primary").length`); got != 1 {
		t.Errorf("the Primary's page shows %d Primaries", got)
	}
	m.visit("/handover")
	m.sees("No Manager is Primary, so nobody can hand over")
	m.visit("/")
	m.shot("redundancy-failure")
	b.shot("redundancy-other-side")
	master.together(back, third)
	back.awaitHealth("protected")
	m.sees("Protected")
}
