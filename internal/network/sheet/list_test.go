package sheet

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"ringfence/internal/network/catalogue"
	"ringfence/internal/network/need"
	"ringfence/internal/testkit"
)

// TestLists has every network and every name in its list, once, in order.
func TestLists(t *testing.T) {
	for _, name := range catalogue.Names() {
		s, err := catalogue.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		var last netip.Prefix
		lines := strings.Fields(printed(t, s, "prefixes"))
		for _, line := range lines {
			p, err := netip.ParsePrefix(line)
			if err != nil || last.IsValid() && last.Compare(p) >= 0 {
				t.Errorf("%s: %q after %s: %v", name, line, last, err)
			}
			last = p
		}
		for _, g := range s.Groups {
			for _, n := range g.Networks {
				if !slices.Contains(lines, n.Prefix.String()) {
					t.Errorf("%s: %s is missing", name, n.Prefix)
				}
			}
		}
		lines = strings.Fields(printed(t, s, "domains"))
		if !slices.IsSorted(lines) {
			t.Error(lines)
		}
		for _, d := range s.Domains {
			if !slices.Contains(lines, strings.ToLower(d.Pattern)) {
				t.Errorf("%s: %s is missing", name, d.Pattern)
			}
		}
	}
}

// TestHistory has a reader of XML that is not ours, and one of CSV, find every change.
func TestHistory(t *testing.T) {
	s, err := catalogue.Open("webex-calling")
	if err != nil {
		t.Fatal(err)
	}
	all := append(slices.Clone(s.Changes), need.Change{ID: "x", Date: "unknown", Change: "modify", Subject: "a <b> & \"c\"", Was: "1", Is: "]]>\n2", Note: "-->"})
	var b bytes.Buffer
	if err := History(&b, s, all, "rss"); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		"count(/rss[@version='2.0']/channel/item)":           fmt.Sprint(len(all)),
		"count(//item[guid/@isPermaLink='false'])":           fmt.Sprint(len(all)),
		"string(//item[last()]/title)":                       "modify: a <b> & \"c\"",
		"string(//item[last()]/description)":                 "-->; 1 became ]]>\n2",
		"count(//item[last()]/pubDate)":                      "0",
		"count(//item[not(substring(pubDate,1,3)='Sun')])>1": "true",
		"count(//item/category[.='firewall'])>1":             "true",
		"count(//item/guid[not(.=preceding::guid)])":         fmt.Sprint(len(all)),
	} {
		cmd := exec.CommandContext(t.Context(), testkit.Need(t, "/usr/bin/xmllint", "libxml2-utils"), "--xpath", query, "-")
		cmd.Stdin = bytes.NewReader(b.Bytes())
		out, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != want {
			t.Errorf("%s: %q, want %q: %v", query, out, want, err)
		}
	}
	b.Reset()
	if err := History(&b, s, all, "csv"); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(rows) != len(all)+1 || rows[len(rows)-1][8] != "]]>\n2" {
		t.Errorf("%v, %d rows", err, len(rows))
	}
	if err := History(&b, s, all, "json"); err == nil {
		t.Error("a form that is not there")
	}
}
