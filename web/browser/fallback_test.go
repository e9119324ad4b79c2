package browser_test

import (
	"testing"

	"github.com/chromedp/chromedp"
)

func TestFallBackKeepsItsReasonUntilDismissed(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	// The Master's side: nobody approves it, so its time runs out.
	back, master := start(t, "b"), start(t, "m", "--configuration-timeout", "7s")
	start(t, "a")
	b := open(t, back)
	b.first(back)
	back.told("redundancy", "set", "--mode", "backup", "--local", "10.79.0.2", "--peer", "10.79.0.1", "--vip", "10.79.0.50/24", "--yes")
	b.sees("Forming the pool", "On hold")
	m := open(t, master)
	m.first(master)
	m.visit("/settings")
	m.do(chromedp.Click("#mode-master", chromedp.ByQuery))
	m.fill("master-local-address", "10.79.0.1", "master-peer-address", "10.79.0.2", "master-vip", "10.79.0.50", "master-arbiter-address", "10.79.0.3")
	m.press("button[value=save]")
	m.sees("What will happen", "(in 7 seconds)")
	m.press("button[value=store]")
	m.sees("Forming the pool", "It and this Master trust each other.")
	m.shot("waiting-master")
	m.sees("The pool was not formed", "aiting for approval", "This Manager works alone with its data of before")
	m.shot("fall-back-master")
	back.told("redundancy", "cancel")

	// The Backup's.
	back.stop()
	back.extra = []string{"--configuration-timeout", "8s"}
	back.run()
	b.asBackup("10.79.0.50")
	b.agree()
	b.sees("Forming the pool")
	b.sees("The pool was not formed", "No Master has configured this Backup in time")
	b.shot("fall-back")
	b.press("a[href='/settings?again']")
	b.sees("The last forming ended")
	var peer string
	b.do(chromedp.Value("#backup-peer-address", &peer, chromedp.ByQuery))
	if peer != "10.79.0.1" {
		t.Errorf("the values to try again have %q for the Master", peer)
	}

	// Cancel does the same at once.
	b.press("button[value=save]")
	b.agree()
	b.sees("Forming the pool")
	b.press("form[action='/waiting/cancel'] button")
	b.sees("The pool was not formed", "Cancelled by the operator")
	b.press("form[action='/fallback'] button")
	b.visit("/")
	b.sees("Pool health")
	var count int
	b.do(chromedp.Evaluate(`document.querySelectorAll("form[action='/fallback']").length`, &count))
	if count != 0 {
		t.Error("the reason stays after it was dismissed")
	}

	// A page whose node is gone says that it is not live.
	back.stop()
	b.sees("Not live", "Live updates have stopped")
	b.shot("not-live")
}
