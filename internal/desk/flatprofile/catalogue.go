package flatprofile

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

//go:embed catalogue.txt
var catalogue string

// Lines is how many lines a phone has at most, and Keys how many line keys.
const (
	Lines = 16
	Keys  = 16
)

// Type says what a parameter may be.
type Type string

// The types of parameters.
const (
	YesNo     Type = "yesno"
	OneOf     Type = "oneof"     // of Parameter.Options
	Int       Type = "int"       // within Parameter.Min and Max
	Port      Type = "port"      // 1 to 65535
	Seconds   Type = "seconds"   // with a fraction
	Text      Type = "text"      // anything
	URL       Type = "url"       // of the schemes in Parameter.Options
	Hosts     Type = "hosts"     // names, by commas
	HostPort  Type = "hostport"  // a name or an address, with or without a port
	Numbers   Type = "numbers"   // by commas
	Ciphers   Type = "ciphers"   // a cipher list of OpenSSL
	Firewall  Type = "firewall"  // options of the firewall
	Rule      Type = "rule"      // a profile rule
	Condition Type = "condition" // of a profile rule
	Macros    Type = "macros"    // text with macros
)

// Parameter is one parameter of the catalogue. The name of one of a line or a key has n where the number stands.
type Parameter struct {
	Name    string            `json:"name"`
	Tab     string            `json:"tab"`
	Section string            `json:"section"`
	Type    Type              `json:"type"`
	Options []string          `json:"options,omitempty"`
	Min     int               `json:"min,omitempty"`
	Max     int               `json:"max,omitempty"`
	Default string            `json:"default"`
	Known   bool              `json:"default_known"` // the default is published
	UA      string            `json:"ua"`            // user access in published samples: na, ro or rw
	Does    string            `json:"does"`
	Now     string            `json:"now,omitempty"`       // the name that it has now: this one is deprecated
	Secret  bool              `json:"secret,omitempty"`    // its value is not shown
	Own     bool              `json:"own,omitempty"`       // one of Ringfence: other phones pass it over
	Danger  map[string]string `json:"dangerous,omitempty"` // values, and why
	PerLine bool              `json:"per_line,omitempty"`
	order   int
}

// Catalogue holds the parameters by name.
type Catalogue struct {
	byName map[string]Parameter
	names  []string            // in the order of the pages
	old    map[string][]string // names that a parameter had before
}

// Parameters reads the catalogue that is built in.
func Parameters() *Catalogue {
	c, err := readCatalogue(catalogue)
	if err != nil {
		panic("flatprofile: " + err.Error()) // a test reads it
	}
	return c
}

