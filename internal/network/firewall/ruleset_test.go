package firewall

import (
	"testing"

	"ringfence/internal/network/box"
)

// TestChainOfOneInterface has a chain judge what comes by its interface, and leave everything else to others.
func TestChainOfOneInterface(t *testing.T) {
	only := func(in int) (out box.List) {
		for _, b := range box.Real() {
			if b[box.Hook] == box.One(box.Forward) {
				b[box.In] = box.One(in)
				out = append(out, b)
			}
		}
		return out
	}
	web := box.Everything(box.IPv4)
	web[box.Hook], web[box.In], web[box.Protocol], web[box.ToPort] = box.One(box.Forward), box.One(1), box.One(box.TCP), box.One(443)
	chains := []Chain{{Name: "eth1 in", Scope: only(1), Rules: []Rule{{Accept: true, Boxes: box.List{web}}}}, {Name: "eth2 in", Scope: only(2)}}
	got, err := Accepted(chains)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[int]string{1: "443", 2: "nothing", 3: "all"} {
		for _, port := range []uint16{443, 80} {
			b := web
			b[box.In], b[box.ToPort] = box.One(in), box.One(port)
			if passes := got.Has(b.Packet()); passes != (want == "all" || want == "443" && port == 443) {
				t.Errorf("in by %d to port %d: %v, want %s", in, port, passes, want)
			}
		}
	}
}
