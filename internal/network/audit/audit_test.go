package audit

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"ringfence/internal/network/box"
	"ringfence/internal/network/firewall"
	"ringfence/internal/network/firewall/asa"
	"ringfence/internal/network/firewall/iosacl"
	"ringfence/internal/network/firewall/panos"
	"ringfence/internal/network/firewall/pf"
	"ringfence/internal/network/prove"
	"ringfence/internal/network/site"
	"ringfence/internal/testkit/policies"
)

type format struct {
	Format
	render          func(*site.Policy) (string, *firewall.Certificate, error)
	inside, outside string
}

func formats() map[string]format {
	return map[string]format{
		"cisco-ios": {Format{iosacl.Parse, iosacl.Edit}, iosacl.Render, "GigabitEthernet0/1", "GigabitEthernet0/0"},
		"cisco-asa": {Format{asa.Parse, asa.Edit}, asa.Render, "inside", "outside"},
		"panos":     {Format{panos.Parse, panos.Edit}, panos.Render, "trust", "untrust"},
		"pf":        {Format{pf.Parse, pf.Edit}, pf.Render, "em1", "em0"},
	}
}

// accepted returns what a text lets through, in the only form that a set has.
func accepted(t *testing.T, f Format, text []byte, n *box.Interfaces) box.List {
	t.Helper()
	rules, err := f.Parse(text, n)
	if err != nil {
		t.Fatal(err)
	}
	l, err := firewall.Accepted(rules.Chains)
	if err != nil {
		t.Fatal(err)
	}
	var forwarded box.List
	for _, b := range box.Real() {
		if b[box.Hook] == box.One(box.Forward) {
			forwarded = append(forwarded, b)
		}
	}
	if l, err = l.Intersect(forwarded); err != nil {
		t.Fatal(err)
	}
	if l, err = l.Canonical(); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestOtherPolicy audits the rules of one policy against the needs of another: the changes make them exact, and what takes them back does.
func TestOtherPolicy(t *testing.T) {
	for name, f := range formats() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2))
			exact := 0
			for i := range 40 {
				p := policies.Random(r, f.inside, f.outside)
				text, cert, err := f.render(p)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(text, f.inside) || !strings.Contains(text, f.outside) {
					continue // it knows nothing of one of the interfaces
				}
				other := policies.Random(r, f.inside, f.outside)
				other.Interfaces = p.Interfaces
				for j := range other.Rows {
					other.Rows[j].ID = fmt.Sprintf("other-%d", j)
				}
				other.Rows = append(other.Rows, p.Rows[:r.IntN(len(p.Rows)+1)]...)
				report, err := Audit(f.Format, []byte(text), other, nil, nil)
				if err != nil {
					t.Fatal(err)
				}
				if report.Verdict == prove.Exact {
					continue
				}
				if report.After != prove.Exact {
					if !cert.Exact || name == "cisco-asa" || name == "pf" { // lists that do not know where a packet leaves
						t.Logf("%d: %s", i, report.Left)
						continue
					}
					t.Fatalf("%d: %s after: %s %s\n%s\n%s", i, report.Verdict, report.After, report.Left, text, report.Diff)
				}
				exact++
				if name == "pf" {
					continue // TestPatchTool
				}
				before := accepted(t, f.Format, []byte(text), other.Interfaces)
				back := accepted(t, f.Format, []byte(text+"\n"+report.Diff+report.Back), other.Interfaces)
				if !slices.Equal(before, back) {
					t.Fatalf("%d: not as before\n%s\n== changes\n%s== back\n%s", i, text, report.Diff, report.Back)
				}
			}
			if exact < 15 {
				t.Errorf("only %d became exact", exact)
			}
		})
	}
}
