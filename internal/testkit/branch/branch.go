package branch

import (
	"embed"
	"testing"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/network/site"
)

//go:embed *.yaml
var files embed.FS

// Names returns the names of the sites, which are those of their sets.
func Names() []string { return append([]string{"self"}, catalogue.Names()...) }

// Set returns the set of a site: one that is built in, or the flows of a node.
func Set(t testing.TB, name string) *need.Set {
	t.Helper()
	if name == "self" {
		return catalogue.Self("n", []ringfence.Flow{
			{Name: "sip-tls", Purpose: "signalling", Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: 5061, Last: 5061}, Peers: "any phone", TLS: ringfence.TLSServer},
			{Name: "media", Purpose: "media", Direction: ringfence.Listens, Transport: "udp", Ports: ringfence.PortRange{First: 16384, Last: 16999}, Peers: "any phone", TLS: ringfence.MediaSRTP},
			{Name: "trunks", Purpose: "trunks", Direction: ringfence.Dials, Transport: "tcp", Peers: "trunks", TLS: ringfence.TLSMutual},
		})
	}
	s, err := catalogue.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Policy returns what a firewall of a site must let through.
func Policy(t testing.TB, name string) *site.Policy {
	t.Helper()
	return Resolve(t, name, Set(t, name))
}

// Resolve is Policy for another version of the set.
func Resolve(t testing.TB, name string, set *need.Set) *site.Policy {
	t.Helper()
	b, err := files.ReadFile(name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := site.Parse(b, name+".yaml", set)
	if err != nil {
		t.Fatal(err)
	}
	p := site.Resolve(set, s)
	if len(p.Missing) > 0 {
		t.Fatalf("%s: %v", name, p.Missing)
	}
	return p
}
