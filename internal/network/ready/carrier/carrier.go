package carrier

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Host is the host that this process runs on, and of it the network namespace of the calling thread.
type Host struct{}

// Tunnel names the interface that has an address of ours, if it leads to one other host only, as tunnels do.
func (Host) Tunnel(local netip.Addr) (name string, ok bool) {
	all, err := net.Interfaces()
	if err != nil {
		return "", false
	}
	for _, i := range all {
		if i.Flags&net.FlagPointToPoint == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok {
				if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == local.Unmap() {
					return i.Name, true
				}
			}
		}
	}
	return "", false
}

// Counters returns how many UDP datagrams and TCP segments programs of this host have sent. They are read on Linux only.
func (Host) Counters() (datagrams, segments uint64, ok bool) {
	four, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		return 0, 0, false
	}
	six, _ := os.ReadFile("/proc/thread-self/net/snmp6") // a host without IPv6 has none
	return count(string(four), string(six))
}

// count reads the two forms: a line of names and one of values for each protocol, and a name and a value on each line.
func count(four, six string) (datagrams, segments uint64, ok bool) {
	values := map[string]uint64{}
	lines := strings.Split(four, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, numbers := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(numbers) || names[0] != numbers[0] {
			continue
		}
		for n := 1; n < len(names); n++ {
			if v, err := strconv.ParseUint(numbers[n], 10, 64); err == nil {
				values[names[0]+names[n]] = v
			}
		}
	}
	for line := range strings.Lines(six) {
		if f := strings.Fields(line); len(f) == 2 {
			if v, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				values[f[0]] = v
			}
		}
	}
	datagrams, ok = values["Udp:OutDatagrams"]
	segments, ok2 := values["Tcp:OutSegs"]
	return datagrams + values["Udp6OutDatagrams"], segments, ok && ok2
}
