package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"redundancypool/manager/control"
	"redundancypool/web"
)

type notifyCmd struct {
	List   notifyListCmd   `cmd:"" help:"Show how notifications are set, and what was sent."`
	Set    notifySetCmd    `cmd:"" help:"Change values, as KEY=VALUE; list names the keys."`
	Secret notifySecretCmd `cmd:"" help:"Store the secret of a channel, read from standard input, or remove it."`
	Test   notifyTestCmd   `cmd:"" help:"Send a test message at once."`
}

type notifyListCmd struct {
	data
	JSON bool `help:"One JSON object."`
}

func (n *notifyListCmd) Run(ctx context.Context, con console) error {
	raw, err := con.connect(n.Data).ListNotices(ctx)
	if err != nil {
		return err
	}
	if n.JSON {
		return printJSON(con.out, raw)
	}
	var v web.NoticeView
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("read the answer: %w: use commands of the same version as the running process", err)
	}
	for _, key := range slices.Sorted(maps.Keys(v.Values)) {
		fmt.Fprintf(con.out, "%s=%s\n", key, lineEnds.Replace(v.Values[key]))
	}
	for _, ch := range slices.Sorted(maps.Keys(v.Secrets)) {
		fmt.Fprintf(con.out, "secret.%s: %s\n", ch, map[bool]string{true: "stored", false: "none"}[v.Secrets[ch]])
	}
	if len(v.History) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nTime\tKind\tResult\tMessage")
	for _, h := range v.History {
		var results []string
		if h.Held {
			results = append(results, map[bool]string{true: "gathered", false: "held"}[h.Gathered != ""])
		}
		for _, d := range h.Deliveries {
			text := d.Channel + " " + d.State
			if d.Error != "" {
				text += " (" + d.Error + ")"
			}
			results = append(results, text)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", h.Time, h.Kind, strings.Join(results, ", "), lineEnds.Replace(h.Title))
	}
	return t.Flush()
}

type notifySetCmd struct {
	Values []string `arg:"" name:"key=value" help:"Such as webhook.url=https://alarms.example/hook webhook.enabled=true."`
	data
}

func (n *notifySetCmd) Run(ctx context.Context, con console) error {
	c := control.NoticeChange{Values: map[string]string{}}
	for _, text := range n.Values {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return usageError{fmt.Errorf("%q: write KEY=VALUE", text)}
		}
		c.Values[key] = value
	}
	return con.done(con.connect(n.Data).SetNotices(ctx, c))
}

type notifySecretCmd struct {
	Channel string `arg:"" enum:"webhook,email" help:"webhook or email."`
	data
	Remove bool `help:"Remove the stored secret."`
}

func (n *notifySecretCmd) Run(ctx context.Context, con console) error {
	secret := ""
	if !n.Remove {
		var err error
		if secret, err = con.password(); err != nil {
			return err
		}
	}
	return con.done(con.connect(n.Data).SetNotices(ctx, control.NoticeChange{Secrets: map[string]string{n.Channel: secret}}))
}

type notifyTestCmd struct {
	Channel string `arg:"" enum:"webhook,email" help:"webhook or email."`
	data
}

func (n *notifyTestCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(n.Data).TestNotice(ctx, n.Channel))
}
