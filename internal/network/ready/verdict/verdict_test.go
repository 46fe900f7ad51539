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
		{Stream{Bpl: 4.3}, 93.2, 4.41}, // G.107: the rating with all defaults
		{Stream{Delay: 150 * time.Millisecond, Bpl: 4.3}, 89.5, 4.33},
		{Stream{Delay: 150 * time.Millisecond, Loss: .01, Bpl: 4.3}, 71.6, 3.67},
		{Stream{Delay: 150 * time.Millisecond, Loss: .01, Bpl: 25.1}, 85.9, 4.22},
		{Stream{Delay: 300 * time.Millisecond, Loss: .01, Bpl: 4.3}, 54.7, 2.83},
		{Stream{Delay: 300 * time.Millisecond, Loss: .01, Bpl: 25.1}, 69.0, 3.55},
		{Stream{Delay: 150 * time.Millisecond, Loss: .01, Ie: 11, Bpl: 19}, 74.3, 3.80},
		{Stream{Loss: 1, Bpl: 1}, 0, 1},
		{Stream{Delay: -time.Second, Bpl: 1}, 93.2, 4.41},
	} {
		if r, mos := c.s.Quality(); math.Abs(r-c.r) > .06 || math.Abs(mos-c.mos) > .02 {
			t.Errorf("%v: R %.2f, MOS %.2f; want %.1f and %.2f", c.s, r, mos, c.r, c.mos)
		}
	}
}

// What the ITU-T printed as tables before there were formulas, and beside them: MOS of a rating (G.107 table B.1), and impairments by random loss (G.113 appendix I of 1999 to 2001).
func TestQualityAsPublished(t *testing.T) {
	for r, mos := range map[float64]float64{90: 4.34, 80: 4.03, 70: 3.60, 60: 3.10, 50: 2.58} {
		if got := opinion(r); math.Abs(got-mos) > .01 {
			t.Errorf("R %v is MOS %.3f; table B.1 has %v", r, got, mos)
		}
	}
	none, _ := Stream{Bpl: 1}.Quality()
	for _, c := range []struct {
		codec   string
		ie, bpl float64
		table   map[float64]float64
		within  float64
	}{
		{"G.729A with VAD", 11, 19, map[float64]float64{0: 11, .5: 13, 1: 15, 1.5: 17, 2: 19, 3: 23, 4: 26, 8: 36, 16: 49}, .6},
		{"G.723.1 at 6.3 kbit/s with VAD", 15, 16.1, map[float64]float64{0: 15, .5: 17, 1: 19, 1.5: 22, 2: 24, 3: 27, 4: 32, 8: 41, 16: 55}, 1.1},
		{"G.711 with concealment", codecIe711, codecBpl711, map[float64]float64{0: 0, 2: 7, 3: 10, 5: 15, 10: 25}, 2.1},
	} {
		for loss, ie := range c.table {
			r, _ := Stream{Loss: loss / 100, Ie: c.ie, Bpl: c.bpl}.Quality()
			if math.Abs(none-r-ie) > c.within {
				t.Errorf("%s with %v %% lost: impairment %.2f; the table has %v", c.codec, loss, none-r, ie)
			}
		}
	}
}

const codecIe711, codecBpl711 = 0, 25.1

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

// The page has what was measured, and how.
func TestValues(t *testing.T) {
	r := example()
	r.Checks[0].Values = map[string]string{"method": "so many <streams>"}
	var out bytes.Buffer
	if err := r.HTML(&out); err != nil || !strings.Contains(out.String(), "<dt>method</dt><dd>so many &lt;streams&gt;</dd>") || strings.Count(out.String(), "<details>") != 1 {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// The answer of a whole report.
func TestOutcome(t *testing.T) {
	check := func(s Status, required bool) Check { return Check{ID: "x", Status: s, Required: required} }
	for _, c := range []struct {
		checks []Check
		broken string
		want   Outcome
	}{
		{nil, "", Inconclusive},
		{[]Check{check(Skip, true)}, "", Inconclusive},
		{[]Check{check(Pass, true), check(Skip, true)}, "", Ready},
		{[]Check{check(Pass, true), check(Warn, false)}, "", Better},
		{[]Check{check(Pass, true), check(Fail, false)}, "", Better},
		{[]Check{check(Pass, true), check(Fail, true)}, "", NotReady},
		{[]Check{check(Pass, true)}, "the reflector stopped answering", Inconclusive},
		{[]Check{check(Fail, true)}, "the reflector stopped answering", NotReady},
	} {
		if got := (&Report{Checks: c.checks, Broken: c.broken}).Outcome(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.checks, got, c.want)
		}
	}
}

// What strangers said cannot command a terminal, nor turn the words of a page around.
func TestPlain(t *testing.T) {
	r := example()
	r.Checks[1].Seen = "a \x1b[2Jb\u202e\x07"
	var out bytes.Buffer
	r.Text(&out)
	if s := out.String(); !strings.Contains(s, "a ?[2Jb??\n") || strings.ContainsAny(s, "\x1b\x07\u202e") {
		t.Errorf("%q", s)
	}
	out.Reset()
	if err := r.HTML(&out); err != nil || strings.ContainsAny(out.String(), "\x1b\x07\u202e") || !strings.Contains(out.String(), "a ?[2Jb??<") {
		t.Errorf("%v %q", err, out.String())
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
