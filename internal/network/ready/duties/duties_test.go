package duties

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"ringfence"
	"ringfence/internal/network/ready/verdict"
)

func report(t testing.TB, set string, checks ...verdict.Check) string {
	t.Helper()
	b, err := json.Marshal(verdict.Report{Format: verdict.Format, Set: set, Began: time.Unix(1e9, 0), Firewall: "nftables", Checks: checks})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// stand returns how the duties stand that are not open.
func (c *Checklist) stand() string {
	var out []string
	for _, d := range c.Duties {
		if d.Status != Open {
			out = append(out, d.ID+" "+string(d.Status))
		}
	}
	return strings.Join(out, ", ")
}

// TestEvidence enters what each tool writes, and says what follows.
func TestEvidence(t *testing.T) {
	nat := func(mapping string) verdict.Check {
		return verdict.Check{ID: "nat", Kind: "nat", Status: verdict.Pass, Values: map[string]string{"mapping": mapping}}
	}
	for name, x := range map[string]struct {
		files []string
		want  string
		found int // pieces of evidence
	}{
		"nothing":              {nil, "", 0},
		"marks":                {[]string{report(t, "webex-calling", verdict.Check{ID: "dscp", Status: verdict.Pass})}, "marks done", 1},
		"marks that are lost":  {[]string{report(t, "webex-calling", verdict.Check{ID: "dscp", Status: verdict.Warn})}, "marks undone", 1},
		"not tested":           {[]string{report(t, "webex-calling", verdict.Check{ID: "dscp", Status: verdict.Skip})}, "", 0},
		"no NAT":               {[]string{report(t, instance, nat("none: addresses are not translated"))}, "no-nat done", 1},
		"NAT":                  {[]string{report(t, instance, nat("independent of the destination"))}, "no-nat undone", 1},
		"NAT to somebody else": {[]string{report(t, "webex-calling", nat("independent of the destination"))}, "", 1},
		"forwarders":           {[]string{report(t, instance, verdict.Check{ID: "dns/a.example", Kind: "dns", Title: "Forwarding of a.example", Status: verdict.Fail}, verdict.Check{ID: "dns/192.0.2.1", Kind: "dns", Title: "Name server 192.0.2.1", Status: verdict.Fail})}, "forwarder undone", 1},
		"ports that are open":  {[]string{report(t, instance, verdict.Check{ID: "tcp/a", Kind: "tcp", Status: verdict.Pass})}, "", 0},
		"ports that are not":   {[]string{report(t, instance, verdict.Check{ID: "tcp/a", Kind: "tcp", Status: verdict.Fail, Blocked: []string{"5061"}})}, "firewall undone", 1},
		"a proof":              {[]string{`{"set":"x","verdict":"exact"}`}, "firewall done", 1},
		"a wide firewall":      {[]string{`{"set":"x","verdict":"wide","wide_count":3}`}, "firewall undone", 1},
		"no proof":             {[]string{`{"set":"x","verdict":"unknown"}`}, "", 1},
		"both":                 {[]string{`{"verdict":"exact"}`, `{"verdict":"missing"}`, `{"verdict":"exact"}`}, "firewall undone", 3},
		"a phone":              {[]string{`{"firewall":true,"answers_ping":true,"open":[{"service":"web server","transport":"tcp","ports":"80"}]}`}, "", 2},
		"a phone in the clear": {[]string{`{"firewall":true,"answers_ping":true,"open":[{"service":"SIP of line 1, in the clear","ports":"5060"}],"compared":{"set":"x","excess":1}}`}, "sealed undone, unused undone", 2},
		"a phone that is shut": {[]string{`{"firewall":true,"answers_ping":false,"open":[],"compared":{"set":"x","excess":0}}`}, "unused done", 2},
		"an open phone":        {[]string{`{"firewall":false,"answers_ping":true,"open":[]}`}, "unused undone", 2},
		"let in":               {[]string{`{"link":"eth0","state":"Authenticated","protocol":"TLS","server":"CN=radius"}`}, "dot1x done", 1},
		"refused":              {[]string{`{"state":"Held","error":"no"}`}, "dot1x undone", 1},
		"not asked":            {[]string{`{"state":"Authenticating"}`}, "", 1},
		"switched off":         {[]string{`{"state":"Disabled"}`}, "dot1x undone", 1},
	} {
		c := New()
		for _, f := range x.files {
			if err := c.Parse([]byte(f), "f.json"); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		found := 0
		for _, d := range c.Duties {
			found += len(d.Evidence)
		}
		undone := strings.Contains(x.want, "undone")
		if got := c.stand(); got != x.want || found != x.found || (ringfence.KindOf(c.Err()) == ringfence.KindConflict) != undone || (c.Err() != nil) != undone {
			t.Errorf("%s: %s, want %s; %d, want %d; %v", name, got, x.want, found, x.found, c.Err())
		}
	}
	for name, f := range map[string]string{"no JSON": "{", "nothing of ours": "{}", "another report": `{"format":"ringfence-ready/2","checks":[]}`, "a list": "[]", "another list": `{"format":"` + Format + `","duties":[{"id":"x"}]}`,
		"much by hand": `{"format":"` + Format + `","duties":[{"id":"vlans","by_hand":"` + strings.Repeat("x", maxByHand+1) + `"}]}`, "a wrong report": `{"format":"` + verdict.Format + `","checks":[{"status":"fine"}]}`} {
		if err := New().Parse([]byte(f), "f.json"); ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestByHand keeps what somebody wrote, and nothing else of an old list.
func TestByHand(t *testing.T) {
	old := New()
	if err := old.Parse([]byte(`{"verdict":"exact"}`), "proof.json"); err != nil {
		t.Fatal(err)
	}
	old.Duties[0].ByHand = "seen by A. Kim, 2026-01-02: voice is 110"
	b, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	c := New()
	if err := c.Parse(b, "old.json"); err != nil || c.Duties[0].ByHand != old.Duties[0].ByHand || c.stand() != "" {
		t.Errorf("%v %+v", err, c)
	}
}

// TestForms writes the list in each form; what strangers said is text in all of them.
func TestForms(t *testing.T) {
	c := New()
	if err := c.Parse([]byte(report(t, "x", verdict.Check{ID: "dscp", Status: verdict.Fail, Seen: "<script>|a`b\x1b[2J"})), "si|te.json"); err != nil {
		t.Fatal(err)
	}
	c.Duties[0].ByHand = "<b>\x1b"
	var text, markdown, html strings.Builder
	c.Text(&text)
	c.Markdown(&markdown)
	if err := c.HTML(&html); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{"text": text.String(), "markdown": markdown.String(), "html": html.String()} {
		if strings.Contains(s, "\x1b") || !strings.Contains(s, "0 done, 1 undone") {
			t.Errorf("%s: %s", name, s)
		}
		for _, d := range c.Duties {
			if !strings.Contains(s, d.ID) {
				t.Errorf("%s: %s is missing", name, d.ID)
			}
		}
	}
	for line := range strings.Lines(markdown.String()) {
		if n := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); strings.HasPrefix(line, "|") && n != 8 {
			t.Errorf("%d columns: %s", n-1, line)
		}
	}
	if strings.Contains(html.String(), "<script") || strings.Contains(html.String(), "<b>") || strings.Contains(markdown.String(), "<script") {
		t.Error(html.String())
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{report(f, instance, verdict.Check{ID: "nat", Kind: "nat", Status: verdict.Pass, Values: map[string]string{"mapping": "none"}}), `{"verdict":"exact","set":"x"}`, `{"firewall":true,"answers_ping":true,"open":[{"service":"SIP of line 1"}],"compared":{"excess":1}}`,
		`{"state":"Held","error":"no"}`, `{"format":"ringfence-duties/1","duties":[{"id":"vlans","by_hand":"x"}]}`, `{"firewall":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := New()
		if err := c.Parse(b, "f.json"); err != nil && ringfence.KindOf(err) != ringfence.KindInvalid {
			t.Error(err)
		}
		var out strings.Builder
		c.Text(&out)
		if strings.Contains(out.String(), "\x1b") || c.Count(Done)+c.Count(Undone)+c.Count(Open) != len(New().Duties) {
			t.Errorf("%q", out.String())
		}
	})
}
