package directory

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ringfence"
	"ringfence/internal/desk/flatprofile"
)

// Shown is an attribute that the phone shows.
type Shown struct {
	Attribute string
	Label     string
	Phone     bool // a number that can be called
}

// defaultShown is what is shown if the profile says nothing.
const defaultShown = "a=cn,n=Name;a=telephoneNumber,n=Phone,t=p;a=mobile,n=Mobile,t=p;a=mail,n=Mail"

const maxShown = 32

// ParseDisplay reads LDAP_Display_Attrs: attributes by semicolons, each of a=NAME, n=LABEL and t=p by commas.
func ParseDisplay(s string) (out []Shown, err error) {
	if len(s) > maxFilter {
		return nil, bad("the list of attributes is too long")
	}
	for part := range strings.SplitSeq(s, ";") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		var x Shown
		for field := range strings.SplitSeq(part, ",") {
			key, value, ok := strings.Cut(strings.TrimSpace(field), "=")
			value = strings.TrimSpace(value)
			switch {
			case !ok:
				return nil, bad(fmt.Sprintf("%.40q is no attribute that is shown: write a=cn,n=Name", part))
			case key == "a":
				x.Attribute = value
			case key == "n":
				x.Label = printable(value)
			case key == "t":
				x.Phone = value == "p"
			}
		}
		if !isAttribute(x.Attribute) || len(out) == maxShown {
			return nil, bad(fmt.Sprintf("%.40q is no attribute that is shown: write a=cn,n=Name", part))
		}
		x.Label = cmp.Or(x.Label, x.Attribute)
		out = append(out, x)
	}
	return out, nil
}

// Settings are what a profile says of the directory.
type Settings struct {
	Server Server
	Name   string
	Base   string
	Last   string // filters, with $VALUE
	First  string
	Items  [2]Item // LDAP_Search_Item_3 and _4
	Shown  []Shown
	Number Mapping
}

// Item is something else to search by than names.
type Item struct {
	Label  string
	Filter string // with $VALUE; empty: there is no such item
}

// Who is looked for: what is empty does not count.
type Who struct {
	Last, First string
	Items       [2]string
}

// Filter makes the filter for somebody of whom several things are known.
func (s Settings) Filter(w Who) (string, error) {
	all := ""
	for _, x := range []struct{ template, value string }{{s.Last, w.Last}, {s.First, w.First}, {s.Items[0].Filter, w.Items[0]}, {s.Items[1].Filter, w.Items[1]}} {
		if strings.TrimSpace(x.value) == "" {
			continue
		}
		if x.template == "" {
			return "", fault(ringfence.KindInvalid, "the profile has no such search item", "see LDAP_Search_Item_3 and LDAP_item_3_Filter", nil)
		}
		all += strings.ReplaceAll(x.template, "$VALUE", Escape(strings.TrimSpace(x.value)))
	}
	if all == "" {
		return "", fault(ringfence.KindInvalid, "there is nobody to look for", "", nil)
	}
	return "(&" + all + ")", nil
}

