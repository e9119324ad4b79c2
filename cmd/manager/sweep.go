package main

import "redundancypool/manager"

// sweepCmd is for service managers: see ExecStopPost in deploy/systemd.
type sweepCmd struct{ data }

// Run removes a virtual IP that a dead process left.
func (s *sweepCmd) Run() error { return manager.Sweep(s.Data) }
