// Package vip holds one virtual IP address (VIP) on one interface of this host, for as long as
// somebody has the right to it and not longer.
//
// A [Keeper] is opened once per process. [Keeper.Acquire] turns a [Right], which knows until
// when the address may be held, into a [Lease]: the address is probed on the wire, bound as a
// /32 or /128, announced, defended against strangers (RFC 5227), put back when another tool
// removes it, and given up at once when the right or the carrier ends.
//
// Three things make sure that the address never outlives the right to it, each for the case
// that the one before it has failed:
//
//   - the process itself, which releases the lease in order;
//   - the guard, a small process of its own (see [RunGuard]) that alone adds, refreshes and
//     removes the address. It learns the end of the right over a pipe and takes the address
//     down at that moment or at end-of-file, which is what the death of its parent looks like;
//   - the kernel: an nftables set whose element times out 500 ms after the last renewal, where
//     the kernel has the egress hook (5.16 and later), and the lifetime of the address, 2 s,
//     everywhere.
//
// The package knows nothing of pools, roles or elections, and it never decides who may hold
// the address. Package manager uses it; cmd/manager runs the guard.
//
// It needs CAP_NET_ADMIN and CAP_NET_RAW, and an interface that has an address of its own in
// the VIP's subnet, because a /32 alone has no way back to the clients. One Keeper for one VIP
// in one network namespace: a second one would take the first one's address for a leftover.
package vip
