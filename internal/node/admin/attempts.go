package admin

import (
	"net/netip"
	"sync"
	"time"
)

// Bounds on tries at the administrator code. The code has 100 bits; this is for the log and the disk rather than the secret.
const (
	triesPerSource = 5  // a minute
	triesInAll     = 60 // a minute
)

// attempts counts tries by source address within a minute, and all of them, so that its memory is bounded too.
type attempts struct {
	now func() time.Time

	mu    sync.Mutex
	since time.Time
	all   int
	by    map[netip.Prefix]int
}

func newAttempts(now func() time.Time) *attempts {
	return &attempts{now: now, by: map[netip.Prefix]int{}}
}

// allow reports whether the source may try, and counts the try.
func (a *attempts) allow(remote string) bool {
	source := sourceOf(remote)
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); now.Sub(a.since) >= time.Minute {
		a.since, a.all = now, 0
		clear(a.by)
	}
	if a.all >= triesInAll || a.by[source] >= triesPerSource {
		return false
	}
	a.all++
	a.by[source]++
	return true
}

// sourceOf is who counts as one: an IPv4 address, or the /64 from which one IPv6 host can choose freely. Everybody on the Unix
// socket is one.
func sourceOf(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	bits, ip := 64, ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
