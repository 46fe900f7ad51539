package directory

import (
	"cmp"
	"fmt"
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
	Shown  []Shown
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
	for name, filter := range map[string]string{"LDAP_Last_Name_Filter": s.Last, "LDAP_First_Name_Filter": s.First} {
		if _, err := ParseFilter(strings.ReplaceAll(filter, "$VALUE", "x")); err != nil {
			return s, fault(ringfence.KindInvalid, fmt.Sprintf("%s (%s) is no filter", name, set.Get(name).Where()), "write (sn=$VALUE*)", err)
		}
	}
	if s.Shown, err = ParseDisplay(cmp.Or(set.Text("LDAP_Display_Attrs"), defaultShown)); err != nil {
		return s, fault(ringfence.KindInvalid, "LDAP_Display_Attrs ("+set.Get("LDAP_Display_Attrs").Where()+") cannot be read", "", err)
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
				c.Fields = append(c.Fields, Field{x.Label, v, x.Phone})
			}
		}
	}
	return c
}
