package ufw

import (
	"net/netip"
	"strings"
	"testing"

	"ringfence"
	"ringfence/internal/network/box"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

// TestLoss says what ufw has no words for: port 0, and names of interfaces that it refuses.
func TestLoss(t *testing.T) {
	all := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	p := &site.Policy{Set: "s", Interfaces: &box.Interfaces{}, Rows: []site.Row{{ID: "a", Protocols: []uint8{box.UDP}, From: all, To: all, ToPorts: []need.Ports{{First: 0, Last: 9}}}}}
	files, cert, err := Render(p)
	if err != nil || cert.Exact || len(cert.Losses) != 1 || len(cert.Losses[0].Narrower) != 1 || len(cert.Losses[0].Wider) != 0 || !strings.Contains(cert.Losses[0].Narrower[0].Packets, "10.0.0.0/8 port 0") {
		t.Errorf("%v %+v", err, cert)
	}
	if !strings.Contains(files[2].Text, "--dports 1:9 ") {
		t.Error(files[2].Text)
	}
	p.Rows[0].In, p.Rows[0].Out = "eth1:0", "eth0"
	if _, _, err := Render(p); ringfence.KindOf(err) != ringfence.KindInvalid {
		t.Error(err)
	}
}
