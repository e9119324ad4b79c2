package browser_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// What happened, and what would: the changeovers and the drill on the pages of a real pool, with a
// real kill underneath.
func TestChangeoversAndDrillOnThePages(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	back, master, third := start(t, "b"), start(t, "m"), start(t, "a")
	m := open(t, master)
	m.first(master)
	back.told("redundancy", "set", "--mode", "backup", "--local", "10.79.0.2", "--peer", "10.79.0.1", "--vip", "10.79.0.50/24", "--yes")
	master.told("redundancy", "set", "--mode", "master", "--local", "10.79.0.1", "--peer", "10.79.0.2", "--arbiter", "10.79.0.3", "--vip", "10.79.0.50/24",
		"--pairing", back.told("redundancy", "token"), "--arbiter-pairing", third.told("token"), "--yes")
	master.await("is Protected", func() bool { return strings.Contains(master.told("status", "--json"), `"health":"protected"`) })
	m.visit("/changeovers")
	m.sees("Primary has not changed yet")

	m.visit("/drill")
	m.sees("No drill has been run yet", "No drill runs by itself")
	m.do(click("details summary"))
	m.do(click("#on"))
	m.fill("days", "mon,thu", "time", "03:30", "zone", "Europe/Berlin", "limit_ms", "20000")
	m.press("form[action='/drill/schedule'] button")
	m.sees("The next drill runs by itself on", "20000 ms at most")
	m.do(click("details summary"))
	m.fill("days", "someday")
	m.press("form[action='/drill/schedule'] button")
	m.sees(`Day "someday" is unknown`)
	m.visit("/drill")
	m.press("form[action='/drill/run'] button")
	m.sees("two short interruptions")
	m.press("button.danger")
	m.sees("The drill has begun", "A drill is under way", "Under way")
	m.shot("drill-running")
	m.sees("Passed", "took")
	m.shot("drill")
	m.visit("/changeovers")
	m.sees("Hand over from", "Failover drill.", "What each member saw")
	m.shot("changeovers-drill")

	if err := master.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = master.cmd.Wait()
	back.await("is Primary", func() bool { return strings.Contains(back.told("status", "--json"), `"status":"primary"`) })
	b := open(t, back)
	b.login()
	b.await("/changeovers", "Takeover from", "The old Primary's process died", "Still to be heard", "not checkable")
	b.shot("changeovers-takeover")
	b.visit("/drill")
	b.press("form[action='/drill/run'] button")
	b.press("button.danger")
	b.sees("A drill needs a Protected pool")
	b.shot("drill-refused")
	master.run()
	back.await("is Protected", func() bool { return strings.Contains(back.told("status", "--json"), `"health":"protected"`) })
	b.await("/changeovers", "the old Primary itself", "ended without laying Primary down")
	b.shot("changeovers")
}

// login logs the administrator in.
func (p *page) login() {
	p.t.Helper()
	p.visit("/login")
	p.fill("name", "admin", "password", password)
	p.press("button")
	p.sees("Pool health")
}

// await opens a page again and again until it shows all texts.
func (p *page) await(path string, texts ...string) {
	p.t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		p.visit(path)
		now, missing := p.text(), ""
		for _, want := range texts {
			if !strings.Contains(now, want) {
				missing = want
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s does not show %q but\n%s", path, missing, now)
		}
	}
}

func click(selector string) chromedp.Action { return chromedp.Click(selector, chromedp.ByQuery) }
