package phone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"ringfence"
)

// listed is a list of servers that remembers what is to be avoided.
type listed struct {
	at      []netip.AddrPort
	err     error
	avoided []string
}

func (l *listed) Find(context.Context) ([]netip.AddrPort, error) {
	first := slices.DeleteFunc(slices.Clone(l.at), func(a netip.AddrPort) bool { return slices.Contains(l.avoided, a.Addr().String()) })
	for _, a := range l.at {
		if !slices.Contains(first, a) {
			first = append(first, a)
		}
	}
	return first, l.err
}

func (l *listed) Avoid(at netip.AddrPort, _ time.Duration) {
	l.avoided = append(l.avoided, at.Addr().String())
}

// A phone goes past servers that are down, that are somebody else, and that have no time.
func TestServers(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		second := newSwitch(t, w.ca, w.net.Host(netip.MustParseAddr("192.0.2.3")), "192.0.2.3:5061")
		w.busy = true
		servers := &listed{at: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:5061"), w.addr, second.addr}}
		found := func(c *Config) { c.Server, c.Servers = netip.AddrPort{}, servers }
		p := w.phone(t, "alice", 10, found)
		if want := "[192.0.2.9 192.0.2.1]"; fmt.Sprint(servers.avoided) != want || p.currentConn().Remote != second.addr {
			t.Errorf("registered at %s, avoided %v, want %s", p.currentConn().Remote, servers.avoided, want)
		}
		// The server goes, and the phone goes back to the other one, which has time again.
		w.busy, servers.avoided = false, nil
		second.close()
		if err := p.WaitRegistration(ctxFor(t), func(r Registration) bool { return r.State == Registered && p.currentConn().Remote == w.addr }); err != nil {
			t.Error(err)
		}

		// Where all are busy it says so, and does not run from one to the other for ever.
		w.busy, servers.at = true, []netip.AddrPort{w.addr, w.addr}
		drain(w.seen, "REGISTER bob")
		_, err := Open(ctxFor(t), w.cfg("bob", 11, found))
		var r *RejectedError
		if !errors.As(err, &r) || r.Status != 503 {
			t.Errorf("all are busy: %v", err)
		}
		if n := drain(w.seen, "REGISTER bob"); n != 2 {
			t.Errorf("%d attempts, want one at each", n)
		}
		servers.at, servers.err = nil, &ringfence.Fault{Kind: ringfence.KindTimeout, Text: "no name"}
		if _, err := Open(ctxFor(t), w.cfg("carol", 12, found)); ringfence.KindOf(err) != ringfence.KindUnavailable {
			t.Errorf("without a server: %v", err)
		}
	})
}
