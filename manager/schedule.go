package manager

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// schedule is when something runs by itself: on days of the week, at a time, in a zone.
type schedule struct {
	days   []time.Weekday
	hour   int
	minute int
	zone   *time.Location
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // by time.Weekday

// parseSchedule reads "off" (nil) or "sun,wed 03:00 Europe/Berlin"; "daily" is every day.
func parseSchedule(text string) (*schedule, error) {
	if text == "off" {
		return nil, nil
	}
	words := strings.Fields(text)
	if len(words) != 3 {
		return nil, fmt.Errorf("schedule %q has %d words, not days, time and zone", text, len(words))
	}
	s := &schedule{}
	for day := range strings.SplitSeq(words[0], ",") {
		i := slices.Index(dayNames, day)
		switch {
		case day == "daily":
			s.days = []time.Weekday{0, 1, 2, 3, 4, 5, 6}
		case i < 0:
			return nil, fmt.Errorf("day %q is unknown: sun, mon, tue, wed, thu, fri, sat or daily", day)
		default:
			s.days = append(s.days, time.Weekday(i))
		}
	}
	at, err := time.Parse("15:04", words[1])
	if err != nil {
		return nil, fmt.Errorf("time %q is no time of the day like 03:00", words[1])
	}
	s.hour, s.minute = at.Hour(), at.Minute()
	if words[2] == "Local" {
		return nil, fmt.Errorf("zone %q differs from machine to machine: name it", words[2])
	}
	if s.zone, err = time.LoadLocation(words[2]); err != nil {
		return nil, fmt.Errorf("zone %q is unknown: UTC, Europe/Berlin and so on", words[2])
	}
	return s, nil
}

// next returns the first moment after t. A time that a change of clocks leaves out is moved on by it,
// and one that comes twice is taken once.
func (s *schedule) next(t time.Time) time.Time {
	t = t.In(s.zone)
	for i := range 9 {
		day := t.AddDate(0, 0, i)
		at := time.Date(day.Year(), day.Month(), day.Day(), s.hour, s.minute, 0, 0, s.zone)
		if at.After(t) && slices.Contains(s.days, at.Weekday()) {
			return at
		}
	}
	return time.Time{}
}

// nextDrill returns when a drill is due after t; zero: never.
func nextDrill(text string, t time.Time) time.Time {
	s, err := parseSchedule(text)
	if err != nil || s == nil {
		return time.Time{}
	}
	return s.next(t)
}
