package verdict

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"math"
	"strings"
	"testing"
	"time"

	"ringfence"
)

// The values are those of ITU-T G.107 with the parameters of G.113 for G.711 and G.729A.
func TestQuality(t *testing.T) {
	for _, c := range []struct {
		s      Stream
		r, mos float64
	}{
		{Stream{Delay: 150 * time.Millisecond, Bpl: 4.3}, 89.6, 4.33},
		{Stream{Delay: 150 * time.Millisecond, Loss: .01, Bpl: 4.3}, 71.7, 3.67},
		{Stream{Delay: 150 * time.Millisecond, Loss: .01, Bpl: 25.1}, 86.0, 4.23},
		{Stream{Delay: 300 * time.Millisecond, Loss: .01, Bpl: 4.3}, 54.6, 2.81},
		{Stream{Delay: 300 * time.Millisecond, Loss: .01, Bpl: 25.1}, 68.9, 3.54},
		{Stream{Delay: 150 * time.Millisecond, Loss: .01, Ie: 11, Bpl: 19}, 74.4, 3.80},
		{Stream{Loss: 1, Bpl: 1}, 0, 1},
	} {
		if r, mos := c.s.Quality(); math.Abs(r-c.r) > .06 || math.Abs(mos-c.mos) > .02 {
			t.Errorf("%v: R %.2f, MOS %.2f; want %.1f and %.2f", c.s, r, mos, c.r, c.mos)
		}
	}
}

func example() *Report {
	return &Report{Format: Format, Set: "example", SetTitle: "An <example>", Firewall: "cisco-ios", Began: time.Unix(0, 0), Ended: time.Unix(30, 0), Checks: []Check{
		{ID: "tcp/a", Kind: "tcp", Title: "Signalling", Required: true, Status: Pass},
		{ID: "udp/b", Kind: "udp", Rows: []string{"b"}, Title: "Voice <b>", Required: true, Status: Fail, Seen: "no answer & no reason", Cause: Dropped, Blocked: []string{"20000-20999"}, Change: "allow it", Hop: "192.0.2.1", Rule: "permit <udp>\n\tpermit more", Again: "ringfence ready run --row b"},
		{ID: "dscp", Kind: "dscp", Title: "Marks", Status: Warn, Cause: Marks},
		{ID: "tcp/c", Kind: "tcp", Title: "Files", Required: true, Status: Skip, Seen: "nobody said which ports"},
	}}
}

func TestForms(t *testing.T) {
	r := example()
	if err := r.Err(); ringfence.KindOf(err) != ringfence.KindConflict || !strings.Contains(err.Error(), "udp/b") {
		t.Errorf("%v", err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseReport(b)
	if err != nil || len(again.Checks) != 4 || again.Err() == nil {
		t.Fatalf("%+v %v", again, err)
	}
	var text, html, junit bytes.Buffer
	r.Text(&text)
	if err := r.HTML(&html); err != nil {
		t.Fatal(err)
	}
	if err := r.JUnit(&junit); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"text": text.String(), "html": html.String(), "junit": junit.String()} {
		for _, want := range []string{"udp/b", "20000-20999", "ringfence ready run --row b"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s does not say %q", name, want)
			}
		}
	}
	if s := html.String(); strings.Contains(s, "<example>") || strings.Contains(s, "<script") || strings.Contains(s, "src=") || strings.Contains(s, "href=") || !strings.Contains(s, "Not yet.") {
		t.Error("the page trusts what it shows, needs something else, or says yes")
	}
	var s suite
	if err := xml.Unmarshal(junit.Bytes(), &s); err != nil || s.Tests != 4 || s.Failures != 1 || s.Skipped != 1 || s.Cases[1].Failure == nil {
		t.Errorf("%+v %v", s, err)
	}
}

// What strangers said cannot command a terminal.
func TestPlain(t *testing.T) {
	r := example()
	r.Checks[1].Seen = "a \x1b[2Jb\u202e\x07"
	var out bytes.Buffer
	r.Text(&out)
	if s := out.String(); !strings.Contains(s, "a ?[2Jb??\n") || strings.ContainsAny(s, "\x1b\x07\u202e") {
		t.Errorf("%q", s)
	}
}

func FuzzReport(f *testing.F) {
	b, _ := json.Marshal(example())
	f.Add(b)
	f.Add([]byte(`{"format":"ringfence-ready/1","checks":[{"status":"?"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			return
		}
		var out bytes.Buffer
		r.Text(&out)
		if err := r.HTML(&out); err != nil {
			t.Error(err)
		}
		_ = r.JUnit(&out)
	})
}

// TestRules has the machine and the rule in every form.
func TestRules(t *testing.T) {
	var text, junit, html bytes.Buffer
	r := example()
	r.Text(&text)
	if err := r.JUnit(&junit); err != nil {
		t.Fatal(err)
	}
	if err := r.HTML(&html); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ got, want string }{"text": {text.String(), "hop      192.0.2.1\n      change   allow it\n      rule     permit <udp>\n                 permit more\n"}, "junit": {junit.String(), "rule: permit &lt;udp&gt;&#xA;&#x9;permit more"},
		"html": {html.String(), "<dt>cisco-ios</dt><dd><pre>permit &lt;udp&gt;\n\tpermit more</pre>"}} {
		if !strings.Contains(c.got, c.want) {
			t.Errorf("%s does not have %q:\n%s", name, c.want, c.got)
		}
	}
}
