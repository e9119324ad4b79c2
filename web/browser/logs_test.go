package browser_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"redundancypool/manager/notify"
	"redundancypool/web"
)

// hook is a listener for notifications on the client's host.
type hook struct {
	mu    sync.Mutex
	posts []notify.Message
	wrong string
}

const hookSecret = "a long s3cret of the webhook"

// listenForPosts returns the address of a hook that checks every signature.
func listenForPosts(t *testing.T) (*hook, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "10.79.0.4:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &hook{}
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		want, serr := notify.Sign(hookSecret, r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
		h.mu.Lock()
		defer h.mu.Unlock()
		var m notify.Message
		if err != nil || serr != nil || r.Header.Get("webhook-signature") != want || json.Unmarshal(body, &m) != nil || m.ID != r.Header.Get("webhook-id") {
			h.wrong = string(body)
		}
		h.posts = append(h.posts, m)
	})}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close() })
	return h, "http://" + ln.Addr().String() + "/hook"
}

// got returns the first post whose title begins like that.
func (h *hook) got(title string) (notify.Message, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.posts {
		if strings.HasPrefix(m.Title, title) {
			return m, true
		}
	}
	return notify.Message{}, false
}

func (h *hook) titles() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for _, m := range h.posts {
		all = append(all, m.Title)
	}
	return strings.Join(all, "; ")
}

func (n *node) picture() (r web.Redundancy) {
	out, err := exec.Command(program("manager"), "status", "--json", "--data", n.dir).Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil {
		return web.Redundancy{}
	}
	return r
}

func (p *page) evaluated(script string) (text string) {
	p.t.Helper()
	p.do(chromedp.Evaluate(script, &text, chromedp.EvalAsValue, awaited))
	return text
}