func readCatalogue(text string) (*Catalogue, error) {
	c := &Catalogue{byName: map[string]Parameter{}, old: map[string][]string{}}
	n := 0
	for line := range strings.Lines(text) {
		if n++; strings.HasPrefix(line, "#") {
			continue
		}
		p, names, err := readParameter(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for _, name := range names {
			if _, twice := c.byName[name]; twice {
				return nil, fmt.Errorf("line %d: %s is there twice", n, name)
			}
			p.Name, p.order = name, len(c.names)
			c.byName[name] = p
			c.names = append(c.names, name)
			if p.Now != "" {
				c.old[p.Now] = append(c.old[p.Now], name)
			}
		}
	}
	return c, nil
}

// readParameter reads one line of the catalogue, and the names that it is for.
func readParameter(line string) (p Parameter, names []string, err error) {
	f := strings.Split(line, "|")
	if len(f) != 7 && len(f) != 8 {
		return p, nil, fmt.Errorf("there are %d columns", len(f))
	}
	for i := range f {
		f[i] = strings.TrimSpace(f[i])
	}
	kind, args, _ := strings.Cut(f[3], " ")
	p = Parameter{Tab: f[1], Section: f[2], Type: Type(kind), Default: f[4], Known: f[4] != "?", UA: f[5], Does: f[6]}
	if !p.Known {
		p.Default = ""
	}
	switch p.Type {
	case OneOf:
		p.Options = strings.Split(args, ";")
	case URL:
		p.Options = strings.Split(args, ",")
	case Int:
		if _, err := fmt.Sscanf(args, "%d-%d", &p.Min, &p.Max); err != nil {
			return p, nil, fmt.Errorf("the range %q: %w", args, err)
		}
	}
	if len(f) == 8 {
		for _, remark := range strings.Split(f[7], "; ") {
			if rest, ok := strings.CutPrefix(remark, "danger="); ok {
				if p.Danger == nil {
					p.Danger = map[string]string{}
				}
				value, why := cutValue(rest, p)
				p.Danger[value] = why
				continue
			}
			for _, word := range strings.Fields(remark) {
				now, renamed := strings.CutPrefix(word, "old=")
				switch {
				case renamed:
					p.Now = now
				case word == "secret":
					p.Secret = true
				case word == "own":
					p.Own = true
				default:
					return p, nil, fmt.Errorf("the remark %q", word)
				}
			}
		}
	}
	name := f[0]
	switch {
	case strings.Contains(name, "{n}"):
		p.PerLine = true
		return p, []string{strings.Replace(name, "{n}", "n", 1)}, nil
	case strings.Contains(name, "{k}"):
		return p, []string{strings.Replace(name, "{k}", "n", 1)}, nil
	}
	head, rest, ok := strings.Cut(name, "{")
	if !ok {
		return p, []string{name}, nil
	}
	span, tail, _ := strings.Cut(rest, "}")
	from, to, _ := strings.Cut(span, "-")
	if first, err := strconv.Atoi(from); err == nil {
		last, err := strconv.Atoi(to)
		for i := first; i <= last && err == nil; i++ {
			names = append(names, head+strconv.Itoa(i)+tail)
		}
		return p, names, err
	}
	for r := from[0]; r <= to[0]; r++ {
		names = append(names, head+string(r)+tail)
	}
	return p, names, nil
}

// cutValue takes the dangerous value, which can have blanks, from the reason behind it.
func cutValue(rest string, p Parameter) (value, why string) {
	for _, o := range p.Options {
		if after, ok := strings.CutPrefix(rest, o+" "); ok && len(o) > len(value) {
			value, why = o, after
		}
	}
	if value == "" {
		value, why, _ = strings.Cut(rest, " ")
	}
	return value, why
}

// All returns every parameter, in the order of the phone's pages.
func (c *Catalogue) All() []Parameter {
	out := make([]Parameter, len(c.names))
	for i, name := range c.names {
		out[i] = c.byName[name]
	}
	return out
}

// Find returns what is known of the parameter of an element, with its number if it is that of a line or a key.
func (c *Catalogue) Find(element string) (p Parameter, number int, ok bool) {
	if p, ok = c.byName[element]; ok && !strings.Contains(element, "_n_") {
		return p, 0, true
	}
	rest, ended := strings.CutSuffix(element, "_")
	at := strings.LastIndexByte(rest, '_')
	if !ended || at < 0 {
		return p, 0, false
	}
	number, err := strconv.Atoi(rest[at+1:])
	if err != nil || number < 1 || number > max(Lines, Keys) || strconv.Itoa(number) != rest[at+1:] {
		return p, 0, false
	}
	p, ok = c.byName[rest[:at]+"_n_"]
	if !ok {
		return p, 0, false
	}
	p.Name, p.Now = element, strings.Replace(p.Now, "_n_", "_"+strconv.Itoa(number)+"_", 1)
	switch rest[:at] { // what depends on the number
	case "Line_Enable":
		p.Default, p.Known = "No", true
		if number == 1 {
			p.Default = "Yes"
		}
	case "SIP_Port":
		p.Default, p.Known = strconv.Itoa(5059+number), true
	case "Extension":
		p.Default, p.Known = strconv.Itoa(number), true
	}
	return p, number, true
}

// before returns the names that a parameter had before.
func (c *Catalogue) before(name string) []string {
	if old, ok := c.old[name]; ok {
		return old
	}
	p, number, ok := c.Find(name)
	if !ok || number == 0 {
		return nil
	}
	var out []string
	of := "_" + strconv.Itoa(number) + "_"
	for _, old := range c.old[strings.TrimSuffix(p.Name, of)+"_n_"] {
		out = append(out, strings.TrimSuffix(old, "_n_")+of)
	}
	return out
}

// nearest is how many letters a name may be away from one that is meant.
const nearest = 3

// Nearest returns the name that was most likely meant, or nothing.
func (c *Catalogue) Nearest(element string) string {
	if len(element) > 80 || len(element) < 4 {
		return ""
	}
	pattern, number := element, ""
	if rest := strings.TrimRight(element, "_"); rest != "" { // Proxy_1 and Proxy1_ are Proxy_1_
		digits := len(rest)
		for digits > 0 && rest[digits-1] >= '0' && rest[digits-1] <= '9' {
			digits--
		}
		if n, err := strconv.Atoi(rest[digits:]); err == nil && n >= 1 && n <= max(Lines, Keys) {
			pattern, number = strings.TrimRight(rest[:digits], "_")+"_n_", strconv.Itoa(n)
		}
	}
	best, found := min(nearest, len(element)/3)+1, ""
	for _, name := range slices.Sorted(maps.Keys(c.byName)) {
		of, want := element, name
		if strings.HasSuffix(name, "_n_") {
			if number == "" {
				continue
			}
			of, want = pattern, name
		}
		if d := away(strings.ToLower(of), strings.ToLower(want), best); d < best {
			best, found = d, name
			if number != "" && strings.HasSuffix(name, "_n_") {
				found = strings.TrimSuffix(name, "n_") + number + "_"
			}
		}
	}
	return found
}

// away counts the letters to change, add, leave out or swap between two names (Damerau), up to limit.
func away(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	before, row, last := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least >= limit {
			return limit
		}
	}
	return row[len(b)]
}
