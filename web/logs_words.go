package web

import (
	"encoding/json"
	"fmt"
	"html/template"
	"strings"
	"time"
	"unicode"
)

// logWords are what the templates of events need.
var logWords = template.FuncMap{
	"logTime":       func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000 UTC") },
	"logText":       logText,
	"logMark":       severityMark,
	"logSeverities": func() []string { return []string{"info", "warning", "error"} },
	"logCategories": func() []string {
		return []string{"status", "pool", "vip", "database", "data", "unit", "trust", "node", "user", "notice"}
	},
	"offset":       clockOffset,
	"detail":       detail,
	"testChannels": func() []string { return []string{"webhook", "email"} },
}

// logText is an event's message as a sentence. A name that it begins with stays as it is written.
func logText(e LogEvent) string {
	first, _, _ := strings.Cut(e.Message, " ")
	if e.Category != "user" && strings.IndexFunc(first, func(r rune) bool { return !unicode.IsLetter(r) }) < 0 {
		return sentence(e.Message)
	}
	text := sentence("x" + e.Message)
	return text[1:]
}

// severityMark is the shape that goes with a severity, so that colour is never alone.
func severityMark(severity string) string {
	switch severity {
	case "warning":
		return "▲"
	case "error":
		return "✕"
	}
	return "·"
}

// clockOffset is how far a member's clock is ahead of this node's.
func clockOffset(ms *int64) string { return fmt.Sprintf("%+d ms", *ms) }

// detail is one value of the evidence.
func detail(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(text)
}
