package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"syscall"
	"time"

	"redundancypool/manager"
)

type serveCmd struct {
	data
	ListenHTTP           string        `placeholder:"ADDR" help:"Plain HTTP on loopback, 127.0.0.1:8080 by default."`
	ListenHTTPS          string        `placeholder:"ADDR" help:"HTTPS, :8443 by default."`
	PoolListen           string        `placeholder:"ADDR" help:"Where the other members connect, :8099 by default."`
	ConfigurationTimeout time.Duration `default:"10m" help:"How long a pool may take to form before this node falls back to Standalone."`
	LogLevel             slog.Level    `default:"info" help:"debug, info, warn or error."`
	LogJSON              bool          `help:"Log as JSON objects."`
}

func (s *serveCmd) Run(ctx context.Context, con console) error {
	if s.ConfigurationTimeout <= 0 {
		return usageError{fmt.Errorf("--configuration-timeout %v: give a time above zero, like 10m", s.ConfigurationTimeout)}
	}
	syscall.Umask(0o077) // the data are this user's alone, whatever writes them
	var h slog.Handler = slog.NewTextHandler(con.err, &slog.HandlerOptions{Level: s.LogLevel})
	if s.LogJSON {
		h = slog.NewJSONHandler(con.err, &slog.HandlerOptions{Level: s.LogLevel})
	}
	return con.serve(ctx, manager.Config{
		Dir: s.Data, ListenHTTP: s.ListenHTTP, ListenHTTPS: s.ListenHTTPS, PoolListen: s.PoolListen,
		ConfigurationTimeout: s.ConfigurationTimeout, Version: version(), Log: slog.New(h),
	})
}

// version is that of the module, or the revision that it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return "development"
}
