package change

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/desk/lint"
)

// Bounds.
const (
	MaxRequest = 256 << 10 // bytes
	maxChanges = 500
	maxValue   = 8192 // bytes
	maxKept    = 2000
	// MaxFile is the most that the file of what is kept may have.
	MaxFile = 4 << 20
)

// Change is one parameter that somebody changes.
type Change struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Reset bool   `json:"reset,omitempty"` // back to what the profile says
}

// Request is what a program asks for.
type Request struct {
	Changes []Change `json:"changes"`
	Confirm bool     `json:"confirm,omitempty"` // what is dangerous is meant
}

// ParseRequest reads a request in JSON.
func ParseRequest(b []byte) (r Request, err error) {
	if len(b) > MaxRequest {
		return r, fault(ringfence.KindInvalid, "", "the request has more than %d bytes", MaxRequest)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Request{}, &ringfence.Fault{Op: "phone.change", Kind: ringfence.KindInvalid, Text: "these are no changes", Hint: `write {"changes":[{"name":"Station_Name","value":"Reception"}]}`, Err: err}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Request{}, fault(ringfence.KindInvalid, "", "there is something behind the changes")
	}
	return r, nil
}

func fault(kind ringfence.Kind, hint, format string, args ...any) error {
	return &ringfence.Fault{Op: "phone.change", Kind: kind, Text: fmt.Sprintf(format, args...), Hint: hint}
}

// Problem is what there is to say against a change.
type Problem struct {
	Name string `json:"name"`
	Text string `json:"text"`
	Fix  string `json:"fix,omitempty"`
}

// Report is what came of a request.
type Report struct {
	Changes []Change  `json:"-"`       // those that change something
	Changed []string  `json:"changed"` // their names
	Refused []Problem `json:"refused"` // if there is one, nothing is changed
	Dangers []Problem `json:"dangers"` // nothing is changed unless they are confirmed
	Done    bool      `json:"done"`
}

// Judge says what there is to say against changes of whoever is at the phone: the administrator, or a user, who changes what the profile lets a user change (ua="rw") and brings no danger.
func Judge(set *flatprofile.Set, admin bool, r Request) (Report, error) {
	out := Report{Changed: []string{}, Refused: []Problem{}, Dangers: []Problem{}}
	if len(r.Changes) > maxChanges {
		return out, fault(ringfence.KindInvalid, "make them one after the other", "more than %d parameters are changed at once", maxChanges)
	}
	refuse := func(name, fix, format string, args ...any) {
		out.Refused = append(out.Refused, Problem{name, fmt.Sprintf(format, args...), fix})
	}
	seen := map[string]bool{}
	for _, c := range r.Changes {
		known, _, ok := set.Catalogue().Find(c.Name)
		now := set.Get(c.Name)
		access := now.UA
		if access == "" {
			access = known.UA
		}
		c.Value = strings.TrimSpace(c.Value)
		switch {
		case !ok || known.Now != "":
			refuse(fmt.Sprintf("%.80s", c.Name), "", "there is no such parameter")
		case seen[c.Name]:
			refuse(c.Name, "", "it is changed twice")
		case !admin && access != "rw":
			refuse(c.Name, "sign in as the administrator", "the profile does not let a user change it (ua is %q)", access)
		case len(c.Value) > maxValue || strings.ContainsFunc(c.Value, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }):
			refuse(c.Name, "", "the value is longer than %d bytes, or no line of text", maxValue)
		case c.Reset || c.Value != now.Value:
			out.Changes = append(out.Changes, c)
			out.Changed = append(out.Changed, c.Name)
		}
		seen[c.Name] = true
	}
	before, after := set, set.Clone()
	for _, c := range out.Changes {
		if !c.Reset {
			v := set.Get(c.Name)
			v.Value, v.From, v.Line = c.Value, "the page", 0
			after.Put(v)
		}
	}
	old := map[lint.Finding]bool{}
	for _, f := range findings(before) {
		old[f] = true
	}
	for _, f := range findings(after) {
		changed := slices.Contains(out.Changed, f.Parameter)
		switch {
		case old[f]: // it was so before
		case f.Severity == lint.Error && changed && f.Kind != "contradiction": // what contradicts another parameter may be put right by the next change
			refuse(f.Parameter, f.Fix, "%s", f.Text)
		case f.Severity == lint.Danger:
			out.Dangers = append(out.Dangers, Problem{f.Parameter, f.Text, f.Fix})
		}
	}
	for _, c := range out.Changes {
		if text := locksOut(c); text != "" {
			out.Dangers = append(out.Dangers, Problem{c.Name, text, ""})
		}
	}
	if !admin {
		for _, d := range out.Dangers {
			refuse(d.Name, "ask the administrator", "a user makes nothing dangerous: %s", d.Text)
		}
		out.Dangers = []Problem{}
	}
	return out, nil
}

