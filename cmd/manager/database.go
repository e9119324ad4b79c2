package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"redundancypool/manager/control"
)

type databaseCmd struct {
	Save    databaseSaveCmd    `cmd:"" help:"Write a consistent copy of this node's database to a file."`
	Restore databaseRestoreCmd `cmd:"" help:"Replace the data by such a copy; in a pool on the Master as Primary, for all members."`
	List    databaseListCmd    `cmd:"" help:"List the saves that the Manager keeps."`
	Delete  databaseDeleteCmd  `cmd:"" help:"Delete one of them."`
	Keep    databaseKeepCmd    `cmd:"" help:"Set how many saves are kept, and how long."`
}

type databaseSaveCmd struct {
	File string `arg:"" optional:"" help:"The file to write; not given: one of the saves that the Manager keeps."`
	data
}

func (d *databaseSaveCmd) Run(ctx context.Context, con console) error {
	if d.File == "" {
		return con.done(con.connect(d.Data).SaveDatabase(ctx, ""))
	}
	file, err := filepath.Abs(d.File) // the running process has another working folder
	if err != nil {
		return fmt.Errorf("file %s: %w", d.File, err)
	}
	return con.done(con.connect(d.Data).SaveDatabase(ctx, file))
}

type databaseRestoreCmd struct {
	File string `arg:"" help:"The file to read, or the name of a save in the list."`
	data
	yes
}

func (d *databaseRestoreCmd) Run(ctx context.Context, con console) error {
	file := d.File
	_, err := os.Stat(file)
	switch {
	case err != nil && filepath.Base(file) != file:
		return usageError{fmt.Errorf("database restore: %w", err)}
	case err == nil:
		if file, err = filepath.Abs(file); err != nil {
			return fmt.Errorf("file %s: %w", d.File, err)
		}
	}
	return con.confirmed(d.Yes, func(yes bool) (control.Done, error) {
		return con.connect(d.Data).RestoreDatabase(ctx, file, yes)
	})
}

type databaseListCmd struct{ data }

func (d *databaseListCmd) Run(ctx context.Context, con console) error {
	all, err := con.connect(d.Data).ListSaves(ctx)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tWHEN\tBYTES\tSCHEMA\tREADINGS\tUNITS\tWHY\tWHO")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\n", s.Name, time.UnixMilli(s.AtMS).UTC().Format("2006-01-02 15:04:05Z"), s.Bytes, s.Schema, counted(s.Samples), counted(s.Units), s.Why, s.Who)
	}
	return t.Flush()
}

// counted is a figure, or a question mark for one that is not known.
func counted(n int64) string {
	if n < 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

type databaseDeleteCmd struct {
	Name string `arg:"" help:"The name in the list."`
	data
	yes
}

func (d *databaseDeleteCmd) Run(ctx context.Context, con console) error {
	return con.confirmed(d.Yes, func(yes bool) (control.Done, error) { return con.connect(d.Data).DeleteSave(ctx, d.Name, yes) })
}

type databaseKeepCmd struct {
	Count int `default:"20" help:"How many saves are kept."`
	Days  int `default:"0" help:"For how many days; 0: for ever."`
	data
}

func (d *databaseKeepCmd) Run(ctx context.Context, con console) error {
	return con.done(con.connect(d.Data).KeepSaves(ctx, d.Count, d.Days))
}
