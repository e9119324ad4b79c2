package browser_test

import (
	"testing"

	"github.com/chromedp/chromedp"
)

func TestFallBackKeepsItsReasonUntilDismissed(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	back := start(t, "b", "--configuration-timeout", "8s")
	b := open(t, back)
	b.first(back)
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
