package manager

import (
	"testing"
	"time"

	"redundancypool/manager/journal"
)

func TestWhichEventsAreTold(t *testing.T) {
	kind := func(k string) map[string]any { return map[string]any{"kind": k} }
	for name, tt := range map[string]struct {
		e    journal.Event
		want string
	}{
		"the pool is degraded":              {journal.Event{Category: "status", Code: "health", From: "protected", To: "degraded"}, "health"},
		"the pool is formed":                {journal.Event{Category: "status", Code: "health", From: "configuring", To: "protected"}, ""},
		"a failure is over":                 {journal.Event{Category: "status", Code: codePrimaryHeard, From: "failure", To: "degraded"}, "health"},
		"no Primary: who is Online tells":   {journal.Event{Category: "status", Code: codeNoPrimary, From: "degraded", To: "failure"}, ""},
		"a takeover":                        {journal.Event{Category: "status", Code: "became_primary", Details: kind("takeover")}, "changeover"},
		"a hand over":                       {journal.Event{Category: "status", Code: "became_primary", Details: kind("hand_over")}, "changeover"},
		"a take back":                       {journal.Event{Category: "status", Code: "became_primary", Details: kind("take_back")}, "takeback"},
		"the first start":                   {journal.Event{Category: "status", Code: "became_primary", Details: kind("start")}, ""},
		"a drill":                           {journal.Event{Category: "pool", Code: "drill_end"}, "drill"},
		"who started the drill":             {journal.Event{Category: userEvent, Code: "drill"}, ""},
		"a certificate":                     {journal.Event{Category: "trust", Code: codeCertificate}, "certificate"},
		"a disk is nearly full":             {journal.Event{Category: "node", Code: codeSpace, Severity: journal.Warning}, "disk"},
		"it has room again":                 {journal.Event{Category: "node", Code: codeSpace, Severity: journal.Info}, ""},
		"that a notice was sent is not one": {journal.Event{Category: "notice", Code: "notice_failed", Severity: journal.Warning}, ""},
	} {
		if got := kindOf(tt.e); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

func TestDiskIsWatchedWithRoomBetweenTheSteps(t *testing.T) {
	const gib = int64(1 << 30)
	for name, tt := range map[string]struct {
		free, total int64
		before      spaceLevel
		want        spaceLevel
	}{
		"half of a large disk":               {500 * gib, 1000 * gib, spaceOK, spaceOK},
		"six GiB of a large disk":            {6 * gib, 1000 * gib, spaceOK, spaceOK},
		"four GiB of a large disk":           {4 * gib, 1000 * gib, spaceOK, spaceWarning},
		"under one GiB of a large disk":      {gib - 1, 1000 * gib, spaceWarning, spaceDanger},
		"two of ten GiB":                     {2 * gib, 10 * gib, spaceOK, spaceOK},
		"under a tenth of ten GiB":           {gib - 1, 10 * gib, spaceOK, spaceWarning},
		"little of ten GiB":                  {gib / 4, 10 * gib, spaceOK, spaceDanger},
		"just above the warning, while warn": {gib + gib/10, 10 * gib, spaceWarning, spaceWarning},
		"a fifth above the warning":          {gib + gib/4, 10 * gib, spaceWarning, spaceOK},
		"just above the alarm, while alarm":  {gib + gib/10, 1000 * gib, spaceDanger, spaceDanger},
		"nothing of anything":                {0, 0, spaceOK, spaceOK},
	} {
		if got := levelOf(tt.free, tt.total, tt.before); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestCertificateIsToldInSteps(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		left time.Duration
		step int
		soon bool
	}{{31 * day, 0, false}, {30 * day, 30, true}, {15 * day, 30, true}, {14 * day, 14, true}, {7 * day, 7, true}, {2 * day, 7, true}, {day, 1, true}, {time.Minute, 1, true}, {-time.Minute, 0, true}} {
		if step, soon := daysLeft(now.Add(tt.left), now); step != tt.step || soon != tt.soon {
			t.Errorf("%v before the end: %d %v", tt.left, step, soon)
		}
	}
}
