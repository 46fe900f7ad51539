package tlspolicy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"ringfence"
)

// Edit is one change of a tree.
type Edit struct {
	Place   string   // e.g. /interface/sip
	Setting string   // one of [Names]; with Remove empty: all of the place
	Values  []string // with Remove of a list: what to take out of it; empty: the setting itself
}

// Set returns the tree with a setting changed.
func (t Tree) Set(e Edit) (Tree, error) { return t.edit(e, setValues) }

// Add returns the tree with values added to a list. Where the place says nothing yet, they are added to what holds there now.
func (t Tree) Add(e Edit) (Tree, error) { return t.edit(e, addValues) }

// Remove returns the tree without a place, a setting or some values of a list.
func (t Tree) Remove(e Edit) (Tree, error) {
	if e.Setting != "" {
		return t.edit(e, removeValues)
	}
	if _, ok := t[e.Place]; !ok {
		return nil, nothingSet(e)
	}
	out := maps.Clone(t)
	delete(out, e.Place)
	return out, nil
}

func nothingSet(e Edit) error {
	text := "nothing is set at " + e.Place
	if e.Setting != "" {
		text = e.Setting + " is not set at " + e.Place
	}
	return &ringfence.Fault{Op: "tlspolicy.edit", Kind: ringfence.KindNotFound, Text: text, Hint: "see `ringfence tls get`"}
}

func (t Tree) edit(e Edit, change func(now, held, values []string, list bool) ([]string, error)) (Tree, error) {
	about, err := ParsePlace(e.Place)
	if err != nil {
		return nil, err
	}
	all := fields()
	i := slices.IndexFunc(all, func(f setting) bool { return f.name == e.Setting })
	if i < 0 {
		return nil, invalid(fmt.Sprintf("there is no setting %.40q", e.Setting), "settings are "+strings.Join(Names(), ", "))
	}
	f := all[i]
	s := t[e.Place]
	now := f.parts(f.value(s))
	held := now
	if len(held) == 0 {
		held = f.parts(t.holds(about, e.Place, f))
	}
	next, err := change(now, held, e.Values, f.list != nil || f.sep != "")
	if err != nil {
		return nil, err
	}
	if next == nil && len(now) == 0 {
		return nil, nothingSet(e)
	}
	if f.list != nil {
		*f.list(&s) = next
	} else {
		*f.text(&s) = strings.Join(next, f.sep)
	}
	out := maps.Clone(t)
	if out == nil {
		out = Tree{}
	}
	out[e.Place] = s
	if slices.IndexFunc(all, func(f setting) bool { return f.value(s) != "" }) < 0 {
		delete(out, e.Place)
	}
	return out, nil
}

// holds returns the value that a setting has at a place: what a list there would begin with.
func (t Tree) holds(about Endpoint, place string, f setting) string {
	for _, c := range classes() {
		if e := At(c.name, netip.AddrPort{}); about.Class == "" && f.fits(e) && slices.Contains(e.places(), place) {
			about = e
		}
	}
	v := f.value(builtIn(about))
	for _, p := range about.places() {
		if set := f.value(t[p]); set != "" {
			v = set
		}
		if p == place {
			break
		}
	}
	return v
}

// parts takes a value apart.
func (f setting) parts(v string) []string {
	switch {
	case v == "":
		return nil
	case f.list != nil:
		return strings.Fields(v)
	case f.sep != "":
		return strings.Split(v, f.sep)
	}
	return []string{v}
}

func setValues(_, _, values []string, list bool) ([]string, error) {
	if len(values) == 0 || !list && len(values) > 1 {
		return nil, invalid("the setting takes one value, or several if it is a list", "to set nothing, use `ringfence tls remove`")
	}
	return values, nil
}

func addValues(_, held, values []string, list bool) ([]string, error) {
	if !list {
		return nil, invalid("the setting is no list", "use `ringfence tls set`")
	}
	if len(values) == 0 {
		return nil, invalid("nothing to add", "name at least one value")
	}
	for _, v := range values {
		if slices.Contains(held, v) {
			return nil, &ringfence.Fault{Op: "tlspolicy.edit", Kind: ringfence.KindConflict, Text: v + " is in the list already", Hint: "the list is " + strings.Join(held, " ")}
		}
		held = append(slices.Clone(held), v)
	}
	return held, nil
}

func removeValues(now, held, values []string, list bool) ([]string, error) {
	if len(values) == 0 {
		return nil, nil
	}
	if !list {
		return nil, invalid("the setting is no list", "leave the value out to remove the setting")
	}
	for _, v := range values {
		i := slices.Index(held, v)
		if i < 0 {
			return nil, &ringfence.Fault{Op: "tlspolicy.edit", Kind: ringfence.KindNotFound, Text: v + " is not in the list", Hint: "the list is " + strings.Join(held, " ")}
		}
		held = slices.Delete(slices.Clone(held), i, i+1)
	}
	if len(held) == 0 {
		return nil, invalid("nothing of the list would be left", "leave the values out to remove the setting, so that less specific places count")
	}
	return held, nil
}
