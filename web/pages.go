package web

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"
)

//go:embed page
var pageFiles embed.FS

// pages are the templates; they escape by context.
type pages struct{ set *template.Template }

func newPages(version string) *pages {
	funcs := template.FuncMap{
		"how":        howTrusted,
		"word":       Word,
		"equivalent": Equivalent,
		"mark":       mark,
		"ago":        ago,
		"ms":         milliseconds,
		"count":      func(n *int64) string { return pointed(n, "not counted") },
		"left":       left,
		"database":   database,
		"version":    func() string { return version },
		"vipHolder":  vipHolder,
		"address":    address,
		"sentence":   sentence,
		"toKnow":     toKnow,
		"size":       size,
		"seatField":  seatField,
		"round":      func(d time.Duration) time.Duration { return d.Round(time.Millisecond) },
		"ahead":      ahead,
		"rate":       func(perSecond float64) string { return size(int64(perSecond)) + " a second" },
	}
	return &pages{set: template.Must(template.New("").Funcs(funcs).Funcs(logWords).Funcs(historyWords).ParseFS(pageFiles, "page/*.html"))}
}

// Render implements echo.Renderer.
func (p *pages) Render(w io.Writer, name string, data any, _ echo.Context) error {
	if err := p.set.ExecuteTemplate(w, name, data); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	return nil
}

func (s *Server) statusPage(c echo.Context) error {
	sh := s.shell(c, "Redundancy", "/")
	set := s.cfg.Operations.Settings()
	return c.Render(http.StatusOK, "status.html", struct {
		shell
		S Settings
	}{sh, set})
}

// howTrusted says how an approval came about.
func howTrusted(how string) string {
	switch how {
	case "token":
		return "by pairing token"
	case "fingerprint":
		return "fingerprint compared"
	case "master":
		return "named by the Master"
	}
	return "not known"
}

// mark is the shape that goes with a status or health, so that colour is never alone.
func mark(code string) string {
	switch code {
	case "primary", "protected":
		return "●"
	case "online", "standalone":
		return "○"
	case "on_hold", "configuring":
		return "◔"
	case "degraded":
		return "▲"
	case "unreachable", "failure":
		return "✕"
	}
	return "?"
}

func ago(ms *int64) string {
	switch {
	case ms == nil:
		return "never"
	case *ms < 1000:
		return "now"
	}
	return (time.Duration(*ms) * time.Millisecond).Truncate(time.Second).String() + " ago"
}

func milliseconds(ms *float64) string {
	if ms == nil {
		return "—"
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", *ms), ".0") + " ms"
}

// database says how far a member's copy of the data is.
func database(m Member) string {
	switch {
	case m.Role == "arbiter":
		return "stores none"
	case m.InStep == nil:
		return "unknown"
	case *m.InStep:
		return "in step"
	case m.Behind != nil:
		return fmt.Sprintf("%d behind", *m.Behind)
	}
	return "not in step"
}

func pointed[T any](p *T, none string) string {
	if p == nil {
		return none
	}
	return fmt.Sprint(*p)
}

// left is a countdown as minutes and seconds.
func left(ms int64) string {
	s := max(0, (ms+999)/1000)
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// hostOf returns the address alone of one with a port or a prefix length.
func hostOf(text string) string {
	if p, err := netip.ParseAddrPort(text); err == nil {
		return p.Addr().String()
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr().String()
	}
	return text
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 10<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}

// vipHolder names the member that holds the virtual IP, as far as it is known here; empty: nobody.
func vipHolder(r Redundancy) string {
	if r.VIP.Bound {
		return r.Node + " (this node)"
	}
	for _, m := range r.Members {
		if m.Status == statusPrimary {
			return m.Name
		}
	}
	return ""
}

// address is a member's, which a Standalone need not have.
func address(text string) string {
	if text == "" || strings.HasPrefix(text, "invalid") {
		return "no address"
	}
	return text
}

// sentence makes a message, which is written to go on after a colon, begin and end like one.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	text = string(unicode.ToUpper(first)) + text[size:]
	if last := text[len(text)-1]; last != '.' && last != '!' && last != '?' {
		text += "."
	}
	return text
}

// toKnow returns the reasons without that of a fall back which stands in the banner above.
func toKnow(r Redundancy, told *FallBack) []Reason {
	var out []Reason
	for _, why := range r.Reasons {
		if told == nil || why.Code != "fell_back_"+told.Code {
			out = append(out, why)
		}
	}
	return out
}

// ahead says how another clock stands to this one's.
func ahead(d time.Duration) string {
	switch d = d.Round(time.Millisecond); {
	case d.Abs() < 5*time.Millisecond:
		return "the same, to within 5 ms"
	case d < 0:
		return (-d).String() + " behind this one"
	}
	return d.String() + " ahead of this one"
}
