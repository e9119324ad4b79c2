package manager_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "redundancypool/"

// imports returns what go list prints for a package, one import path a line.
func imports(t *testing.T, format string, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-f", format}, args...)...).Output()
	if err != nil {
		t.Skipf("go list: %v (the source is not here)", err)
	}
	return strings.Fields(string(out))
}

// Imports point one way: package manager joins its leaves, and leaves do not know one another, so
// that each can be read, tested and replaced alone.
func TestLeavesDoNotImportOneAnother(t *testing.T) {
	leaves := []string{
		"vip", "fieldunit", "fieldunit/broker", "fieldunit/agent", "manager/pool", "manager/pool/transport", "manager/database",
		"manager/trust", "manager/settings", "manager/journal", "manager/notify", "manager/control", "web",
	}
	inner := map[string][]string{"manager/pool": {"manager/pool/transport"}}
	for _, leaf := range leaves {
		for _, imp := range imports(t, `{{join .Imports "\n"}}`, module+leaf) {
			if !strings.HasPrefix(imp, module) {
				continue
			}
			name := strings.TrimPrefix(imp, module)
			if name == "fieldunit" || slices.Contains(inner[leaf], name) {
				continue // fieldunit is vocabulary only
			}
			t.Errorf("%s imports %s: leaves do not know one another, package manager joins them; pass a value or a small interface in instead", leaf, name)
		}
	}
	for _, imp := range imports(t, `{{join .Imports "\n"}}`, module+"fieldunit") {
		if strings.Contains(imp, ".") || strings.HasPrefix(imp, module) {
			t.Errorf("fieldunit imports %s: the vocabulary uses the standard library alone, so that every leaf may share it", imp)
		}
	}
}

// The Arbiter is a light service on a third machine: under 32 MB, and with nothing in it that could
// store, parse or serve what field units send.
func TestArbiterLinksNoDataAndNoServers(t *testing.T) {
	allowed := []string{"manager/pool", "manager/trust", "manager/control", "manager/journal"}
	for _, imp := range imports(t, `{{join .Imports "\n"}}`, module+"arbiter") {
		name, own := strings.CutPrefix(imp, module)
		if own && !slices.Contains(allowed, name) && name != "manager/pool/transport" {
			t.Errorf("arbiter imports %s: it may use %v alone, or its process grows what a voter without data must not have", name, allowed)
		}
	}
	why := map[string]string{
		"modernc.org/sqlite":                  "it must not be able to store payload, and SQLite alone is some 10 MB",
		"github.com/mochi-mqtt":               "it must not be able to receive telemetry",
		"github.com/eclipse/paho":             "it must not be able to receive telemetry",
		"github.com/vishvananda/netlink":      "it holds no address",
		"github.com/google/nftables":          "it holds no address",
		"github.com/mdlayher":                 "it holds no address",
		"github.com/labstack/echo":            "it has no pages",
		"net/http/pprof":                      "it shows its memory to nobody",
		module + "vip":                        "it holds no address",
		module + "web":                        "it has no pages",
		module + "fieldunit":                  "it does not know what a payload is",
		module + "manager/database":           "it stores no data",
		module + "manager/settings":           "a Manager's settings mean nothing to it",
		"github.com/prometheus/client_golang": "it has no metrics page",
	}
	for _, from := range []string{"arbiter", "cmd/arbiter"} {
		for _, dep := range imports(t, `{{.ImportPath}}`, "-deps", module+from) {
			for bad, reason := range why {
				if dep == bad || strings.HasPrefix(dep, bad+"/") {
					t.Errorf("%s depends on %s: %s", from, dep, reason)
				}
			}
		}
	}
}
