package web

import (
	"encoding/json"
	"fmt"
	"html"
	"os"
	"regexp"
	"strings"
	"testing"
)

// poolOf is a healthy pool as the Master sees it, changed.
func poolOf(change func(*Redundancy)) Redundancy {
	r := full()
	r.Deadline, r.Health, r.FailoverPossible, r.Reasons = nil, "protected", true, nil
	r.Members[1].InStep, r.Members[1].Behind, r.Members[1].Database = ptr(true), ptr(uint64(0)), "in_step"
	a := &r.Members[2]
	a.Name, a.Status, a.Fault, a.LastHeardMS, a.ReportAgeMS = "third", "online", "", ptr(int64(9)), ptr(int64(9))
	a.Position, a.BytesOnDisk = ptr(uint64(104)), ptr(int64(70<<10))
	for i := range r.Links {
		r.Links[i].State, r.Links[i].HeardMS = "heard", ptr(int64(10))
	}
	if change != nil {
		change(&r)
	}
	return r
}

func TestVerdictSaysNoMoreThanIsKnown(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Redundancy)
		word   string
		says   string
		not    string
	}{
		{"all is well", nil, "protected", "any one of them may fail", "next fault"},
		{"the Backup is behind", func(r *Redundancy) {
			r.Health, r.FailoverPossible, r.Reasons = "degraded", false, []Reason{{Code: "backup_behind", Text: "cell 2 is 4 behind"}}
		}, "degraded", "next fault may stop the service: cell 2 is 4 behind.", "may fail without"},
		{"what is only good to know is not the cause", func(r *Redundancy) {
			r.Health, r.FailoverPossible = "degraded", false
			r.Reasons = []Reason{{Code: "backup_flapping", Text: "cell 2 comes and goes"}, {Code: "arbiter_unreachable", Text: "third is away"}}
		}, "degraded", "third is away", "comes and goes"},
		{"no Primary, but the Arbiter is heard", func(r *Redundancy) {
			r.Health, r.Status, r.FailoverPossible = "failure", "online", false
			r.Members[0].Status, r.Members[1].Status = "online", "unreachable"
		}, "failure", "as far as this member can tell", "serves,"},
		{"cut off from both: the others may well serve", func(r *Redundancy) {
			r.Health, r.Status, r.FailoverPossible = "failure", "online", false
			r.Members[0].Status, r.Members[1].Status, r.Members[2].Status = "online", "unreachable", "unreachable"
		}, "failure", "the others may serve without it", "No Manager is Primary"},
		{"cannot start", func(r *Redundancy) {
			*r = Redundancy{Role: "master", Status: "unknown", Health: "failure", NotRunning: true, Reasons: []Reason{{Code: "not_running", Text: "the disk is full"}}}
		}, "failure", "the disk is full", "the others"},
		{"alone by choice", func(r *Redundancy) { *r = Redundancy{Role: "standalone", Status: "standalone", Health: "standalone"} }, "standalone", "nothing takes over", "Primary"},
		{"restarting", func(r *Redundancy) { *r = Redundancy{Role: "master", Status: "configuring", Health: "configuring"} }, "configuring", "restarting", "Primary"},
		{"on hold", func(r *Redundancy) { *r = Redundancy{Role: "backup", Status: "on_hold", Health: "configuring"} }, "configuring", "waits for its Master", "protects"},
		{"nothing is known", func(r *Redundancy) { *r = Redundancy{} }, "", "Nothing is known", "Protected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := poolOf(tt.change)
			v := r.Verdict()
			if v.Word != tt.word || !strings.Contains(v.Text, tt.says) || strings.Contains(v.Text, tt.not) {
				t.Errorf("%q: %q", v.Word, v.Text)
			}
			text, err := json.Marshal(r)
			if err != nil || !strings.Contains(string(text), `"verdict":{"word":"`+tt.word+`"`) {
				t.Errorf("the API has another verdict: %s %v", text, err)
			}
			page := html.UnescapeString(body(t, ask(built(t, testConfig(newSource(r))), here, "GET", "/", nil)))
			if !strings.Contains(page, v.Text) || !strings.Contains(page, "</html>") {
				t.Errorf("the page lacks the verdict or its end:\n%s", page)
			}
		})
	}
}

