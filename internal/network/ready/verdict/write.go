package verdict

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"html/template"
	"io"
	"sort"
	"strings"
	"time"
	"unicode"
)

// sorted returns checks with what needs work first, in the order of the test otherwise.
func sorted(all []Check) []Check {
	out := append([]Check(nil), all...)
	rank := func(c Check) int {
		switch {
		case c.Status == Fail && c.Required:
			return 0
		case c.Status == Fail:
			return 1
		case c.Status == Warn:
			return 2
		}
		return 3
	}
	sort.SliceStable(out, func(i, j int) bool { return rank(out[i]) < rank(out[j]) })
	return out
}

func (r *Report) summary() string {
	return fmt.Sprintf("%d passed, %d failed, %d could be better, %d not tested", r.Count(Pass), r.Count(Fail), r.Count(Warn), r.Count(Skip))
}

// plain takes out what a terminal would obey: some of a report is what strangers said.
func plain(s string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
}

// Text writes a report for people at a terminal.
func (r *Report) Text(to io.Writer) {
	w := &plainWriter{to}
	fmt.Fprintf(w, "%s, tested from %s (seen as %s) against %s\n%s\n", r.SetTitle, r.Local, r.SeenAs, r.Reflector, r.summary())
	for _, c := range sorted(r.Checks) {
		fmt.Fprintf(w, "\n%-4s  %s: %s\n", c.Status, c.ID, c.Title)
		line := func(name, text string) {
			if text != "" {
				fmt.Fprintf(w, "      %-8s %s\n", name, text)
			}
		}
		line("sent", c.Sent)
		line("seen", c.Seen)
		line("cause", string(c.Cause))
		line("blocked", strings.Join(c.Blocked, ", "))
		line("hop", c.Hop)
		line("change", c.Change)
		for n, rule := range strings.Split(c.Rule, "\n") {
			if rule = strings.ReplaceAll(rule, "\t", "  "); n == 0 {
				line("rule", rule)
			} else {
				line("", rule)
			}
		}
		if c.Status == Fail || c.Status == Warn {
			line("again", c.Again)
		}
	}
	if r.Broken != "" {
		fmt.Fprintf(w, "\nThe test did not come to its end: %s\n", r.Broken)
	}
}

// plainWriter lets line ends through and nothing else that a terminal obeys.
type plainWriter struct{ io.Writer }

