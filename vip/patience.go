package vip

import "time"

// patience waits for something that should come within guardBudget. It counts only time in
// which this process ran: after a pause of its own everything seems late at first, and nothing
// is to blame for it.
type patience struct {
	waiting bool
	spent   time.Duration
}

// begin starts to wait, unless it waits already.
func (p *patience) begin() {
	if !p.waiting {
		*p = patience{waiting: true}
	}
}

// end stops: what was waited for has come.
func (p *patience) end() { *p = patience{} }

// over counts d and tells whether patience has run out.
func (p *patience) over(d time.Duration) bool {
	if p.waiting {
		p.spent += d
	}
	return p.spent > guardBudget
}
