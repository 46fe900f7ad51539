package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ringfence/internal/desk/line"
	"ringfence/internal/service/phone"
)

// lineServers are the servers of a line, in the order of the profile: those of its proxy, then those that it goes to when they are gone. It implements phone.NamedServers.
type lineServers struct {
	media netip.Addr // whose family counts, once it is set
	each  []namedServers

	mu      sync.Mutex
	names   map[netip.AddrPort]int // index of each
	avoided map[netip.AddrPort]time.Time
}

type namedServers struct {
	phone.Servers
	host     string
	fallBack time.Duration // how soon the first ones are tried again; 0 for them
}

// servers finds the servers of a line.
func (x *desk) servers(l line.Line, port uint16) (*lineServers, error) {
	out := &lineServers{names: map[netip.AddrPort]int{}, avoided: map[netip.AddrPort]time.Time{}}
	standard := port
	if l.Port != 0 {
		standard = uint16(5061)
		if l.Clear {
			standard = 5060
		}
	}
	for _, s := range append([]line.Server{{Host: l.Host, Port: l.Port}}, l.Then...) {
		at := standard
		if s.Port != 0 {
			at = s.Port
		}
		find := x.profiles.names.Host
		if l.ByDNS && !l.Clear && s.Port == 0 {
			find = x.profiles.names.Domain
		}
		found, err := find(s.Host, at)
		if err != nil {
			return nil, err
		}
		out.each = append(out.each, namedServers{found, s.Host, s.FallBack})
	}
	return out, nil
}

// Find implements phone.Servers: what failed lately comes last.
func (s *lineServers) Find(ctx context.Context) ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	var first error
	for i, e := range s.each {
		found, err := e.Find(ctx)
		if err != nil && first == nil {
			first = err
		}
		s.mu.Lock()
		for _, at := range found {
			if _, known := s.names[at]; s.media.IsValid() && at.Addr().Is4() != s.media.Is4() || known && slices.Contains(all, at) {
				continue
			}
			s.names[at] = i
			all = append(all, at)
		}
		s.mu.Unlock()
	}
	if len(all) > 0 {
		first = nil
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(all, func(a, b netip.AddrPort) int {
		x, y := s.avoided[a].After(now), s.avoided[b].After(now)
		switch {
		case x && !y:
			return 1
		case y && !x:
			return -1
		}
		return 0
	})
	return all, first
}

// Avoid implements phone.Servers.
func (s *lineServers) Avoid(at netip.AddrPort, wait time.Duration) {
	s.mu.Lock()
	s.avoided[at] = time.Now().Add(wait)
	i := s.names[at]
	s.mu.Unlock()
	s.each[i].Avoid(at, wait)
}

// NameOf implements phone.NamedServers.
func (s *lineServers) NameOf(at netip.AddrPort) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.each[s.names[at]].host
}

// fallBack says how soon the servers before one are tried again; 0 for the first ones.
func (s *lineServers) fallBack(at netip.AddrPort) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.each[s.names[at]].fallBack
}

// forgive forgets what failed, so that the first server is tried first.
func (s *lineServers) forgive() {
	s.mu.Lock()
	clear(s.avoided)
	s.mu.Unlock()
}

// comeBack has a line that went to another server look for its first one again, in the interval that the profile has for that, while nobody speaks.
func (x *desk) comeBack(ctx context.Context, l line.Line, q *phone.Phone) {
	servers, ok := x.at[l.Number]
	if !ok {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var since time.Time
	var where netip.AddrPort
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			at := q.Server()
			if at != where {
				where, since = at, now
			}
			if wait := servers.fallBack(at); at.IsValid() && wait > 0 && now.Sub(since) >= wait && q.Registered() {
				servers.forgive()
				q.Reconnect()
				since = now
			}
		}
	}
}