func TestEachEndOfALinkShowsWhatItHears(t *testing.T) {
	r := poolOf(func(r *Redundancy) {
		for i := range r.Links {
			l := &r.Links[i]
			switch l.By + l.Of + fmt.Sprint(l.Path) {
			case "backupmaster1":
				l.State, l.HeardMS = "silent", ptr(int64(9000)) // one way
			case "arbiterbackup1":
				l.State, l.HeardMS = "unknown", nil
			}
		}
	})
	top := r.Topology()
	states := map[string]int{}
	for _, h := range top.Halves {
		states[fmt.Sprint(h.State, h.Second)]++
	}
	want := map[string]int{"heardfalse": 4, "silentfalse": 1, "unknownfalse": 1, "heardtrue": 2}
	if fmt.Sprint(states) != fmt.Sprint(want) {
		t.Errorf("halves %v, want %v", states, want)
	}
	for _, says := range []string{"Master cell <1> is Primary", "Backup last heard Master 9s ago", "held by cell <1> (this node)", "3 field units connected"} {
		if !strings.Contains(top.Text, says) {
			t.Errorf("the text alternative lacks %q: %s", says, top.Text)
		}
	}
	if top.VIP == nil || top.VIP.X != places["master"].X {
		t.Errorf("the virtual IP is drawn at %+v", top.VIP)
	}
	r.VIP.Bound, r.Members[0].Status = false, "online"
	if p := r.Topology().VIP; p != nil {
		t.Errorf("the virtual IP is drawn although nobody is known to hold it: %+v", p)
	}
	page := body(t, ask(built(t, testConfig(newSource(r))), here, "GET", "/", nil))
	if n := strings.Count(page, `class="link `); n != 8 {
		t.Errorf("%d half lines are drawn", n)
	}
	if strings.Contains(page, " style=") {
		t.Error("an inline style would be refused by the browser")
	}
}

// TestTableHasEveryColumn: S91 to S117 of the requirements.
func TestTableHasEveryColumn(t *testing.T) {
	page := body(t, ask(built(t, testConfig(newSource(poolOf(nil)))), here, "GET", "/", nil))
	for _, label := range []string{"Index", "Symbol", "Comment", "Address", "Port", "Period", "Timeout", "Retry count", "Active", "Is Primary", "Connected server",
		"Field units", "Browsers", "Fault", "Synchronisation", "Verified", "Term", "Position", "Behind", "Clock offset", "Round trip", "Disk commit", "Last heard",
		"Version", "Licence", "On disk", "Running since", "Second path"} {
		if !strings.Contains(page, `<th scope="row">`+label+`</th>`) {
			t.Errorf("no row %q", label)
		}
	}
	for _, value := range []string{"This node", "Partner", "Primary (Running)", "Online (Standby)", "-12.5 ms", "0.4 ms", "1.2 ms", "equal at 90", "stores no data", "70 KiB", "hall 4", "Automatic", "0:24"} {
		if !strings.Contains(page, value) {
			t.Errorf("no value %q", value)
		}
	}
}

func TestEveryReasonHasAFix(t *testing.T) {
	text, err := os.ReadFile("../manager/pool/view.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?:role\+|add\(|addIf\([^,]*, |Reason\{\{?)"([a-z_]+)"`).FindAllStringSubmatch(string(text), -1) {
		code := m[1]
		if strings.HasPrefix(code, "_") {
			code = "backup" + code
		}
		if Fix(code) == "" {
			t.Errorf("%s has no fix", code)
		}
	}
	if Fix("nonsense") != "" || Fix("fell_back_timeout") == "" || Fix("arbiter_disk") == "" {
		t.Error("fixes of unknown, of grouped and of a member's reasons")
	}
}

func TestReasonsAreMetrics(t *testing.T) {
	r := poolOf(func(r *Redundancy) { r.Reasons = []Reason{{Code: "backup_behind"}, {Code: "quite_new"}} })
	text := body(t, ask(built(t, testConfig(newSource(r))), here, "GET", "/metrics", nil))
	for line, want := range map[string]int{`redundancypool_reason{code="backup_behind"} 1`: 1, `redundancypool_reason{code="quite_new"} 1`: 1,
		`redundancypool_reason{code="arbiter_unreachable"} 0`: 1, `redundancypool_reason{code="backup_behind"} 0`: 0} {
		if got := strings.Count(text, line+"\n"); got != want {
			t.Errorf("%s stands there %d times", line, got)
		}
	}
}
