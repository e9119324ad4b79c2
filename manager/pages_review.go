package manager

import (
	"context"
	"errors"
	"fmt"
	"time"

	"redundancypool/manager/control"
	"redundancypool/manager/pool"
	"redundancypool/manager/settings"
	"redundancypool/web"
)

// Review implements web.Forming: the checks of Set, and what it would bring about. A Backup's own
// data are saved here already, so that whoever agrees to lose them knows where they are.
func (d desk) Review(ctx context.Context, values map[string]string) ([]web.Consequence, error) {
	m := d.m
	old, prog, e := m.snapshot()
	next, err := old.Apply(values)
	if err != nil {
		return nil, pageError(fieldErrors(err))
	}
	running := e != nil && e.pool != nil && e.pool.Record().Phase == pool.PhaseEffective
	moves := m.moves(old, next)
	switch {
	case prog.Forming:
		return nil, pageError(refuse("forming", "cancel it first, or wait", "a pool is being formed already"))
	case running && next.Mode != old.Mode:
		return nil, pageError(refuse("in_pool", "leave it first", "this Manager belongs to a running pool as %s", old.Mode))
	case running:
		var asked *control.Error
		_, err := m.changeRunning(ctx, e, control.Form{Values: values})
		if errors.As(err, &asked) && len(asked.Confirm) > 0 {
			out := make([]web.Consequence, 0, len(asked.Confirm))
			for _, q := range asked.Confirm {
				out = append(out, web.Consequence{Text: q.Text, Word: q.Word})
			}
			return append(out, moves...), nil
		}
		if err == nil {
			return []web.Consequence{{Text: "Nothing differs from the present settings."}}, nil
		}
		return nil, pageError(err)
	}
	if err := next.Validate(); err != nil {
		return nil, pageError(fieldErrors(atVIP(next, err)))
	}
	if next.Mode == settings.Standalone {
		if err := m.checkListeners(old, next); err != nil {
			return nil, pageError(err)
		}
		return append([]web.Consequence{{Text: "This Manager restarts its services with the new settings and stays Standalone."}}, moves...), nil
	}
	if err := m.checkBeforeSet(ctx, old, next); err != nil {
		return nil, pageError(err)
	}
	deadline := fmt.Sprintf("%s (in %s)", m.deadline(), span(m.cfg.ConfigurationTimeout))
	if next.Mode == settings.Backup {
		saved, err := d.saveForReview(ctx, e)
		if err != nil {
			return nil, pageError(err)
		}
		return append([]web.Consequence{
			{Text: "This Manager restarts its services and is on hold: only a waiting page stays open."},
			{Text: "Without its Master by " + deadline + " it returns to Standalone with the settings and data of now."},
			{Text: saved + " Once the pool is formed, this Manager's data are the Master's; its own are then in that save alone.", Word: "replace"},
		}, moves...), nil
	}
	return append([]web.Consequence{
		{Text: "The database is saved first, to " + m.savesDir() + "."},
		{Text: "This Manager restarts its services as Master and configures Backup and Arbiter: only a waiting page stays open meanwhile."},
		{Text: "If the pool is not effective by " + deadline + ", this Manager returns to Standalone with the settings and data of now."},
		{Text: "The data of the Backup are replaced by this Manager's."},
	}, moves...), nil
}

// deadline is when a forming that begins now ends, as a time of day in this node's zone.
func (m *Manager) deadline() string {
	return time.Now().Add(m.cfg.ConfigurationTimeout).In(time.Local).Format("15:04:05 MST")
}

// reviewSave is how long a save that was made for a dialog serves the next one.
const reviewSave = time.Minute

// saveForReview saves the own data of a Backup to be, and says where they are.
func (d desk) saveForReview(ctx context.Context, e *engine) (string, error) {
	m := d.m
	if e == nil || e.db == nil {
		return "Its database is closed, and was saved when it was set.", nil
	}
	all, err := m.listSaves()
	if err != nil {
		return "", err
	}
	const why = "before this Manager becomes the Backup"
	if len(all) == 0 || all[0].Note.Why != why || time.Since(all[0].At) > reviewSave {
		if _, err := m.saveAs(ctx, e, "before-backup", why, "the settings page"); err != nil {
			return "", fmt.Errorf("save this Manager's own data: %w", err)
		}
		if all, err = m.listSaves(); err != nil || len(all) == 0 {
			return "", fmt.Errorf("look for the save that was just made: %w", err)
		}
	}
	return fmt.Sprintf("Its own data were saved at %s to %s, %s.", all[0].At.In(time.Local).Format("15:04:05 MST"), all[0].Name, kilobytes(all[0].Bytes)), nil
}

func kilobytes(n int64) string { return fmt.Sprintf("%d KiB", (n+1023)>>10) }

// moves says what follows from listeners that are moved.
func (m *Manager) moves(old, next settings.Settings) []web.Consequence {
	was := map[string]string{}
	for _, l := range m.listeners(old) {
		was[l.field] = l.addr
	}
	var out []web.Consequence
	for _, l := range m.listeners(next) {
		if was[l.field] == l.addr {
			continue
		}
		port := portOf(l.addr)
		text := map[string]string{
			"local.port":        "The pool port of this node is then " + port + ": enter it for this node on the other members, and let it through the firewall.",
			"listen.https":      "These pages are then at port " + port + ": let it through the firewall.",
			"listen.http":       "The pages on this very machine are then at http://" + l.addr + ".",
			"listen.mqtt":       "Field units then connect to port " + port + " with TLS: let it through the firewall, and give each unit its new profile.",
			"listen.mqtt_plain": "Field units may then connect to port " + port + " without TLS: their credentials and data can be read in the LAN.",
		}[l.field]
		out = append(out, web.Consequence{Text: text})
	}
	return out
}

// span is a time to wait, for people.
func span(d time.Duration) string {
	if d >= 2*time.Minute && d%time.Minute == 0 {
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}
