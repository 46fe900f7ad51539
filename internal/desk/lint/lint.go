package lint

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/network/phoneports"
)

// Severity says how bad a finding is.
type Severity string

// The severities, worst first.
const (
	Error   Severity = "error"   // the phone refuses it or passes it over
	Danger  Severity = "danger"  // it works, and somebody can misuse it
	Warning Severity = "warning" // it works, and most likely not as it was meant
	Note    Severity = "note"    // good to know
)

// Finding is one thing that was found.
type Finding struct {
	Line      int      `json:"line,omitempty"` // 0: of no line, since the file does not set it
	Severity  Severity `json:"severity"`
	Kind      string   `json:"kind"` // unknown, misspelt, deprecated, dangerous, ill-formed, contradiction
	Parameter string   `json:"parameter,omitempty"`
	Text      string   `json:"text"`
	Fix       string   `json:"fix,omitempty"`
}

// Report is what was found in a file.
type Report struct {
	Parameters int       `json:"parameters"`
	Readable   bool      `json:"readable"` // a phone would take the file
	Findings   []Finding `json:"findings"`
	More       int       `json:"more,omitempty"` // findings that are not listed
}

// maxFindings is how many are listed.
const maxFindings = 1000

// maxGuesses is how many unknown names are compared with those of the catalogue.
const maxGuesses = 300

// Count returns how many findings have a severity.
func (r Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// judge collects the findings.
type judge struct {
	catalogue *flatprofile.Catalogue
	set       *flatprofile.Set
	report    Report
	guesses   int
}

func (j *judge) add(line int, s Severity, kind, parameter, fix, format string, args ...any) {
	if len(j.report.Findings) == maxFindings {
		j.report.More++
		return
	}
	j.report.Findings = append(j.report.Findings, Finding{line, s, kind, parameter, fmt.Sprintf(format, args...), fix})
}

// File judges a configuration file.
func File(b []byte, c *flatprofile.Catalogue) Report {
	j := &judge{catalogue: c, set: flatprofile.NewSet(c), report: Report{Readable: true, Findings: []Finding{}}}
	f, err := flatprofile.Parse(b)
	if err != nil {
		j.report.Readable = false
		mended, repairs := flatprofile.Mend(b)
		for _, r := range repairs {
			j.add(r.Line, Error, "ill-formed", r.Name, r.Fix, "%s: the file is no XML, and a phone takes nothing of it", r.Text)
		}
		if f, err = flatprofile.Parse(mended); err != nil {
			line := 0
			text := err.Error()
			if at := strings.Index(text, "line "); at >= 0 {
				_, _ = fmt.Sscanf(text[at:], "line %d:", &line)
				_, text, _ = strings.Cut(text[at:], ": ")
			}
			j.add(line, Error, "ill-formed", "", "correct it; what stands behind it was not looked at", "%s", text)
			return j.report
		}
	}
	j.file(f)
	j.set.Add(f, "")
	j.together(f)
	slices.SortStableFunc(j.report.Findings, func(a, b Finding) int { return cmp.Compare(a.Line, b.Line) })
	return j.report
}

// file judges the elements one by one.
func (j *judge) file(f *flatprofile.File) {
	j.report.Parameters = len(f.Elements)
	if f.Root != flatprofile.Root {
		j.add(f.RootLine, Error, "ill-formed", "", "write <flat-profile> around the parameters", "the element around the parameters is %s", f.Root)
	}
	for _, line := range f.Stray {
		j.add(line, Warning, "ill-formed", "", "take it out, or make it a comment: <!-- … -->", "text stands between the parameters")
	}
	seen := map[string]int{}
	for _, e := range f.Elements {
		if first, twice := seen[e.Name]; twice {
			j.add(e.Line, Warning, "contradiction", e.Name, "leave one of them", "it is also in line %d; this one counts, as the last", first)
		}
		seen[e.Name] = e.Line
		j.element(e)
	}
}

func (j *judge) element(e flatprofile.Element) {
	if e.Nested {
		j.add(e.Line, Error, "ill-formed", e.Name, "put the parameters beside each other in <flat-profile>", "there are elements in it: a profile is flat")
		return
	}
	if e.Depth > 2 {
		j.add(e.Line, Error, "ill-formed", e.Name, "put it into <flat-profile> itself", "it stands in another parameter")
	}
	p, _, known := j.catalogue.Find(e.Name)
	if !known {
		j.unknown(e)
		return
	}
	if p.Now != "" {
		j.add(e.Line, Warning, "deprecated", e.Name, "write "+p.Now, "it has another name now")
	}
	if p.Own {
		j.add(e.Line, Note, "unknown", e.Name, "leave it, if that is meant", "it is a parameter of Ringfence: other phones pass it over")
	}
	switch e.UA {
	case "", "na", "ro":
	case "rw":
		if p.UA == "na" && (len(p.Danger) > 0 || p.Secret || p.Type == flatprofile.Rule || p.Type == flatprofile.Ciphers || p.Type == flatprofile.Firewall) {
			j.add(e.Line, Danger, "dangerous", e.Name, `write ua="na"`, "whoever sits at the phone may change it")
		}
	default:
		j.add(e.Line, Error, "ill-formed", e.Name, `write ua="na", ua="ro" or ua="rw"`, "ua is %.20q", e.UA)
	}
	for _, name := range e.Other {
		j.add(e.Line, Note, "unknown", e.Name, "take it out", "a phone minds no attribute %.40s", name)
	}
	if e.Value != "" {
		j.value(e, p)
	}
}

// unknown judges a name that the catalogue does not have.
func (j *judge) unknown(e flatprofile.Element) {
	meant := ""
	if j.guesses++; j.guesses <= maxGuesses {
		meant = j.catalogue.Nearest(e.Name)
	}
	switch {
	case meant != "" && strings.EqualFold(meant, e.Name):
		j.add(e.Line, Error, "misspelt", e.Name, "write "+meant, "small and capital letters count, so the phone passes it over")
	case meant != "":
		j.add(e.Line, Error, "misspelt", e.Name, "write "+meant+", if that is meant", "there is no such parameter, and the phone passes it over")
	default:
		j.add(e.Line, Warning, "unknown", e.Name, "look it up in the reference of the phone's firmware", "the catalogue has no such parameter; a phone that has none either passes it over")
	}
}

// together judges what only several parameters show.
func (j *judge) together(f *flatprofile.File) {
	for _, p := range phoneports.Look(j.set).Problems {
		if strings.HasPrefix(p.Text, "Firewall_Config:") || strings.Contains(p.Text, "no range of ports") {
			s := Warning
			if p.Error {
				s = Error
			}
			name := "Firewall_Config"
			if p.Line == 0 {
				name = "RTP_Port_Max"
			}
			j.add(p.Line, s, "ill-formed", name, p.Fix, "%s", strings.TrimPrefix(p.Text, "Firewall_Config: "))
		}
	}
	j.lines()
	j.domains()
	j.directory()
	j.proxy()
	j.paging()
	j.keys()
}

// line returns where a parameter is set, or 0.
func (j *judge) line(name string) int { return j.set.Get(name).Line }
