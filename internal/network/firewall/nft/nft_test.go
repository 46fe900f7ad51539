package nft

import (
	"testing"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
)

// sets returns the sets of the tests by their site files: those that are built in, and one of a node.
func sets(t testing.TB) map[string]*need.Set {
	t.Helper()
	out := map[string]*need.Set{"testdata/self.yaml": catalogue.Self("n", []ringfence.Flow{
		{Name: "sip-tls", Purpose: "signalling", Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: 5061, Last: 5061}, Peers: "any phone", TLS: ringfence.TLSServer},
		{Name: "media", Purpose: "media", Direction: ringfence.Listens, Transport: "udp", Ports: ringfence.PortRange{First: 16384, Last: 16999}, Peers: "any phone", TLS: ringfence.MediaSRTP},
		{Name: "trunks", Purpose: "trunks", Direction: ringfence.Dials, Transport: "tcp", Peers: "trunks", TLS: ringfence.TLSMutual},
	})}
	for _, name := range catalogue.Names() {
		s, err := catalogue.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		out["testdata/"+name+".yaml"] = s
	}
	return out
}
