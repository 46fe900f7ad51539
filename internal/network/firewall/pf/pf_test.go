package pf

import (
	"math/rand/v2"
	"os"
	"testing"

	"ringfence"
	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit/policies"
)

// judge renders a policy, reads the text back, and compares what it lets through with what the certificate says.
func judge(t *testing.T, p *site.Policy) (*firewall.Certificate, *prove.Result) {
	t.Helper()
	text, cert, err := Render(p)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := Parse([]byte(text), p.Interfaces)
	if err != nil {
		t.Fatal(err)
	}
	r, err := prove.Compare(p, rules)
	if err != nil {
		t.Fatal(err)
	}
	wider := false
	for _, l := range cert.Losses {
		if len(l.Narrower) > 0 {
			t.Errorf("narrower: %+v", l)
		}
		wider = wider || len(l.Wider) > 0
	}
	if len(r.Unknown)+r.MissingCount+r.LaterCount > 0 || (r.WideCount > 0) != wider {
		t.Fatalf("the certificate says %+v\nthe proof %s: unknown %v missing %+v later %+v wide %+v\n%s", cert.Losses, r.Verdict, r.Unknown, r.Missing, r.Later, r.Wide, text)
	}
	return cert, r
}

// TestSets has both sets that are built in come back exactly.
func TestSets(t *testing.T) {
	for _, set := range []string{"webex-calling", "dedicated-instance"} {
		for _, names := range [][2]string{{"em1", "em0"}, {}} {
			p, err := policies.Of(set, names[0], names[1])
			if err != nil {
				t.Fatal(err)
			}
			if cert, r := judge(t, p); !cert.Exact || r.Verdict != prove.Exact {
				t.Errorf("%s: %+v %s", set, cert.Losses, r.Verdict)
			}
		}
	}
}

// TestRandom renders random policies and reads them back.
func TestRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	exact := 0
	for i := range 80 {
		inside, outside := "em1", "em0"
		if i%5 == 0 {
			inside, outside = "", ""
		}
		if cert, _ := judge(t, policies.Random(r, inside, outside)); cert.Exact {
			exact++
		}
	}
	if exact < 25 {
		t.Errorf("only %d of 80 are exact", exact)
	}
}

// TestHost writes the firewall of one host.
func TestHost(t *testing.T) {
	b, err := os.ReadFile("../nft/testdata/self.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set := catalogue.Self("n", []ringfence.Flow{
		{Name: "sip-tls", Purpose: "signalling", Direction: ringfence.Listens, Transport: "tcp", Ports: ringfence.PortRange{First: 5061, Last: 5061}, Peers: "any phone", TLS: ringfence.TLSServer},
		{Name: "media", Purpose: "media", Direction: ringfence.Listens, Transport: "udp", Ports: ringfence.PortRange{First: 16384, Last: 16999}, Peers: "any phone", TLS: ringfence.MediaSRTP},
		{Name: "trunks", Purpose: "trunks", Direction: ringfence.Dials, Transport: "tcp", Peers: "trunks", TLS: ringfence.TLSMutual},
	})
	s, err := site.Parse(b, "self.yaml", set)
	if err != nil {
		t.Fatal(err)
	}
	if cert, r := judge(t, site.Resolve(set, s)); !cert.Exact || r.Verdict != prove.Exact {
		t.Errorf("%+v %s", cert.Losses, r.Verdict)
	}
}
