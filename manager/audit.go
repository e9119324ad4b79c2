package manager

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"redundancypool/manager/control"
	"redundancypool/manager/journal"
	"redundancypool/web"
)

// userEvent is the category of what people and programs did.
const userEvent = "user"

// Audit implements web.Auditor.
func (d desk) Audit(a web.Act) { d.m.audit(a) }

// audit keeps an act as an event.
func (m *Manager) audit(a web.Act) {
	details := map[string]any{"who": a.Who, "from": a.From, "via": a.Via, "result": a.Result}
	text := a.What
	for _, key := range slices.Sorted(maps.Keys(a.Target)) {
		details[key+"_given"] = a.Target[key]
		if key == "name" || key == "to" || key == "id" || key == "file" {
			text += " " + a.Target[key]
		}
	}
	if len(a.Changed) > 0 {
		details["changed"] = strings.Join(a.Changed, ", ")
		text += ": " + strings.Join(a.Changed, ", ")
	}
	sev := journal.Info
	who := a.Who
	if a.From != "" {
		who += " from " + a.From
	}
	if a.Result != "done" {
		sev = journal.Warning
		text = a.Result + ": " + text
	}
	m.record(journal.Event{Node: m.name(), Severity: sev, Category: userEvent, Code: a.Code, Message: who + ": " + text, Cause: a.Why, Details: details})
}

// watching are the operations of the control socket that change nothing, so that nobody need know.
var watching = []string{"status", "verify", "query", "logs", "unit/list", "token/list"}

// commandWords are what the operations of the control socket do, in the words of the pages.
var commandWords = map[string]string{
	"set": "change settings", "token": "show a pairing token", "handover": "hand over", "leave": "leave the pool", "recover": "go on alone",
	"activate": "activate redundancy here", "deactivate": "deactivate redundancy here", "cancel": "cancel the forming",
	"unit/add": "add a field unit", "unit/remove": "remove a field unit", "user/add": "add a user", "user/passwd": "set a user's password",
	"database/save": "save the database", "database/restore": "restore the database",
	"notify/set": "change notifications", "notify/test": "send a test message",
	"token/add": "make an API token", "token/remove": "remove an API token",
}

// audited is the one place where the commands of this machine are noted: it wraps every operation
// that changes something.
func (m *Manager) audited(ops map[string]control.Handler) map[string]control.Handler {
	out := make(map[string]control.Handler, len(ops))
	for name, do := range ops {
		if slices.Contains(watching, name) || strings.HasSuffix(name, "/list") || strings.HasSuffix(name, "/show") {
			out[name] = do
			continue
		}
		out[name] = func(ctx context.Context, in json.RawMessage, step func(any) error) (any, error) {
			s, _, _ := m.snapshot()
			result, err := do(ctx, in, step)
			var asked *control.Error
			if errors.As(err, &asked) && len(asked.Confirm) > 0 {
				return result, err // nothing was done yet
			}
			a := web.Act{Who: "local command", Via: "command", Code: strings.ReplaceAll(name, "/", "_"), What: commandWords[name], Result: "done", Target: told(in)}
			if a.What == "" {
				a.What = strings.ReplaceAll(name, "/", " ")
			}
			if p, ok := control.PeerOf(ctx); ok {
				a.Who = p.String()
			}
			if err != nil {
				a.Result, a.Why = "refused", err.Error()
			} else if name == "notify/set" {
				a.Changed = keysGiven(in)
			} else if now, _, _ := m.snapshot(); name == "set" {
				a.Code, a.Changed = "settings", changedSettings(settingsValues(s), settingsValues(now))
			}
			m.audit(a)
			return result, err
		}
	}
	return out
}

// told returns what of a command's request may be told: never a password, a token or a value.
func told(in json.RawMessage) map[string]string {
	var all map[string]any
	if json.Unmarshal(in, &all) != nil {
		return nil
	}
	out := map[string]string{}
	for _, key := range []string{"name", "to", "file", "id", "scope", "channel"} {
		if text, ok := all[key].(string); ok && text != "" {
			out[key] = text
		}
	}
	return out
}

// keysGiven returns the keys of the values and secrets in a request.
func keysGiven(in json.RawMessage) (keys []string) {
	var q control.NoticeChange
	if json.Unmarshal(in, &q) != nil {
		return nil
	}
	keys = slices.Sorted(maps.Keys(q.Values))
	for _, ch := range slices.Sorted(maps.Keys(q.Secrets)) {
		keys = append(keys, "secret."+ch)
	}
	return keys
}

// changedSettings returns the keys that have another value now.
func changedSettings(before, after map[string]string) (keys []string) {
	for k, v := range after {
		if before[k] != v {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
