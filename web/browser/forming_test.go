package browser_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"redundancypool/manager/database"
)

const password = "correct horse 42"

// first creates the administrator with the code that the node printed.
func (p *page) first(n *node) {
	p.t.Helper()
	p.visit("/")
	p.sees("Log in", "Standalone", "Create the administrator")
	p.visit("/setup")
	p.fill("code", "WRONGCODE", "name", "admin", "password", password, "again", password)
	p.shot("setup")
	p.press("button.main")
	p.sees("code is wrong")
	p.fill("code", n.code(), "password", password, "again", password)
	p.press("button.main")
	p.sees("Pool health")
}

// asBackup fills the form of a Backup and stops at the dialog.
func (p *page) asBackup(vip string) {
	p.t.Helper()
	p.visit("/settings")
	p.do(chromedp.Click("#mode-backup", chromedp.ByQuery))
	p.fill("backup-peer-address", "10.79.0.1", "backup-local-address", "10.79.0.2", "backup-vip", vip)
	p.press("button[value=save]")
	p.sees("What will happen", "Its own data were saved at", " UTC (in")
}

func (p *page) agree() {
	p.t.Helper()
	p.fill("word-replace", "replace")
	p.press("button[value=store]")
}

func TestPoolIsFormedThroughThePagesAlone(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	back, master, third := start(t, "b"), start(t, "m"), start(t, "a")

	b := open(t, back)
	b.first(back)
	b.shot("status-standalone")
	b.visit("/settings")
	b.shot("settings-standalone")
	b.asBackup("10.79.0.50")
	b.shot("settings-backup-dialog")
	b.fill("word-replace", "no")
	b.press("button[value=store]")
	b.sees("The word was not typed as asked")
	b.agree()
	b.sees("Forming the pool", " left", "has proved itself")
	b.press("form[action='/waiting/token'] button")
	var token string
	b.do(chromedp.Text("#token", &token, chromedp.ByQuery))
	b.shot("waiting-backup")
	b.visit("/units")
	b.sees("Forming the pool")

	// A restart in the middle changes nothing: not the deadline, not the login, not the token.
	back.stop()
	back.run()
	b.visit("/")
	b.sees("Forming the pool", " left", "has proved itself")

	m := open(t, master)
	m.first(master)
	master.told("database", "restore", bigDatabase(t, 32), "--yes")
	m.visit("/settings")
	m.do(chromedp.Click("#mode-master", chromedp.ByQuery))
	m.fill("master-local-address", "10.79.0.1", "master-peer-address", "10.79.0.2", "master-arbiter-address", "10.79.0.3", "master-vip", "10.79.0.4")
	m.press("button[value=save]")
	m.beside("master-vip", "is held by")
	m.shot("settings-wrong-vip")
	for vip, want := range map[string]string{"192.168.7.7": "not in the network of the local address", "10.79.0.255": "broadcast", "10.79.0.1": "is also", "10.79.0.3": "is also"} {
		m.fill("master-vip", vip)
		m.press("button[value=save]")
		m.beside("master-vip", want)
	}
	master.ip("route", "add", "default", "via", "10.79.0.9")
	m.fill("master-vip", "10.79.0.9")
	m.press("button[value=save]")
	m.beside("master-vip", "is a gateway")
	master.ip("route", "del", "default")
	m.fill("master-vip", "10.79.0.50", "master-peer-address", "10.79.0.77")
	m.press("button[value=save]")
	m.beside("master-peer-address", "backup_connect")
	m.press("button[value='connect:arbiter']")
	m.beside("master-arbiter-address", "It is not trusted yet")
	m.fill("master-peer-address", "10.79.0.3", "master-arbiter-address", "10.79.0.2")
	m.press("button[value=verify]")
	m.beside("master-peer-address", "It is an Arbiter, not a Backup")
	m.beside("master-arbiter-address", "It is a Backup, not an Arbiter")
	m.beside("master-vip", "checks pass")
	m.shot("settings-verify")
	m.fill("master-peer-address", "10.79.0.2", "master-arbiter-address", "10.79.0.3")
	m.do(chromedp.Click("#advanced > summary", chromedp.ByQuery))
	m.sees("Worst-case takeover with these times")
	var before, period string
	m.do(chromedp.Text("#worst", &before, chromedp.ByQuery), chromedp.Value("#timing-heartbeat-period", &period, chromedp.ByQuery))
	m.front()
	m.do(chromedp.Clear("#timing-heartbeat-period", chromedp.ByQuery), chromedp.SendKeys("#timing-heartbeat-period", "50ms", chromedp.ByQuery))
	m.do(chromedp.Poll(`(t => t.endsWith(" ms") && t !== "`+before+`")(document.getElementById("worst").textContent)`, nil))
	m.shot("settings-advanced")
	m.do(chromedp.Clear("#timing-long-lived-timeout", chromedp.ByQuery), chromedp.SendKeys("#timing-long-lived-timeout", "400ms", chromedp.ByQuery))
	m.beside("timing-long-lived-timeout", "does not exceed the lease") // while it is being typed
	m.fill("timing-heartbeat-period", period, "timing-long-lived-timeout", "2s")
	m.press("button[value=verify]")
	m.beside("master-peer-address", "It is not trusted yet")
	m.fill("master-pairing", token, "master-arbiter-pairing", token)
	m.press("button[value=save]")
	m.press("button[value=store]")
	m.beside("master-arbiter-pairing", "airing with the arbiter at 10.79.0.3") // the Backup's token does not do there
	m.fill("master-arbiter-pairing", third.told("token"), "master-vip", "10.79.0.51")
	m.press("button[value=save]")
	m.beside("master-vip", "the backup has 10.79.0.50, this Master has 10.79.0.51")
	m.shot("settings-differs")
	b.sees("The Master has other values than this Backup", "10.79.0.51") // at once, on both sides
	b.shot("waiting-differs")
	if got := master.told("status"); got == "" {
		t.Error("no status")
	}
	slow := master.slow("40mbit")
	m.fill("master-vip", "10.79.0.50")
	m.press("button[value=save]")
	m.sees("What will happen")
	m.shot("settings-master-dialog")
	m.press("button[value=store]")
	if slow {
		b.sees("a second, about")
		b.shot("waiting-backup-copy")
		m.sees("Copying the database", " MiB (")
		m.shot("waiting-master-copy")
		master.fast()
	}
	m.sees("Protected", "Members")
	m.shot("status-primary")
	m.do(chromedp.Click("#pool-button", chromedp.ByQuery))
	m.shot("panel")
	for _, path := range []string{"/trust", "/database", "/about", "/account", "/units"} {
		m.visit(path)
		m.shot(path[1:])
	}
	m.visit("/settings")
	m.sees("belongs to a running pool")
	m.shot("settings-in-pool")

	// The Backup's page led to the normal pages by itself; its people are now the pool's.
	b.sees("Log in")
	b.visit("/login")
	b.fill("name", "admin", "password", password)
	b.shot("login")
	b.press("button.main")
	b.sees("The Primary has all pages")
	b.shot("status-online")
	b.visit("/units")
	b.sees("This page is on the Primary", "10.79.0.50")
	b.shot("light")

	// Hand over by button; the Backup's pages grow without anybody touching them.
	m.visit("/")
	m.press("a[href='/handover']")
	m.sees("Hand over to Backup", "Checks before")
	m.do(click("#handover-act button.main"))
	m.sees("done", "no write was possible for")
	b.sees("Add a field unit")
}

// bigDatabase returns the file of a saved database of about so many MiB.
func bigDatabase(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	s, err := database.Open(t.Context(), database.Config{Dir: filepath.Join(dir, "database")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range uint64(mib) {
		value := make([]byte, 1<<19)
		_, _ = rand.Read(value) // never fails (crypto/rand)
		data, err := database.Encode(database.Command{Envelope: database.Envelope{Client: "test", Sequence: i + 1, ProposedMS: 1_700_000_000_000},
			Body: database.SettingPut{Key: hex.EncodeToString(value[:8]), Value: hex.EncodeToString(value)}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Apply(context.Background(), []database.Entry{{Index: i + 1, Term: 1, Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "big.db")
	if err := s.Save(t.Context(), file, false); err != nil {
		t.Fatal(err)
	}
	return file
}
