package web

import (
	"io/fs"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestStateColoursCanBeRead computes the contrast of every colour of text on every ground that it
// stands on, in both schemes and while the page is not live (WCAG 2.2, 1.4.3: 4.5 to 1).
func TestStateColoursCanBeRead(t *testing.T) {
	text, err := fs.ReadFile(staticFiles, "static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	css := string(text)
	schemes := regexp.MustCompile(`:root \{([^}]*)\}`).FindAllStringSubmatch(css, -1)
	if len(schemes) != 2 {
		t.Fatalf("%d sets of colours, want light and dark", len(schemes))
	}
	for i, name := range []string{"light", "dark"} {
		colour := map[string]string{}
		for _, m := range regexp.MustCompile(`--(\w+): (#[0-9a-f]{3,6})`).FindAllStringSubmatch(schemes[i][1], -1) {
			colour[m[1]] = m[2]
		}
		for _, pair := range [][2]string{
			{"text", "back"}, {"text", "raise"}, {"text", "note"}, {"text", "alarm"}, {"soft", "back"}, {"soft", "raise"}, {"soft", "note"},
			{"good", "back"}, {"good", "raise"}, {"calm", "back"}, {"calm", "raise"}, {"warn", "back"}, {"warn", "raise"}, {"warn", "note"},
			{"bad", "back"}, {"bad", "raise"}, {"bad", "alarm"}, {"link", "back"}, {"link", "raise"}, {"link", "note"}, {"on", "link"},
		} {
			a, b := colour[pair[0]], colour[pair[1]]
			if a == "" || b == "" {
				t.Fatalf("%s: no colour %s or %s", name, pair[0], pair[1])
			}
			if got := contrast(a, b); got < 4.5 {
				t.Errorf("%s: %s %s on %s %s has a contrast of %.2f", name, pair[0], a, pair[1], b, got)
			}
		}
	}
	// A colour that is not one of the variables would escape the above.
	_, rules, _ := strings.Cut(css, "box-sizing")
	for _, m := range regexp.MustCompile(`[\s;{](?:color|fill|stroke): ([^;}]+)`).FindAllStringSubmatch(rules, -1) {
		if v := strings.TrimSpace(m[1]); !strings.HasPrefix(v, "var(--") && v != "currentColor" && v != "inherit" && v != "none" {
			t.Errorf("the colour %q is none of the variables", v)
		}
	}
	for _, class := range []string{"primary", "online", "on_hold", "configuring", "standalone", "unreachable", "unknown", "protected", "degraded", "failure"} {
		if !regexp.MustCompile(`\.s-` + class + `\b[^{]*\{ color: var`).MatchString(css) {
			t.Errorf("the state %s has no colour", class)
		}
	}
	// Not live: every state is as grey as the rest.
	if m := regexp.MustCompile(`\.is-stale \{([^}]*)\}`).FindStringSubmatch(css); m == nil || !strings.Contains(m[1], "--good: var(--soft)") || !strings.Contains(m[1], "--calm: var(--soft)") {
		t.Error("a page that is not live keeps its green")
	}
}

// contrast is that of WCAG 2.2 between two colours like #rgb or #rrggbb.
func contrast(a, b string) float64 {
	la, lb := luminance(a), luminance(b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(hex string) float64 {
	hex = strings.TrimPrefix(hex, "#")
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	n, _ := strconv.ParseUint(hex, 16, 32)
	part := func(v uint64) float64 {
		c := float64(v&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(n>>16) + 0.7152*part(n>>8) + 0.0722*part(n)
}
