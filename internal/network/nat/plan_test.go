package nat

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"ringfence"
)

func pool(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestMake(t *testing.T) {
	for name, x := range map[string]struct {
		q                           Question
		needed, capacity, addresses int
		ok                          bool
		bad                         string // the subject of what is not, and a part of what to do
	}{
		"one address for 2000":   {Question{Devices: 2000, Calls: 200, Pool: pool("192.0.2.1/32")}, 6800, 64512, 1, true, ""},
		"64 ports for 100":       {Question{Devices: 100, Calls: 0, Idle: 1, Pool: pool("192.0.2.1/32"), First: 10000, Last: 10063}, 140, 64, 3, false, "pool: give the pool 3"},
		"little is left":         {Question{Devices: 20_000, Calls: 1000, Pool: pool("192.0.2.1/32")}, 64_000, 64512, 2, false, "pool: give the pool 2"},
		"blocks of eight":        {Question{Devices: 1000, Calls: 100, Block: 8, Pool: pool("192.0.2.0/30")}, 8000, 258048, 1, true, ""},
		"blocks too small":       {Question{Devices: 1000, Calls: 100, Block: 4, Pool: pool("192.0.2.0/30")}, 900*4 + 100*8, 258048, 1, false, "block: make blocks of 7"},
		"bindings end too early": {Question{Devices: 1, Pool: pool("192.0.2.1/32"), UDP: 30 * time.Second}, 8, 64512, 1, false, "udp-timeout: set it to 2m30s"},
		"connections too":        {Question{Devices: 1, Pool: pool("192.0.2.1/32"), TCP: 5 * time.Minute}, 7, 64512, 1, false, "tcp-timeout: set it to 30m"},
		"calls that are over":    {Question{Devices: 2000, Calls: 200, Pool: pool("192.0.2.1/32"), UDP: 5 * time.Minute}, 6800 + 1334, 64512, 1, true, ""}, // 200 calls of 3 min leave 4 bindings each behind, for 5 min
		"and of short ones":      {Question{Devices: 2000, Calls: 200, Pool: pool("192.0.2.1/32"), UDP: 5 * time.Minute, Hold: time.Minute}, 6800 + 4000, 64512, 1, true, ""},
		"blocks for those too":   {Question{Devices: 1000, Calls: 100, Block: 8, Pool: pool("192.0.2.0/30"), UDP: 3 * time.Minute}, 900*8 + 100*16, 258048, 1, false, "block: make blocks of 11"},
		"a table too small":      {Question{Devices: 2000, Calls: 200, Pool: pool("192.0.2.1/32"), Table: 8499}, 6800, 64512, 1, false, "conntrack: let it hold 8500"},
		"a table":                {Question{Devices: 2000, Calls: 200, Pool: pool("192.0.2.1/32"), Table: 8500}, 6800, 64512, 1, true, ""},
		"two pools":              {Question{Devices: 10, Calls: 1, Pool: pool("192.0.2.0/31", "198.51.100.7/32")}, 34, 3 * 64512, 1, true, ""},
	} {
		p, err := Make(x.q)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		bad := ""
		for _, f := range p.Findings {
			if !f.OK {
				bad += f.Subject + ": " + f.Do
			}
		}
		if p.Needed != x.needed || p.Capacity != x.capacity || p.Addresses != x.addresses || p.OK != x.ok || !strings.HasPrefix(bad, x.bad) || (bad == "") != x.ok {
			t.Errorf("%s: %+v (%q)", name, p, bad)
		}
	}
	for _, x := range []struct {
		q      Question
		blocks Blocks
		says   string
		linux  string
	}{
		{Question{Devices: 2000, Calls: 200, Pool: pool("192.0.2.1/32")}, Blocks{8, 8064, 1}, "would do as well: 8064 devices", "nf_conntrack_max = 16384 nf_conntrack_buckets = 16384 nf_conntrack_udp_timeout = 150 nf_conntrack_udp_timeout_stream = 150 nf_conntrack_tcp_timeout_established = 1800"},
		{Question{Devices: 20_000, Calls: 1, Idle: 1, Pool: pool("192.0.2.1/32"), Refresh: time.Minute}, Blocks{8, 8064, 3}, "would take 3 addresses", "nf_conntrack_max = 32768 nf_conntrack_buckets = 32768 nf_conntrack_udp_timeout = 75 nf_conntrack_udp_timeout_stream = 75 nf_conntrack_tcp_timeout_established = 1800"},
		{Question{Devices: 1, Pool: pool("192.0.2.1/32"), First: 10000, Last: 10004}, Blocks{8, 0, 0}, "does not fit", "nf_conntrack_max = 1024 nf_conntrack_buckets = 1024 nf_conntrack_udp_timeout = 150 nf_conntrack_udp_timeout_stream = 150 nf_conntrack_tcp_timeout_established = 1800"},
	} {
		p, err := Make(x.q)
		said := ""
		for _, f := range p.Findings {
			if f.Subject == "block" {
				said = f.Text
			}
		}
		if got := strings.ReplaceAll(strings.Join(p.Linux, " "), "net.netfilter.", ""); err != nil || p.Blocks != x.blocks || !strings.Contains(said, x.says) || got != x.linux {
			t.Errorf("%+v: %v %+v %q %s", x.q, err, p.Blocks, said, got)
		}
	}
	for name, q := range map[string]Question{"a call of no length": {Devices: 1, Pool: pool("192.0.2.1/32"), Hold: time.Millisecond}, "a long timeout": {Devices: 1, Pool: pool("192.0.2.1/32"), UDP: 1 << 62}, "a negative table": {Devices: 1, Pool: pool("192.0.2.1/32"), Table: -1}, "nobody": {Pool: pool("192.0.2.1/32")}, "no pool": {Devices: 1}, "host bits": {Devices: 1, Pool: pool("192.0.2.1/30")}, "overlap": {Devices: 1, Pool: pool("192.0.2.0/30", "192.0.2.1/32")},
		"more talk than are": {Devices: 1, Calls: 2, Pool: pool("192.0.2.1/32")}, "ports": {Devices: 1, First: 9, Last: 8, Pool: pool("192.0.2.1/32")}, "block": {Devices: 1, Block: -1, Pool: pool("192.0.2.1/32")},
		"a block without ports": {Devices: 1, Block: 65, First: 10000, Last: 10063, Pool: pool("192.0.2.1/32")}} {
		if _, err := Make(q); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
