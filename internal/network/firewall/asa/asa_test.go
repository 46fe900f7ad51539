package asa

import (
	"math/rand/v2"
	"strings"
	"testing"

	"ringfence/internal/network/box"
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
		for _, names := range [][2]string{{"inside", "outside"}, {}} {
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
		inside, outside := "inside", "outside"
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

// host is a policy for one host, which no network device has.
func TestRefuses(t *testing.T) {
	if _, _, err := Render(&site.Policy{Set: "self", Host: true, Interfaces: &box.Interfaces{}}); err == nil || !strings.Contains(err.Error(), "one host") {
		t.Error(err)
	}
}
