package web

import (
	"encoding/json"
	"fmt"
	"html/template"
	"time"
)

// logWords are what the templates of events need.
var logWords = template.FuncMap{
	"logTime":       func(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000 UTC") },
	"logMark":       severityMark,
	"logSeverities": func() []string { return []string{"info", "warning", "error"} },
	"logCategories": func() []string {
		return []string{"status", "pool", "vip", "database", "data", "unit", "trust", "node", "user", "notice"}
	},
	"offset":       clockOffset,
	"detail":       detail,
	"testChannels": func() []string { return []string{"webhook", "email"} },
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
