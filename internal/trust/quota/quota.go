package quota

import (
	"net/netip"
	"sync"
	"time"
)

// maxCounted bounds the memory of a Quota; whoever comes when it is full shares one count.
const maxCounted = 16384

// Quota lets each key do so many things in a period, counted from the key's first one. Its methods may be called from any goroutine.
type Quota struct {
	most   int
	period time.Duration
	now    func() time.Time

	mu     sync.Mutex
	counts map[string]count
	swept  time.Time
}

type count struct {
	n     int
	since time.Time
}

// New returns a Quota of most things in a period.
func New(most int, period time.Duration, now func() time.Time) *Quota {
	return &Quota{most: most, period: period, now: now, counts: map[string]count{}}
}

// Take counts one, and returns how long the key has to wait if that was one too many.
func (q *Quota) Take(key string) (wait time.Duration) {
	now := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	c, known := q.counts[key]
	if !known && len(q.counts) >= maxCounted {
		if age := now.Sub(q.swept); age >= q.period/8 || age < 0 { // not each time, which would be slow just when there is most to do
			q.swept = now
			for k, old := range q.counts {
				if now.Sub(old.since) >= q.period {
					delete(q.counts, k)
				}
			}
		}
		if len(q.counts) >= maxCounted {
			key = ""
			c = q.counts[key]
		}
	}
	// A clock that was set back must not lock anybody out for longer than a period.
	if age := now.Sub(c.since); age >= q.period || age < 0 {
		c = count{since: now}
	}
	if c.n >= q.most {
		return c.since.Add(q.period).Sub(now)
	}
	c.n++
	q.counts[key] = c
	return 0
}

// Source is who counts as one at a remote address with a port: an IPv4 address, or the /64 from which one IPv6 host can choose freely. What is no such address, as
// of a Unix socket, counts as itself.
func Source(remote string) string {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is6() {
		p, _ := ip.Prefix(64) // 64 bits are always a prefix of IPv6
		return p.String()
	}
	return ip.String()
}
