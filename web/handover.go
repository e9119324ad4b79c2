package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
)

// Moving moves Primary between the Managers, on purpose.
type Moving interface {
	// HandOver moves Primary to the other Manager, whichever of the two is asked. It returns when that
	// one serves. A *Problem has the code refused (nothing was changed), aborted (the old Primary
	// serves on), or unknown (nobody can tell yet), or one that says what kept it from beginning.
	HandOver(ctx context.Context, step func(MoveStep)) (Move, error)
	// Interruptions are what planned changes of Primary have cost so far, in ms, newest first.
	Interruptions(ctx context.Context) ([]float64, error)
}

// MoveStep is one step of a hand over.
type MoveStep struct {
	AtMS int64  `json:"at_ms"` // since it was asked for
	Text string `json:"text"`
}

// Move is a hand over that was done.
type Move struct {
	From  string  `json:"from"`
	To    string  `json:"to"`
	Term  uint64  `json:"term"`
	GapMS float64 `json:"gap_ms"` // no write was possible for so long
	Text  string  `json:"message"`
}

// The outcomes of a hand over.
const (
	moveRunning = "running"
	moveDone    = "done"
	moveRefused = "refused"
	moveAborted = "aborted"
	moveUnknown = "unknown"
)

// moveLimit bounds one hand over. Some of it is allowance for a slow disk: the steps have limits
// of their own.
const moveLimit = 30 * time.Second

// moveDelay is how long a hand over waits for the page that asked for it to be shown.
const moveDelay = 300 * time.Millisecond

// moveShown is how long the page tells of the last hand over.
const moveShown = 10 * time.Minute

// moveRecord is a hand over that this node was asked for.
type moveRecord struct {
	Label   string
	Began   time.Time
	Steps   []MoveStep
	Outcome string
	Term    uint64 // of the new Primary; 0: not done
	Text    string // what became of it
	Fix     string
}

// moves keeps the last hand over asked for here. Safe for concurrent use.
type moves struct {
	mu   sync.Mutex
	last moveRecord
}

func (m *moves) view() moveRecord {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.last
	out.Steps = slices.Clone(out.Steps)
	// Another Manager's steps come in after own ones that happened later.
	slices.SortStableFunc(out.Steps, func(a, b MoveStep) int { return int(a.AtMS - b.AtMS) })
	return out
}

// begin opens the record of a new one; false: one is under way.
func (m *moves) begin(label string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.Outcome == moveRunning {
		return false
	}
	m.last = moveRecord{Label: label, Began: now, Outcome: moveRunning}
	return true
}

func (m *moves) step(s MoveStep) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last.Steps = append(m.last.Steps, s)
}

func (m *moves) end(term uint64, outcome, text, fix string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last.Term, m.last.Outcome, m.last.Text, m.last.Fix = term, outcome, text, fix
}

// outcomeOf tells what became of a hand over from its error.
func outcomeOf(err error) (outcome, text, fix string) {
	var p *Problem
	if !errors.As(err, &p) {
		return moveUnknown, err.Error(), "look at the status of both Managers"
	}
	switch p.Code {
	case moveAborted, moveUnknown:
		return p.Code, p.Message, p.Fix
	}
	return moveRefused, p.Message, p.Fix
}

// startMove begins a hand over that goes on although whoever asked loses the connection, as the
// virtual IP's clients do.
func (s *Server) startMove(label string) bool {
	if !s.moves.begin(label, s.clock()) {
		return false
	}
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(s.ends, moveLimit)
		defer cancel()
		select { // let the answer to whoever asked go out before connections are closed
		case <-time.After(moveDelay):
		case <-ctx.Done():
		}
		m, err := s.cfg.Operations.HandOver(ctx, s.moves.step)
		if err == nil {
			s.moves.end(m.Term, moveDone, fmt.Sprintf("Primary is %s, since term %d; no write was possible for %.0f ms", m.To, m.Term, m.GapMS), "")
			return
		}
		outcome, text, fix := outcomeOf(err)
		s.moves.end(0, outcome, text, fix)
	})
	return true
}

// handOverView is the page of handing over.
type handOverView struct {
	shell
	Label    string
	Checks   []Check
	Ready    bool
	Expected string
	Move     moveRecord
	Shown    bool // Move is to be told of
}

func (s *Server) handOverPage(c echo.Context) error {
	sh := s.shell(c, "Hand over", "/")
	v := handOverView{shell: sh, Label: sh.R.HandOverLabel(), Checks: prechecks(sh.R), Move: s.moves.view()}
	v.Here, v.Refresh = "/handover", "/handover"
	if v.Label != "" {
		v.Title = v.Label
	}
	v.Shown = v.Move.Outcome != "" && s.clock().Sub(v.Move.Began) < moveShown
	if other, ok := elsewhere(sh.R, s.clock()); ok && (!v.Shown || v.Move.before(other)) {
		v.Move, v.Shown = other, true
	}
	v.Ready = v.Move.Outcome != moveRunning && !slices.ContainsFunc(v.Checks, func(c Check) bool { return c.Result == "failed" })
	past, err := s.cfg.Operations.Interruptions(c.Request().Context())
	if err != nil {
		s.cfg.Log.Debug("past hand overs cannot be read", "error", err)
	}
	v.Expected = expected(past)
	return c.Render(http.StatusOK, "handover.html", v)
}