// TestEventsAreShownFollowedExportedAndTold goes with one pool through the Logs page and the
// notifications: what happened on any member is on the page of the other, live, and reaches the
// webhook from whoever is Primary, or from nobody's Primary.
func TestEventsAreShownFollowedExportedAndTold(t *testing.T) {
	if why != "" {
		t.Skip(why)
	}
	back, master, third := start(t, "b"), start(t, "m"), start(t, "a")
	m := open(t, master)
	m.first(master)
	back.told("redundancy", "set", "--mode", "backup", "--local", "10.79.0.2", "--peer", "10.79.0.1", "--vip", "10.79.0.50/24", "--yes")
	token := back.told("redundancy", "token")
	master.told("redundancy", "set", "--mode", "master", "--local", "10.79.0.1", "--peer", "10.79.0.2", "--arbiter", "10.79.0.3", "--vip", "10.79.0.50/24",
		"--pairing", token, "--arbiter-pairing", third.told("token"), "--yes")
	master.await("is Primary of a protected pool", func() bool { return master.picture().Health == "protected" })
	names := map[string]string{}
	for _, o := range master.picture().Members {
		names[o.Role] = o.Name
	}

	// All members on one page, filtered by presets, fields and search.
	m.visit("/logs")
	m.sees("Following", names["backup"], names["arbiter"], "clock ", "This Manager is Primary", "term ")
	m.shot("logs")
	m.do(chromedp.Click("//nav[@aria-label='Presets']//a[text()='User actions']", chromedp.BySearch))
	m.sees("admin from ", "create the administrator", "local command by uid 0", "change settings")
	m.fill("q", "administrator")
	m.press("#log-filter button.main")
	m.sees("create the administrator")
	if rows := m.evaluated(`String([...document.querySelectorAll("#log-rows tr")].every(r => r.innerText.toLowerCase().includes("administrator")))`); rows != "true" {
		t.Errorf("the search shows other events:\n%s", m.text())
	}
	m.visit("/logs?severity=error&node=nobody")
	m.sees("No event matches")
	m.visit("/logs?since=yesterday")
	m.sees("use a time like")

	// Live: what is done on the Backup appears on the Master's page; paused, it is counted.
	m.visit("/logs?category=user")
	m.sees("Following")
	back.told("redundancy", "deactivate", "--yes")
	m.sees("deactivate redundancy here")
	m.do(chromedp.Click("#log-pause", chromedp.ByQuery))
	back.told("redundancy", "activate")
	m.sees("Paused: 1 new")
	if strings.Contains(strings.ReplaceAll(m.text(), "deactivate redundancy here", ""), "activate redundancy here") {
		t.Error("a new event is shown although the page is paused")
	}
	m.do(chromedp.Click("#log-pause", chromedp.ByQuery))
	m.sees(": activate redundancy here")

	// The exports have what is filtered.
	csv := m.evaluated(`fetch("/api/v1/logs/export" + new URL(document.querySelector("a[href*='format=csv']").href).search).then(r => r.text())`)
	if !strings.HasPrefix(csv, "time,node,severity,") || !strings.Contains(csv, "deactivate redundancy here") || strings.Contains(csv, "became_primary") {
		t.Errorf("the export is\n%s", csv)
	}
	var all struct{ Events []web.LogEvent }
	if err := json.Unmarshal([]byte(m.evaluated(`fetch("/api/v1/logs/export?format=json").then(r => r.text())`)), &all); err != nil || len(all.Events) < 20 {
		t.Errorf("%d events as JSON, %v", len(all.Events), err)
	}
	master.await("is protected again", func() bool { return master.picture().Health == "protected" })

	// Notifications: a mistake stands beside its field, a failed test says why, a good one arrives.
	h, address := listenForPosts(t)
	m.visit("/notifications")
	m.sees("Notifications", "Change of pool health")
	m.do(chromedp.Click("#webhook-enabled", chromedp.ByQuery))
	m.fill("webhook-url", address, "webhook-secret", hookSecret, "quiet_minutes", "0")
	m.press("#notices button.main")
	m.sees("Posts would not be encrypted.")
	m.do(chromedp.Click("#webhook-http", chromedp.ByQuery))
	m.fill("webhook-url", "http://10.79.0.4:9/hook", "webhook-secret", hookSecret)
	m.press("#notices button.main")
	m.sees("The notifications are set.", "One is stored")
	m.press("#test-webhook")
	m.sees("connection refused")
	m.shot("notifications-refused")
	m.fill("webhook-url", address)
	m.press("#notices button.main")
	m.press("#test-webhook")
	m.sees("the test message was taken within")
	if _, ok := h.got("Test message of "); !ok {
		t.Errorf("the test message did not arrive: %s", h.titles())
	}

	// A change of health is told by the Primary, a takeover by the next one, and its end by nobody's.
	back.told("redundancy", "deactivate", "--yes")
	master.await("tells of the change of health", func() bool { _, ok := h.got("Pool health: Degraded"); return ok })
	back.told("redundancy", "activate")
	master.await("tells that all is well", func() bool { _, ok := h.got("Pool health: Protected"); return ok })
	m.visit("/notifications")
	m.sees("webhook: sent", "Pool health: Degraded")
	m.shot("notifications")
	_ = syscall.Kill(-master.cmd.Process.Pid, syscall.SIGKILL)
	back.await("is Primary and tells it", func() bool { _, ok := h.got(names["backup"] + " is Primary (Takeover)"); return ok })
	_ = syscall.Kill(-third.cmd.Process.Pid, syscall.SIGKILL)
	back.await("tells that no Manager is Primary", func() bool {
		msg, ok := h.got("No Manager is Primary")
		return ok && msg.Reporter == names["backup"] && msg.Severity == "error"
	})
	if h.wrong != "" {
		t.Errorf("a post is not signed as it should be: %s", h.wrong)
	}

	// The Logs page is open there too, and names who is missing.
	b := open(t, back)
	b.visit("/login")
	b.fill("name", "admin", "password", password)
	b.press("button.main")
	b.visit("/logs")
	b.sees("Events of "+names["master"]+" until", "Events of "+names["arbiter"]+" until", "No Manager is Primary: the pool is read-only")
	b.shot("logs-alone")
	b.visit("/notifications")
	b.sees("This page is on the Primary")
}

// awaited lets a script return a promise.
func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
