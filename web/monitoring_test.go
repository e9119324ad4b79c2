package web

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v2"
)

// The alert rules and the dashboard must name metrics and labels that there are.
func TestMonitoringNamesWhatThereIs(t *testing.T) {
	r := prometheus.NewRegistry()
	if err := r.Register(collector{newSource(full())}); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string][]string{}
	for _, f := range families {
		for _, l := range f.Metric[0].Label {
			labels[f.GetName()] = append(labels[f.GetName()], l.GetName())
		}
		labels[f.GetName()] = append(labels[f.GetName()], "job", "instance")
	}
	for _, e := range append(alertExpressions(t), dashboardExpressions(t)...) {
		found := regexp.MustCompile(`(redundancypool_[a-z_]+)(\{[^}]*\})?`).FindAllStringSubmatch(e, -1)
		if len(found) == 0 && !strings.HasPrefix(e, "up{") {
			t.Errorf("%s: names no metric", e)
		}
		for _, m := range found {
			if labels[m[1]] == nil {
				t.Errorf("%s: there is no metric %s", e, m[1])
			}
			for _, l := range regexp.MustCompile(`([a-z_]+)=~?"`).FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(labels[m[1]], l[1]) {
					t.Errorf("%s: %s has no label %s", e, m[1], l[1])
				}
			}
		}
	}
}

func alertExpressions(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../deploy/monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, g := range doc.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["action"] == "" {
				t.Errorf("alert %q lacks severity, summary or action", r.Alert)
			}
			all = append(all, r.Expr)
		}
	}
	if len(all) == 0 {
		t.Error("no alert rules")
	}
	return all
}

func dashboardExpressions(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../deploy/monitoring/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Panels []struct {
			ID      int
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, p := range doc.Panels {
		if seen[p.ID] || len(p.Targets) == 0 {
			t.Errorf("panel %d is there twice or shows nothing", p.ID)
		}
		seen[p.ID] = true
		for _, x := range p.Targets {
			all = append(all, x.Expr)
		}
	}
	return all
}
