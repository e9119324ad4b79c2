package web

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	allStatus = []string{"primary", "online", "on_hold", "configuring", "standalone", "unreachable", "unknown"}
	allHealth = []string{"protected", "degraded", "failure", "standalone", "configuring"}
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("redundancypool_"+name, help, labels, nil)
}

// The help of each says what to conclude.
var (
	descStatus   = desc("status", "1 for this node's present status, 0 for the others; alert when no node of a pool is primary.", "status")
	descHealth   = desc("health", "1 for the pool's present health, 0 for the others; alert on degraded (the next fault may stop the service) and failure.", "health")
	descTerm     = desc("term", "Raft term; each step is an election or a hand over, many an hour mean an unstable network.")
	descBound    = desc("vip_bound", "1 while this node has the virtual IP; the sum over the pool must be 1.")
	descUnits    = desc("field_units", "Field units connected to this node.")
	descPossible = desc("failover_possible", "1 when a failover would succeed now; alert on 0 in a pool.")
	descWorst    = desc("worst_case_takeover_seconds", "Longest takeover after a silent fault, computed from the settings.")
	descMember   = desc("member_status", "1 for the present status of a member as this node sees it.", "member", "role", "status")
	descHeard    = desc("member_last_heard_seconds", "Time since a member was heard; above the detection time it is unreachable.", "member", "role")
	descInStep   = desc("member_in_step", "1 when a Manager's database is in step; alert when 0 for minutes.", "member", "role")
	descBehind   = desc("member_behind", "Committed changes that a Manager's database lacks.", "member", "role")
	descReason   = desc("reason", "1 for each present reason why a failover would not succeed, or that an operator must know; 0 for the other known ones.", "code")
	descClock    = desc("member_clock_offset_seconds", "A member's clock minus this node's; times in the logs differ by as much.", "member", "role")
	descRTT      = desc("member_round_trip_seconds", "Smoothed time of a heartbeat and its answer; near the heartbeat timeout the network is too slow for the settings.", "member", "role")
	descCommit   = desc("member_disk_commit_seconds", "Smoothed time of a write to a member's disk; near the disk timeout it will be taken for sick.", "member", "role")
	descHears    = desc("link_up", "1 while a member hears another one on a path; 0: it does not, or that is not known.", "by", "of", "path")
	descGap      = desc("last_changeover_seconds", "Times of the last changeover, by phase.", "kind", "phase")
	descLost     = desc("last_changeover_lost", "Acknowledged records lost in the last changeover; must be 0.")
	descTwice    = desc("last_changeover_stored_twice", "Records stored twice in the last changeover; must be 0.")
)

// collector reads the Source at each scrape.
type collector struct{ source Source }

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descStatus, descHealth, descTerm, descBound, descUnits, descPossible, descWorst,
		descMember, descHeard, descReason, descClock, descRTT, descCommit, descHears, descInStep, descBehind, descGap, descLost, descTwice} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	r := c.source.Redundancy()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, s := range allStatus {
		gauge(descStatus, number(r.Status == s), s)
	}
	for _, h := range allHealth {
		gauge(descHealth, number(r.Health == h), h)
	}
	gauge(descTerm, float64(r.Term))
	gauge(descBound, number(r.VIP.Bound))
	gauge(descPossible, number(r.FailoverPossible))
	if r.FieldUnits != nil {
		gauge(descUnits, float64(*r.FieldUnits))
	}
	if r.WorstTakeoverMS != nil {
		gauge(descWorst, float64(*r.WorstTakeoverMS)/1000)
	}
	present := map[string]bool{}
	for _, why := range r.Reasons {
		present[why.Code] = true
	}
	for _, code := range reasonCodes() {
		gauge(descReason, number(present[code]), code)
		delete(present, code)
	}
	for code := range present {
		gauge(descReason, 1, code)
	}
	for _, l := range r.Links {
		gauge(descHears, number(l.State == "heard"), l.By, l.Of, strconv.Itoa(l.Path))
	}
	seen := map[[2]string]bool{}
	for _, m := range r.Members {
		if key := [2]string{m.Name, m.Role}; seen[key] {
			continue // two equal rows would void the whole scrape
		} else {
			seen[key] = true
		}
		gauge(descMember, 1, m.Name, m.Role, m.Status)
		if m.LastHeardMS != nil {
			gauge(descHeard, float64(*m.LastHeardMS)/1000, m.Name, m.Role)
		}
		for d, ms := range map[*prometheus.Desc]*float64{descClock: m.ClockMS, descRTT: m.RoundTripMS, descCommit: m.CommitMS} {
			if ms != nil {
				gauge(d, *ms/1000, m.Name, m.Role)
			}
		}
		if m.InStep != nil {
			gauge(descInStep, number(*m.InStep), m.Name, m.Role)
		}
		if m.Behind != nil {
			gauge(descBehind, float64(*m.Behind), m.Name, m.Role)
		}
	}
	if l := r.LastChangeover; l != nil {
		for phase, ms := range map[string]*float64{"detected": l.DetectedMS, "elected": l.ElectedMS, "vip": l.VIPMS,
			"first_write": l.FirstWriteMS, "first_unit": l.FirstUnitMS, "all_units": l.AllUnitsMS} {
			if ms != nil {
				gauge(descGap, *ms/1000, l.Kind, phase)
			}
		}
		if l.Lost != nil {
			gauge(descLost, float64(*l.Lost))
		}
		if l.StoredTwice != nil {
			gauge(descTwice, float64(*l.StoredTwice))
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
