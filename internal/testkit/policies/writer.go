package policies

import (
	"math/rand/v2"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
)

// Writer writes a firewall and reads it back. Inside and Outside are names that it has for interfaces; Named means that it cannot do without.
type Writer struct {
	Render          func(*site.Policy) (string, *firewall.Certificate, error)
	Parse           func([]byte, *box.Interfaces) (*firewall.Ruleset, error)
	Inside, Outside string
	Named           bool
}

// Judge renders a policy, reads the text back, and compares what it lets through with what the certificate says.
func (w Writer) Judge(t *testing.T, p *site.Policy) (*firewall.Certificate, *prove.Result) {
	t.Helper()
	text, cert, err := w.Render(p)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := w.Parse([]byte(text), p.Interfaces)
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

// Exact fails unless a policy comes back exactly.
func (w Writer) Exact(t *testing.T, p *site.Policy) {
	t.Helper()
	if cert, r := w.Judge(t, p); !cert.Exact || r.Verdict != prove.Exact {
		t.Errorf("%s: %+v %s", p.Set, cert.Losses, r.Verdict)
	}
}

// Sets has both sets that are built in come back exactly.
func (w Writer) Sets(t *testing.T) {
	t.Helper()
	for _, set := range []string{"webex-calling", "dedicated-instance"} {
		for _, names := range [][2]string{{w.Inside, w.Outside}, {}} {
			if names[0] == "" && w.Named {
				continue
			}
			p, err := Of(set, names[0], names[1])
			if err != nil {
				t.Fatal(err)
			}
			w.Exact(t, p)
		}
	}
}

// Random renders random policies and reads them back; some cannot be exact.
func (w Writer) Random(t *testing.T) {
	t.Helper()
	r, exact := rand.New(rand.NewPCG(1, 2)), 0
	for i := range 80 {
		inside, outside := w.Inside, w.Outside
		if i%5 == 0 && !w.Named {
			inside, outside = "", ""
		}
		if cert, _ := w.Judge(t, Random(r, inside, outside)); cert.Exact {
			exact++
		}
	}
	if exact < 25 {
		t.Errorf("only %d of 80 are exact", exact)
	}
}
