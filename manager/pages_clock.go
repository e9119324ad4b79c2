package manager

import (
	"time"

	"redundancypool/web"
)

// Clock implements web.Forming.
func (d desk) Clock() web.Clock {
	c := readClock()
	out := web.Clock{Now: time.Now(), Known: c.Known, Synchronised: c.Synchronised, MaxError: c.MaxError}
	if _, _, e := d.m.snapshot(); e != nil && e.pool != nil {
		st := e.pool.State()
		for _, o := range st.Members {
			if o.ID != st.Record.Self {
				out.Others = append(out.Others, web.ClockOf{Name: o.Name, Ahead: o.ClockOff, Known: o.Heard >= 0})
			}
		}
	}
	return out
}

// over are the settings that this process' command line stands above.
func (m *Manager) over() map[string]string {
	out := map[string]string{}
	for key, value := range map[string]string{"local.port": m.cfg.PoolListen, "listen.https": m.cfg.ListenHTTPS, "listen.http": m.cfg.ListenHTTP} {
		if value != "" {
			out[key] = value
		}
	}
	return out
}
