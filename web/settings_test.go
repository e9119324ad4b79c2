package web

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"
)

func has(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

func TestOneMemberIsTriedByItsOwnButton(t *testing.T) {
	d := &fakeDesk{}
	v := loggedIn(t, site(t, normal(), d))
	code, text := v.post("/settings", "do", "connect:backup", "mode", "master", "master:peer.address", "10.0.0.2")
	if code != 200 || strings.Join(d.told, ",") != "connect master backup" {
		t.Fatalf("answers %d, told %q", code, d.told)
	}
	has(t, text, "Connection refused.", "Start it.", "backup_connect", `value="10.0.0.2"`)
	if strings.Contains(text, "Verified; nothing was changed") {
		t.Error("one try looks like a whole verify")
	}
}

func TestTimesThatCannotBeAreToldBesideTheirField(t *testing.T) {
	d := &fakeDesk{settings: Settings{Values: map[string]string{"mode": "master", "timing.heartbeat_period": "bad"}}}
	v := loggedIn(t, site(t, normal(), d))
	_, text := v.ask("GET", "/settings", nil, nil)
	has(t, text, `id="timing-heartbeat-period" name="timing.heartbeat_period" value="bad"`, "Too short.", "Raise it.")
	if !strings.Contains(text, `<details class="for-pool" open id="advanced">`) {
		t.Error("what is wrong is hidden in a closed part")
	}
	code, text := v.ask("GET", "/api/v1/redundancy/worst?timing.heartbeat_period=bad", nil, nil)
	if code != 422 {
		t.Errorf("the call answers %d", code)
	}
	has(t, text, `"field":"timing.heartbeat_period"`)
}

func TestSettingsTellWhatMayChangeByItself(t *testing.T) {
	d := &fakeDesk{settings: Settings{
		Values:    map[string]string{"mode": "backup", "local.address": "10.0.0.7", "vip": "10.0.0.50/24"},
		Addresses: []Address{{Address: "10.0.0.7/24", Interface: "eth0", Dynamic: true}, {Address: "10.0.1.7/24", Interface: "eth1"}},
		Over:      map[string]string{"listen.https": ":9443"},
		Watched: Watched{At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Checks: []Check{{Code: "timing", Result: "ok", Text: "fine"},
			{Code: "backup_version", Result: "failed", Text: "it has another version", Fix: "install the same"}}},
	}}
	v := loggedIn(t, site(t, normal(), d))
	_, text := v.ask("GET", "/settings", nil, nil)
	has(t, text, `data-prefix="24" data-interface="eth0" data-dynamic`, "This address has a limited lifetime", "10.0.0.50/24 on eth0",
		"The command line of this process says :9443", "1 pass, 1 fail, last at 03:04:05 UTC", "It has another version.", "2s ahead of this one", "2026-01-02 03:04:05")
	if strings.Count(text, `class="check-result r-warning dynamic" role="status" hidden`) != 0 {
		t.Error("the warning about a dynamic address is hidden")
	}
	_, text = v.ask("GET", "/api/v1/redundancy/checks", nil, nil)
	has(t, text, `"at":"2026-01-02T03:04:05Z"`, `"code":"backup_version"`)
}

func TestPagesThatMoveSayWhere(t *testing.T) {
	d := &fakeDesk{settings: Settings{Values: map[string]string{"mode": "standalone", "listen.https": ":8443"}}}
	v := loggedIn(t, site(t, normal(), d))
	encrypted := func(r *http.Request) { r.TLS = &tls.ConnectionState{}; r.Host = "10.0.0.1:8443" }
	form := func(port string) map[string][]string {
		return map[string][]string{"_token": {v.token}, "do": {"store"}, "mode": {"standalone"}, "listen.https": {port}}
	}
	code, text := v.ask("POST", "/settings", form(":9443"), encrypted)
	if code != 200 {
		t.Fatalf("answers %d", code)
	}
	has(t, text, "https://10.0.0.1:9443/")
	if code, _ = v.ask("POST", "/settings", form(":8443"), encrypted); code != 303 {
		t.Errorf("where nothing moves it answers %d", code)
	}
}
