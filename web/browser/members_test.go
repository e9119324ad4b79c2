package browser_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// unfold opens everything that is folded on the page.
func (p *page) unfold() {
	p.t.Helper()
	p.do(chromedp.Evaluate(`document.querySelectorAll("details").forEach(d => { d.open = true })`, nil))
}

// A running pool lives through a change of its virtual IP, a new Arbiter, a new Backup, a restored
// database and its end, all by the pages of its Primary.
func TestARunningPoolIsChangedThroughThePages(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	back, master, third := start(t, "b"), start(t, "m"), start(t, "a")
	m := open(t, master)
	m.first(master)
	master.told("redundancy", "set", "--mode", "master", "--local", "10.79.0.1", "--peer", "10.79.0.2", "--arbiter", "10.79.0.3", "--vip", "10.79.0.50/24",
		"--interface", "eth0", "--option", "timing.missed_heartbeats=60", "--pairing", holdWith(back, "10.79.0.50/24"), "--arbiter-pairing", third.told("token"), "--yes")
	m.visit("/")
	m.sees("Protected", "Members")

	// The virtual IP.
	m.visit("/settings")
	m.fill("master-vip", "10.79.0.4")
	m.press("button[value=save]")
	m.beside("master-vip", "is held by")
	m.fill("master-vip", "10.79.0.60")
	m.press("button[value=save]")
	m.sees("What will happen", "Clients are cut", "one after another")
	m.shot("change-vip-dialog")
	m.fill("word-change", "change")
	m.press("button[value=store]")
	m.visit("/members")
	m.sees("Changing the pool", "verybody works by the new values", "Protected")
	m.shot("members")
	if s := status(master); !strings.Contains(s, `"address":"10.79.0.60/24"`) || !strings.Contains(s, `"bound":true`) {
		t.Errorf("the virtual IP is not where it was moved to: %s", s)
	}

	// The Arbiter, reset and new.
	third.stop()
	if out, err := exec.Command(program("arbiter"), "reset", "--yes", "--data", third.dir).CombinedOutput(); err != nil {
		t.Fatalf("reset: %v: %s", err, out)
	}
	third.run()
	var token string
	third.await("makes a token", func() bool {
		out, err := exec.Command(program("arbiter"), "token", "--data", third.dir).Output()
		token = strings.TrimSpace(string(out))
		return err == nil
	})
	m.visit("/members")
	m.sees("Unreachable")
	m.unfold()
	m.fill("arbiter-pairing", "not-a-token")
	m.press("form:has(input[value=arbiter]):has(#arbiter-pairing) button")
	m.press("button.danger")
	m.beside("arbiter-pairing", "opy the token again")
	m.fill("arbiter-pairing", token)
	m.press("form:has(input[value=arbiter]):has(#arbiter-pairing) button")
	m.sees("does not answer", "becomes the Arbiter")
	m.shot("replace-arbiter")
	m.press("button.danger")
	m.sees("Replacing the Arbiter", "is the Arbiter now and in step", "Protected")

	// The Backup's machine is lost.
	back.stop()
	fresh := start(t, "b")
	token = holdWith(fresh, "10.79.0.60/24")
	m.visit("/members")
	m.sees("Unreachable")
	m.unfold()
	m.fill("backup-pairing", token)
	m.press("form:has(input[value=backup]):has(#backup-pairing) button")
	m.press("button.danger")
	m.sees("Replacing the Backup", "is the Backup now and in step", "Protected")
	m.shot("members-replaced")

	// A database for all.
	m.visit("/database")
	m.press("form[action='/database/save'] button")
	m.sees("Saved as by-hand", "Asked for.", "For: admin")
	saved, err := filepath.Glob(filepath.Join(master.dir, "saves", "by-hand-*.db"))
	if err != nil || len(saved) != 1 {
		t.Fatal(saved, err)
	}
	m.do(chromedp.SetUploadFiles("#upload-file", saved, chromedp.ByQuery), chromedp.Click("#upload button", chromedp.ByQuery))
	m.sees("Taken in from")
	m.do(chromedp.SetUploadFiles("#upload-file", []string{filepath.Join(master.dir, "settings.toml")}, chromedp.ByQuery), chromedp.Click("#upload button", chromedp.ByQuery))
	m.sees("cannot be restored: no Manager saved it")
	m.shot("database-saves")
	master.told("unit", "add", "later")
	m.press("form[action='/database/restore'] button")
	m.sees("It holds for the whole pool")
	m.fill("word-restore", "restore")
	m.press("button.danger")
	fresh.await("has the restored data", func() bool {
		out, err := exec.Command(program("manager"), "query", "SELECT count(*) FROM unit", "--data", fresh.dir).Output()
		return err == nil && strings.TrimSpace(string(out)) == "0" && strings.Contains(status(fresh), `"health":"protected"`)
	})
	m.visit("/")
	m.sees("Protected")

	// The end.
	m.press("form[action='/actions/leave'] button")
	m.sees("Redundancy ends")
	m.press("button.danger")
	m.sees("Standalone")
	fresh.await("is Standalone too", func() bool { return strings.Contains(status(fresh), `"status":"standalone"`) })
}

func holdWith(n *node, vip string) string {
	n.told("redundancy", "set", "--mode", "backup", "--local", "10.79.0.2", "--peer", "10.79.0.1", "--vip", vip, "--interface", "eth0", "--yes")
	return n.told("redundancy", "token")
}

func status(n *node) string {
	out, err := exec.Command(program("manager"), "status", "--json", "--data", n.dir).Output()
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(out), " ", ""), "\n", "")
}
