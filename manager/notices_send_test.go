package manager

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/manager/notify"
	"redundancypool/web"
)

// alone runs a Standalone Manager in this process until stop.
func alone(t *testing.T, dir string) (m *Manager, stop func()) {
	t.Helper()
	m, err := start(Config{Dir: dir, ListenHTTP: "127.0.0.1:0", ListenHTTPS: "127.0.0.1:0", PoolListen: "127.0.0.1:0", Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { _, err := m.runEngine(ctx); done <- err }()
	return m, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		m.stop()
	})
}

// eventually waits for something that comes within seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// What could not be sent is sent by the next Primary at once, with the same ID; what flaps is
// gathered meanwhile.
func TestNoticeOutlivesThePrimary(t *testing.T) {
	dir, err := os.MkdirTemp("", "notice") // t.TempDir's path is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var mu sync.Mutex
	var refuse = true
	var posts []notify.Message
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		var m notify.Message
		if json.Unmarshal(body, &m) == nil {
			posts = append(posts, m)
		}
		if refuse {
			http.Error(w, "not now", http.StatusServiceUnavailable)
		}
	}))
	defer hook.Close()
	ids := func() string {
		mu.Lock()
		defer mu.Unlock()
		var all []string
		for _, p := range posts {
			all = append(all, p.ID+" "+p.Title)
		}
		return strings.Join(all, "\n")
	}

	m, stop := alone(t, dir)
	defer func() { stop() }()
	_, err = faces{m}.SetNotices(t.Context(), control.NoticeChange{Values: map[string]string{"webhook.url": hook.URL, "webhook.allow_http": "true", "webhook.enabled": "true"}})
	if err != nil {
		t.Fatal(err)
	}
	m.event(journal.Warning, "node", codeSpace, "little room", nil)
	view := func() web.NoticeView {
		v, err := faces{m}.noticeView(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	eventually(t, "the attempt is kept with its failure", func() bool {
		v := view()
		return len(v.History) == 1 && len(v.History[0].Deliveries) == 1 && v.History[0].Deliveries[0].Attempts > 0 &&
			v.History[0].Deliveries[0].Error == "answered 503 Service Unavailable: not now" && v.History[0].Deliveries[0].Next != ""
	})
	m.event(journal.Error, "node", codeSpace, "hardly any room", nil)
	eventually(t, "the second one of its kind is held", func() bool { v := view(); return len(v.History) == 2 && v.History[0].Held })
	first := view().History[1].ID
	stop()
	mu.Lock()
	refuse, posts = false, nil
	mu.Unlock()

	m, stop = alone(t, dir)
	eventually(t, "the next Primary sends it", func() bool { return ids() != "" })
	if got := ids(); got != first+" little room" {
		t.Errorf("sent %q, want %s once", got, first)
	}
	eventually(t, "it is marked as sent", func() bool {
		for _, h := range view().History {
			if h.ID == first {
				return h.Deliveries[0].State == notify.StateSent
			}
		}
		return false
	})
	if h := view().History; len(h) != 2 || !h[0].Held || h[0].Gathered != "" {
		t.Errorf("what was held is %+v", h)
	}
	kept := m.journal.Recent(100, journal.Filter{Categories: []string{"notice"}})
	if n := len(kept); n < 2 || kept[n-1].Code != "notice_sent" || kept[0].Code != "notice_failed" || kept[0].Cause == "" {
		t.Errorf("the journal has %+v", kept)
	}
}
