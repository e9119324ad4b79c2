package manager

import (
	"context"
	"time"

	"redundancypool/web"
)

// Connections implements web.Trust.
func (d desk) Connections(ctx context.Context) (web.Connections, error) {
	all, err := d.faces().Connections(ctx)
	if err != nil {
		return web.Connections{}, pageError(err)
	}
	out := web.Connections{Fingerprint: all.Fingerprint, Approved: []web.Peer{}, Contacts: []web.Contact{}}
	for _, p := range all.Approved {
		out.Approved = append(out.Approved, web.Peer{
			Fingerprint: p.Fingerprint, Role: p.Role, Name: p.Name, Address: p.Address, How: p.How, InPool: p.InPool, Since: time.UnixMilli(p.SinceMS).UTC(),
		})
	}
	for _, c := range all.Contacts {
		w := web.Contact{
			Fingerprint: c.Fingerprint, Role: c.Role, Name: c.Name, Address: c.Address, First: time.UnixMilli(c.FirstMS).UTC(), Last: time.UnixMilli(c.LastMS).UTC(),
			Instead: c.Instead, InPool: c.InPool,
		}
		if c.RejectedUntilMS != 0 {
			w.RejectedUntil = ref(time.UnixMilli(c.RejectedUntilMS).UTC())
		}
		out.Contacts = append(out.Contacts, w)
	}
	return out, nil
}

// Contact implements web.Trust.
func (d desk) Contact(ctx context.Context, address, role string) (string, error) {
	text, err := said(d.faces().Contact(ctx, address, role))
	return text, plainly(err)
}

// Approve implements web.Trust.
func (d desk) Approve(ctx context.Context, fingerprint, role string, yes bool) (string, error) {
	return said(d.faces().Approve(ctx, fingerprint, role, yes))
}

// Reject implements web.Trust.
func (d desk) Reject(ctx context.Context, fingerprint string) (string, error) {
	return said(d.faces().Reject(ctx, fingerprint))
}

// Withdraw implements web.Trust.
func (d desk) Withdraw(ctx context.Context, fingerprint string, yes bool) (string, error) {
	return said(d.faces().Withdraw(ctx, fingerprint, yes))
}
