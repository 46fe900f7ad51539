package page

import (
	"fmt"
	"slices"
	"strings"

	"ringfence/internal/desk/change"
	"ringfence/internal/desk/flatprofile"
)

// Tab is a page of parameters, as the phone has them.
type Tab struct {
	Name     string    `json:"tab"`
	Sections []Section `json:"sections"`
}

// Section is a part of a tab.
type Section struct {
	Name       string      `json:"section"`
	Parameters []Parameter `json:"parameters"`
}

// Parameter is a parameter in force.
type Parameter struct {
	Name    string `json:"name"`
	Label   string `json:"label"`
	Value   string `json:"value"` // of a secret nothing
	Set     bool   `json:"set"`   // of a secret: it has a value
	Default bool   `json:"default"`
	From    string `json:"from"`
	Access  string `json:"access"` // ua: na, ro or rw
	Does    string `json:"does"`
	Did     string `json:"did,omitempty"`

	Type     flatprofile.Type `json:"type"`
	Options  []string         `json:"options,omitempty"` // of a parameter that is one of them
	Secret   bool             `json:"secret,omitempty"`
	Editable bool             `json:"editable"` // whoever looks may change it
	Changed  bool             `json:"changed"`  // somebody changed it at the phone
}

// secret is what is shown of a secret.
const secret = "(secret)"

// Tabs returns the parameters by tab and section, in the order of the catalogue. Of lines there is a tab for each that is in lines; of keys the functions are there, and of their other parameters those that were set, and the first. A user sees
// what the profile lets a user see (ua ro or rw).
func Tabs(set *flatprofile.Set, lines []int, did map[string]string, admin bool) []Tab {
	tabs := []Tab{}
	add := func(tab, section string, known flatprofile.Parameter, v flatprofile.Value) {
		access := v.UA
		if access == "" {
			access = known.UA
		}
		if !admin && access != "ro" && access != "rw" {
			return
		}
		p := Parameter{Name: v.Name, Label: label(v.Name), Value: v.Value, Set: v.Value != "", Default: v.From == flatprofile.Default, From: v.Where(), Access: access, Does: known.Does, Did: did[v.Name],
			Type: known.Type, Secret: v.Secret || known.Secret, Editable: admin || access == "rw", Changed: strings.HasPrefix(v.From, change.From)}
		if _, n, _ := set.Catalogue().Find(v.Name); n > 0 && !known.PerLine { // keys stand one below the other
			p.Label += fmt.Sprintf(" %d", n)
		}
		if known.Type == flatprofile.OneOf {
			p.Options = known.Options
		}
		if v.Secret && p.Value != "" {
			p.Value = secret
		}
		i := slices.IndexFunc(tabs, func(t Tab) bool { return t.Name == tab })
		if i < 0 {
			tabs = append(tabs, Tab{Name: tab})
			i = len(tabs) - 1
		}
		t := &tabs[i]
		j := slices.IndexFunc(t.Sections, func(s Section) bool { return s.Name == section })
		if j < 0 {
			t.Sections = append(t.Sections, Section{Name: section})
			j = len(t.Sections) - 1
		}
		t.Sections[j].Parameters = append(t.Sections[j].Parameters, p)
	}
	all := set.Catalogue().All()
	for _, known := range all {
		switch {
		case known.Now != "" || known.PerLine: // a name that is no more; a line, below
		case strings.HasSuffix(known.Name, "_n_"):
			for n := 1; n <= flatprofile.Keys; n++ {
				v := set.Get(strings.TrimSuffix(known.Name, "n_") + fmt.Sprintf("%d_", n))
				if n == 1 || v.From != flatprofile.Default || known.Name == "Extended_Function_n_" { // so that a key can be given one
					add(known.Tab, known.Section, known, v)
				}
			}
		default:
			add(known.Tab, known.Section, known, set.Get(known.Name))
		}
	}
	for _, n := range lines {
		for _, known := range all {
			if known.PerLine && known.Now == "" {
				add(fmt.Sprintf("%s %d", known.Tab, n), known.Section, known, set.Get(strings.TrimSuffix(known.Name, "n_")+fmt.Sprintf("%d_", n)))
			}
		}
	}
	return tabs
}

// label is the name of a field as the phone's pages have it: blanks for underscores, and no number of the line.
func label(name string) string {
	name = strings.TrimSuffix(name, "_")
	if i := strings.LastIndexByte(name, '_'); i > 0 && strings.Trim(name[i+1:], "0123456789") == "" && i+1 < len(name) {
		name = name[:i]
	}
	return strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(name, "__", " ("), "_", " ")) + strings.Repeat(")", strings.Count(name, "__"))
}
