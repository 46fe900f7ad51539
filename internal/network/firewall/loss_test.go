package firewall

import (
	"net/netip"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

// TestCertify finds what a rendering widened, narrowed and left out.
func TestCertify(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	p := &site.Policy{Interfaces: &box.Interfaces{}}
	for _, id := range []string{"a", "b"} {
		p.Rows = append(p.Rows, site.Row{ID: id, Protocols: []uint8{box.UDP}, From: all, To: all, FromPorts: []need.Ports{{First: 5, Last: 9}}, ToPorts: []need.Ports{{First: 5, Last: 9}}})
	}
	exact := p.Rows[0].Boxes(p.Interfaces)
	c, err := Certify(p, map[string]box.List{"a": exact, "b": exact})
	if err != nil || !c.Exact || c.Rows != 2 {
		t.Errorf("%v %+v", err, c)
	}
	wide := exact[0] // a firewall that knows no source ports
	wide[box.FromPort] = box.Range(0, 65535)
	c, err = Certify(p, map[string]box.List{"a": {wide}})
	if err != nil || c.Exact || len(c.Losses) != 2 || len(c.Losses[0].Wider) != 2 || len(c.Losses[0].Narrower) != 0 || len(c.Losses[1].Narrower) != 1 {
		t.Fatalf("%v %+v", err, c)
	}
	if d := c.Losses[0].Wider[0]; !strings.Contains(d.Packets, "port 0-4 ->") || !strings.HasPrefix(d.Example, "forward udp 10.0.0.0:4 -> 10.0.0.0:5") {
		t.Errorf("%+v", d)
	}
	p.Missing = []site.Unresolved{{Row: "c", Missing: "x"}}
	if c, err = Certify(p, map[string]box.List{"a": exact, "b": exact}); err != nil || c.Exact || len(c.NotRendered) != 1 {
		t.Errorf("%v %+v", err, c)
	}
}