// Of reads the LDAP section of a profile.
func Of(set *flatprofile.Set) (s Settings, err error) {
	server := set.Get("LDAP_Server")
	switch {
	case !set.Yes("LDAP_Dir_Enable"):
		return s, fault(ringfence.KindNotFound, "the phone has no directory: LDAP_Dir_Enable is No", "set LDAP_Dir_Enable to Yes, and LDAP_Server", nil)
	case server.Value == "":
		return s, fault(ringfence.KindNotFound, "the phone has no directory: LDAP_Server is empty", "write ldaps://HOST", nil)
	}
	s = Settings{Name: set.Text("LDAP_Corp_Dir_Name"), Base: set.Text("LDAP_Search_Base"), Server: Server{URL: server.Value, StartTLS: set.Yes("LDAP_StartTLS_Enable"), DN: cmp.Or(set.Text("LDAP_Client_DN"), set.Text("LDAP_Username")),
		User: cmp.Or(set.Text("LDAP_Username"), set.Text("LDAP_Client_DN")), Password: set.Text("LDAP_Password"), Method: Method(cmp.Or(set.Text("LDAP_Auth_Method"), string(None)))}}
	s.Last, s.First = template(set.Text("LDAP_Last_Name_Filter"), "(sn=$VALUE*)"), template(set.Text("LDAP_First_Name_Filter"), "(givenName=$VALUE*)")
	for i := range s.Items {
		item, filter := fmt.Sprintf("LDAP_Search_Item_%d", i+3), fmt.Sprintf("LDAP_item_%d_Filter", i+3)
		label, otherwise := strings.TrimSpace(set.Text(item)), ""
		if isAttribute(label) {
			otherwise = "(" + label + "=$VALUE*)"
		}
		if f := template(set.Text(filter), otherwise); label != "" || f != "" {
			s.Items[i] = Item{Label: printable(cmp.Or(label, fmt.Sprintf("item %d", i+3))), Filter: f}
		}
	}
	filters := map[string]string{"LDAP_Last_Name_Filter": s.Last, "LDAP_First_Name_Filter": s.First}
	for i, x := range s.Items {
		if x.Filter == "" && x.Label != "" {
			return s, fault(ringfence.KindInvalid, fmt.Sprintf("LDAP_Search_Item_%d is no attribute, and LDAP_item_%d_Filter says no filter for it", i+3, i+3), "write (title=$VALUE*)", nil)
		}
		if x.Filter != "" {
			filters[fmt.Sprintf("LDAP_item_%d_Filter", i+3)] = x.Filter
		}
	}
	for name, filter := range filters {
		if !strings.Contains(filter, "$VALUE") {
			return s, fault(ringfence.KindInvalid, fmt.Sprintf("%s (%s) has no $VALUE: it would find the same whatever is typed", name, set.Get(name).Where()), "write (sn=$VALUE*)", nil)
		}
		if _, err := ParseFilter(strings.ReplaceAll(filter, "$VALUE", "x")); err != nil {
			return s, fault(ringfence.KindInvalid, fmt.Sprintf("%s (%s) is no filter", name, set.Get(name).Where()), "write (sn=$VALUE*)", err)
		}
	}
	if s.Shown, err = ParseDisplay(cmp.Or(set.Text("LDAP_Display_Attrs"), defaultShown)); err != nil {
		return s, fault(ringfence.KindInvalid, "LDAP_Display_Attrs ("+set.Get("LDAP_Display_Attrs").Where()+") cannot be read", "", err)
	}
	if s.Number, err = ParseMapping(set.Text("LDAP_Number_Mapping")); err != nil {
		return s, fault(ringfence.KindInvalid, "LDAP_Number_Mapping ("+set.Get("LDAP_Number_Mapping").Where()+") cannot be read", "write (<:9>xx.) to put a 9 before each number", err)
	}
	return s, nil
}

// template takes a filter out of a parameter, before which the name of an attribute and a colon can stand.
func template(text, otherwise string) string {
	if name, rest, ok := strings.Cut(text, ":"); ok && isAttribute(strings.TrimSpace(name)) {
		text = rest
	}
	return cmp.Or(strings.TrimSpace(text), otherwise)
}

// Attributes are those that a search asks for.
func (s Settings) Attributes() (out []string) {
	for _, x := range s.Shown {
		out = append(out, x.Attribute)
	}
	return out
}

// Contact is a person as the phone shows them.
type Contact struct {
	DN     string  `json:"dn"`
	Fields []Field `json:"fields"`
}

// Field is one value of a contact.
type Field struct {
	Label string `json:"label"`
	Value string `json:"value"`
	Phone bool   `json:"phone,omitempty"`
	Dial  string `json:"dial,omitempty"` // of a number: what is dialled, with LDAP_Number_Mapping; empty: it cannot be
}

// Contact makes a contact of an entry.
func (s Settings) Contact(e Entry) Contact {
	c := Contact{DN: e.DN, Fields: []Field{}}
	for _, x := range s.Shown {
		for _, a := range e.Attributes {
			if !strings.EqualFold(a.Name, x.Attribute) {
				continue
			}
			for _, v := range a.Values {
				f := Field{Label: x.Label, Value: v, Phone: x.Phone}
				if x.Phone {
					f.Dial = s.Number.Apply(Dialled(v))
				}
				c.Fields = append(c.Fields, f)
			}
		}
	}
	return c
}

// Sort puts contacts in the order of what is shown first of each, whatever the case of its letters.
func Sort(contacts []Contact) {
	key := func(c Contact) string {
		if len(c.Fields) == 0 {
			return ""
		}
		return strings.ToLower(c.Fields[0].Value)
	}
	slices.SortStableFunc(contacts, func(a, b Contact) int { return cmp.Or(cmp.Compare(key(a), key(b)), cmp.Compare(a.DN, b.DN)) })
}