// locksOut says why somebody who changes this may not be able to change it back.
func locksOut(c Change) string {
	switch {
	case c.Reset:
	case c.Name == "Admin_Password" && c.Value == "":
		return "nobody can sign in as the administrator any more"
	case (c.Name == "Enable_Web_Server" || c.Name == "Enable_Web_Admin_Access") && c.Value == "No":
		return "these pages are gone with it"
	}
	return ""
}

// findings judges parameters as the file that they would be. Where they stand in it says nothing.
func findings(set *flatprofile.Set) []lint.Finding {
	var b bytes.Buffer
	b.WriteString("<flat-profile>")
	for _, v := range set.Changed() {
		if _, _, ok := set.Catalogue().Find(v.Name); !ok { // no name that could be anything
			continue
		}
		b.WriteString("<" + v.Name + ">")
		_ = xml.EscapeText(&b, []byte(v.Value)) // a buffer takes everything
		b.WriteString("</" + v.Name + ">\n")
	}
	b.WriteString("</flat-profile>")
	out := lint.File(b.Bytes(), set.Catalogue()).Findings
	for i := range out {
		out[i].Line = 0
	}
	return out
}

// Kept is a change that counts until the profile says something else.
type Kept struct {
	Name  string    `json:"name"`
	Value string    `json:"value"`
	Was   string    `json:"was"` // SHA-256 of the value that the profile had then
	By    string    `json:"by"`
	At    time.Time `json:"at"`
}

// Parse reads what is kept.
func Parse(b []byte) (kept []Kept, err error) {
	if len(b) > MaxFile {
		return nil, fault(ringfence.KindInvalid, "", "what is kept has more than %d bytes", MaxFile)
	}
	if err := json.Unmarshal(b, &kept); err != nil || len(kept) > maxKept {
		return nil, &ringfence.Fault{Op: "phone.change", Kind: ringfence.KindInvalid, Text: "what was changed at the phone cannot be read", Hint: "remove the file; the profile counts then", Err: err}
	}
	return kept, nil
}

func digest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// From begins the Value.From of a parameter that was changed at the phone.
const From = "the web page"

// Apply puts what is kept into force over the profile in set, and returns what still counts: of a parameter for which the profile has another value than it had then, the profile's counts.
func Apply(set *flatprofile.Set, kept []Kept) (left []Kept) {
	for _, k := range kept {
		if _, _, ok := set.Catalogue().Find(k.Name); !ok {
			continue
		}
		v := set.Get(k.Name)
		if digest(v.Value) != k.Was {
			continue
		}
		v.Value, v.From, v.Line = k.Value, fmt.Sprintf("%s, by %s at %s", From, k.By, k.At.UTC().Format(time.RFC3339)), 0
		set.Put(v)
		left = append(left, k)
	}
	return left
}

// Add adds changes to what is kept. set has them not yet.
func Add(set *flatprofile.Set, kept []Kept, changes []Change, by string, at time.Time) ([]Kept, error) {
	out := slices.Clone(kept)
	for _, c := range changes {
		k := Kept{Name: c.Name, Value: c.Value, Was: digest(set.Get(c.Name).Value), By: by, At: at.UTC().Truncate(time.Second)}
		if i := slices.IndexFunc(out, func(o Kept) bool { return o.Name == c.Name }); i >= 0 {
			k.Was = out[i].Was // what set has is an earlier change
			out = slices.Delete(out, i, i+1)
		}
		if !c.Reset && digest(c.Value) != k.Was {
			out = append(out, k)
		}
	}
	if len(out) > maxKept {
		return nil, fault(ringfence.KindOverload, "put some back to what the profile says", "more than %d parameters were changed at the phone", maxKept)
	}
	return out, nil
}
