package manager

import (
	"testing"
	"time"
)

func TestWhenADrillIsDue(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct{ name, schedule, now, want string }{
		{"later on the same day", "fri 12:00 UTC", "2026-01-02T03:04:05Z", "2026-01-02T12:00:00Z"},
		{"at that very moment: a week on", "fri 12:00 UTC", "2026-01-02T12:00:00Z", "2026-01-09T12:00:00Z"},
		{"the nearest of several days", "mon,wed 02:00 UTC", "2026-01-02T03:04:05Z", "2026-01-05T02:00:00Z"},
		{"every day", "daily 02:00 UTC", "2026-01-02T03:04:05Z", "2026-01-03T02:00:00Z"},
		{"in a zone, in winter", "sun 03:00 Europe/Berlin", "2026-01-02T03:04:05Z", "2026-01-04T02:00:00Z"},
		{"in a zone, in summer", "sun 03:00 Europe/Berlin", "2026-07-02T03:04:05Z", "2026-07-05T01:00:00Z"},
		{"a time that the change of clocks leaves out", "sun 02:30 Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		{"a time that comes twice", "sun 02:30 Europe/Berlin", "2026-10-25T00:00:00Z", "2026-10-25T01:30:00Z"},
		{"and not once more", "sun 02:30 Europe/Berlin", "2026-10-25T01:30:00Z", "2026-11-01T01:30:00Z"},
	} {
		got := nextDrill(tt.schedule, at(tt.now))
		if !got.Equal(at(tt.want)) {
			t.Errorf("%s: %v, want %s", tt.name, got.UTC(), tt.want)
		}
	}
	if got := nextDrill("off", time.Now()); !got.IsZero() {
		t.Errorf("off: %v", got)
	}
	for _, bad := range []string{"", "sun", "xyz 03:00 UTC", "sun 25:00 UTC", "sun 3 UTC", "sun 03:00 Nowhere/City", "sun 03:00 Local", "sun 03:00 UTC more"} {
		if _, err := parseSchedule(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
