package locate

import (
	"net/netip"
	"slices"
	"strings"
)

// Limits on the files of a host.
const (
	maxServers = 3 // as the resolver of the C library
	maxSearch  = 6
	maxHosts   = 10_000
	maxText    = 1 << 20
)

// ParseResolvConf reads the servers and search domains of a file like /etc/resolv.conf. Lines it does not know are passed over.
func ParseResolvConf(text []byte) (servers []netip.AddrPort, search []string) {
	for line := range strings.Lines(string(text[:min(len(text), maxText)])) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil && len(servers) < maxServers {
				servers = append(servers, netip.AddrPortFrom(a, 53))
			}
		case "search", "domain":
			search = nil
			for _, d := range f[1:min(len(f), 1+maxSearch)] {
				if d = strings.ToLower(strings.Trim(d, ".")); d != "" {
					search = append(search, d)
				}
			}
		}
	}
	return servers, search
}

// ParseHosts reads a file like /etc/hosts: an address and its names on each line.
func ParseHosts(text []byte) map[string][]netip.Addr {
	out := map[string][]netip.Addr{}
	for line := range strings.Lines(string(text[:min(len(text), maxText)])) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil {
			continue
		}
		for _, name := range f[1:] {
			name = strings.ToLower(trimDot(name))
			if len(out) < maxHosts && !slices.Contains(out[name], a) {
				out[name] = append(out[name], a)
			}
		}
	}
	return out
}