func (p *plainWriter) Write(b []byte) (int, error) {
	for line := range strings.SplitAfterSeq(string(b), "\n") {
		text, end := strings.CutSuffix(line, "\n")
		text = plain(text)
		if end {
			text += "\n"
		}
		if _, err := io.WriteString(p.Writer, text); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

type suite struct {
	XMLName   xml.Name `xml:"testsuite"`
	Name      string   `xml:"name,attr"`
	Tests     int      `xml:"tests,attr"`
	Failures  int      `xml:"failures,attr"`
	Skipped   int      `xml:"skipped,attr"`
	Timestamp string   `xml:"timestamp,attr"`
	Time      string   `xml:"time,attr"`
	Cases     []jcase  `xml:"testcase"`
}

type jcase struct {
	Class   string  `xml:"classname,attr"`
	Name    string  `xml:"name,attr"`
	Time    string  `xml:"time,attr"`
	Failure *jsays  `xml:"failure"`
	Skipped *jsays  `xml:"skipped"`
	Out     *string `xml:"system-out"`
}

type jsays struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// JUnit writes a report as systems of continuous integration read it. What is not required does not fail there.
func (r *Report) JUnit(w io.Writer) error {
	s := suite{Name: "ringfence ready " + r.Set, Tests: len(r.Checks), Failures: len(r.Failed()), Skipped: r.Count(Skip), Timestamp: r.Began.UTC().Format("2006-01-02T15:04:05"), Time: fmt.Sprintf("%.3f", r.Ended.Sub(r.Began).Seconds())}
	for _, c := range r.Checks {
		j := jcase{Class: "ready." + c.Kind, Name: c.ID + " " + c.Title, Time: fmt.Sprintf("%.3f", c.Took)}
		text := fmt.Sprintf("sent: %s\nseen: %s\ncause: %s\nblocked: %s\nhop: %s\nchange: %s\nrule: %s\nagain: %s\n", c.Sent, c.Seen, c.Cause, strings.Join(c.Blocked, ", "), c.Hop, c.Change, c.Rule, c.Again)
		switch {
		case c.Status == Fail && c.Required:
			j.Failure = &jsays{Message: c.Seen, Type: string(c.Cause), Text: text}
		case c.Status == Skip:
			j.Skipped = &jsays{Message: c.Seen}
		default:
			j.Out = &text
		}
		s.Cases = append(s.Cases, j)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(s); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// HTML writes a report as one page that needs nothing else, and runs nothing.
func (r *Report) HTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{
		"join": strings.Join,
		"when": func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
		"took": func(r *Report) string { return r.Ended.Sub(r.Began).Round(time.Second).String() },
		"word": func(s Status) string {
			return map[Status]string{Pass: "works", Fail: "fails", Warn: "could be better", Skip: "not tested"}[s]
		},
	}).Parse(page)
	if err != nil {
		return err
	}
	var fixes []Check
	for _, c := range sorted(r.Checks) {
		if c.Status == Fail || c.Status == Warn {
			fixes = append(fixes, c)
		}
	}
	var out bytes.Buffer
	if err := t.Execute(&out, struct {
		*Report
		Fixes               []Check
		Passed, Failures    int
		Warned, Skipped     int
		Ready, Inconclusive bool
	}{r, fixes, r.Count(Pass), r.Count(Fail), r.Count(Warn), r.Count(Skip), len(r.Failed()) == 0, r.Broken != "" || r.Count(Pass) == 0}); err != nil {
		return err
	}
	_, err = io.WriteString(w, strings.Map(func(c rune) rune { // what strangers said turns no words around
		if !unicode.IsPrint(c) && c != '\n' && c != '\t' {
			return '?'
		}
		return c
	}, out.String()))
	return err
}

const page = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Readiness: {{.SetTitle}}</title>
<style>
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5a6675;--line:#d9dee5;--paper:#fff;--card:#f6f8fa;--good:#1a7f45;--bad:#b3261e;--mid:#8a5a00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa6b5;--line:#38414d;--paper:#14181d;--card:#1d232a;--good:#5fd08f;--bad:#ff8a80;--mid:#f0b860}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}p.sub{color:var(--soft);margin:.2rem 0 1.2rem}
.verdict{border-left:.4rem solid var(--good);background:var(--card);padding:1rem 1.2rem;font-size:1.1rem}.verdict.bad{border-color:var(--bad)}.verdict.mid{border-color:var(--mid)}
.tiles{display:flex;gap:.8rem;flex-wrap:wrap;margin:1rem 0}.tile{background:var(--card);padding:.6rem 1rem;min-width:7rem}.tile b{display:block;font-size:1.6rem}
.pass{color:var(--good)}.fail{color:var(--bad)}.warn{color:var(--mid)}.skip{color:var(--soft)}
ol.fix{padding-left:1.4rem}ol.fix>li{margin:0 0 1.2rem}dl{display:grid;grid-template-columns:6rem 1fr;gap:.15rem .8rem;margin:.3rem 0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{font:.8rem ui-monospace,monospace;background:var(--card);padding:.4rem .6rem;margin:0;white-space:pre-wrap}code{font:.85rem ui-monospace,monospace;background:var(--card);padding:.1rem .3rem;overflow-wrap:anywhere}
summary{color:var(--soft);cursor:pointer}.values dd{white-space:pre-wrap}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;border-bottom:1px solid var(--line);overflow-wrap:anywhere}th{color:var(--soft);font-weight:600}td:first-child,td:nth-child(2){white-space:nowrap}.change::first-letter{text-transform:uppercase}
@media print{body{margin:0;max-width:none}}
</style></head><body>
<h1>Is the network ready?</h1>
<p class="sub">{{.SetTitle}}{{with .SetVersion}}, version {{.}}{{end}}. Tested {{when .Began}} for {{took .Report}}, from {{.Local}}{{with .SeenAs}} (seen as {{.}}){{end}} against {{.Reflector}}.</p>
{{if .Broken}}<div class="verdict bad"><b>The test did not come to its end.</b> {{.Broken}}</div>
{{else if not .Ready}}<div class="verdict bad"><b>Not yet.</b> Some of what the service needs does not get through. The list below says what to change.</div>
{{else if .Inconclusive}}<div class="verdict mid"><b>Nothing could be tested.</b> The table below says why.</div>
{{else if .Warned}}<div class="verdict mid"><b>Yes, and it could be better.</b> All that was tested of what is needed works.</div>
{{else}}<div class="verdict"><b>Yes.</b> All that was tested of what is needed works.</div>{{end}}
<div class="tiles"><div class="tile pass"><b>{{.Passed}}</b>work</div><div class="tile fail"><b>{{.Failures}}</b>fail</div><div class="tile warn"><b>{{.Warned}}</b>could be better</div><div class="tile skip"><b>{{.Skipped}}</b>not tested</div></div>
{{if .Fixes}}<h2>What to change</h2>
<ol class="fix">{{range .Fixes}}<li><b class="{{.Status}}">{{.Title}}</b><div class="change">{{.Change}}.</div>
<dl><dt>sent</dt><dd>{{.Sent}}</dd><dt>seen</dt><dd>{{.Seen}}</dd>{{with .Blocked}}<dt>blocked</dt><dd>{{join . ", "}}</dd>{{end}}<dt>cause</dt><dd>{{.Cause}}</dd>{{with .Hop}}<dt>hop</dt><dd>{{.}}</dd>{{end}}{{with .Rows}}<dt>rows</dt><dd>{{join . ", "}}</dd>{{end}}{{with .Rule}}<dt>{{$.Firewall}}</dt><dd><pre>{{.}}</pre></dd>{{end}}<dt>test again</dt><dd><code>{{.Again}}</code></dd></dl></li>{{end}}</ol>{{end}}
<h2>Everything that was tested</h2>
<table><thead><tr><th>Check</th><th>Outcome</th><th>What</th><th>Seen</th></tr></thead><tbody>
{{range .Checks}}<tr><td>{{.ID}}</td><td class="{{.Status}}">{{word .Status}}</td><td>{{.Title}}</td><td>{{.Seen}}{{if .Values}}<details><summary>measured</summary><dl class="values">{{range $k, $v := .Values}}<dt>{{$k}}</dt><dd>{{$v}}</dd>{{end}}</dl></details>{{end}}</td></tr>
{{end}}</tbody></table>
<h2>How it was tested</h2>
<dl>{{range $k, $v := .Parameters}}<dt>{{$k}}</dt><dd>{{$v}}</dd>{{end}}<dt>program</dt><dd>{{.Program}}</dd></dl>
</body></html>
`