// before reports that a hand over which was done is not this one, or is what became of it.
func (m moveRecord) before(other moveRecord) bool {
	switch m.Outcome {
	case moveRunning:
		return false
	case moveDone:
		return m.Term < other.Term
	}
	return other.Began.After(m.Began)
}

// elsewhere is a hand over that the other Manager was asked for: a browser on the virtual IP comes
// here in the middle of it.
func elsewhere(r Redundancy, now time.Time) (moveRecord, bool) {
	l := r.LastChangeover
	if l == nil || l.Kind != "handover" && l.Kind != "takeback" || now.Sub(l.At) >= moveShown || l.VIPMS == nil {
		return moveRecord{}, false
	}
	gap := *l.VIPMS
	if l.FirstWriteMS != nil {
		gap = max(gap, *l.FirstWriteMS)
	}
	m := moveRecord{Label: Word(l.Kind), Began: l.At, Outcome: moveDone, Term: l.Term, Text: fmt.Sprintf("Primary is %s, since term %d; no write was possible for %.0f ms", l.To, l.Term, gap)}
	for _, s := range []struct {
		at   *float64
		text string
	}{{l.ElectedMS, l.To + " leads"}, {l.VIPMS, l.To + " holds the virtual IP"}, {l.FirstWriteMS, "first write"}, {l.FirstUnitMS, "first field unit is back"}, {l.AllUnitsMS, "all field units are back"}} {
		if s.at != nil {
			m.Steps = append(m.Steps, MoveStep{int64(*s.at), s.text})
		}
	}
	slices.SortStableFunc(m.Steps, func(a, b MoveStep) int { return int(a.AtMS - b.AtMS) })
	return m, true
}

// prechecks are what a hand over needs, each fulfilled or not: the reasons of the pool, in groups.
func prechecks(r Redundancy) []Check {
	var from, to Member
	for _, m := range r.Members {
		switch {
		case m.Role == "arbiter":
		case m.Status == statusPrimary:
			from = m
		default:
			to = m
		}
	}
	out := []Check{{Code: "primary", Result: "ok", Text: "Primary is " + from.Title()}}
	if from.Role == "" {
		out[0] = Check{Code: "primary", Result: "failed", Text: "no Manager is Primary, so nobody can hand over", Fix: Fix("no_primary")}
	}
	rest := r.Hindrances()
	group := func(code, good string, ends ...string) {
		ok := true
		rest = slices.DeleteFunc(rest, func(why Reason) bool {
			if !slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(why.Code, end) }) {
				return false
			}
			out, ok = append(out, Check{Code: why.Code, Result: "failed", Text: why.Text, Fix: why.Fix}), false
			return true
		})
		if ok {
			out = append(out, Check{Code: code, Result: "ok", Text: good})
		}
	}
	if from.Role == "" {
		rest = slices.DeleteFunc(rest, func(why Reason) bool { return why.Code == "no_primary" })
	} else {
		// The Arbiter first: its codes end like those of the Managers.
		group("arbiter", "the Arbiter answers and can vote for "+to.Title(), "arbiter_unreachable", "arbiter_disk", "arbiter_missing", "_arbiter_link", "voters")
		group("reachable", "the other Manager, "+to.Title()+", answers, can write and could serve", "_unreachable", "_disk", "_unfit", "_first_path", "_starting", "manager_missing", "not_fit")
		group("maintenance", "it is not in maintenance", "_maintenance")
		group("in_step", "it has every change", "_behind", "_applying")
		group("digest", "the databases are equal", "digest_differs")
	}
	for _, why := range rest {
		out = append(out, Check{Code: why.Code, Result: "failed", Text: why.Text, Fix: why.Fix})
	}
	return out
}

// expected is how long the interruption will be, from what was measured here.
func expected(past []float64) string {
	if len(past) == 0 {
		return "None was measured in this pool yet. Well under a second is usual."
	}
	sorted := slices.Sorted(slices.Values(past))
	text := fmt.Sprintf("%.0f ms is typical, %.0f ms was the longest of %s here.", sorted[len(sorted)/2], sorted[len(sorted)-1], countOf(len(past), "planned change"))
	return text
}

// handOverFacts is the same for programs.
func (s *Server) handOverFacts(c echo.Context) error {
	noStore(c)
	r := s.cfg.Source.Redundancy()
	past, err := s.cfg.Operations.Interruptions(c.Request().Context())
	if err != nil {
		return answer(c, http.StatusOK, nil, err)
	}
	checks := prechecks(r)
	ready := !slices.ContainsFunc(checks, func(c Check) bool { return c.Result == "failed" })
	return c.JSON(http.StatusOK, map[string]any{"label": r.HandOverLabel(), "ready": ready, "checks": checks, "interruptions_ms": append([]float64{}, past...)})
}

// handOverCall is the hand over for programs: it answers when it has ended.
func (s *Server) handOverCall(ctx context.Context, _ order) (any, error) {
	var steps moves
	m, err := s.cfg.Operations.HandOver(ctx, steps.step)
	if err != nil {
		return nil, err
	}
	return struct {
		Move
		Steps []MoveStep `json:"steps"`
	}{m, append([]MoveStep{}, steps.view().Steps...)}, nil
}
