package directory

import (
	"fmt"
	"slices"
	"strings"

	"ringfence"
)

// Message is what a server said.
type Message struct {
	ID      uint32
	Op      byte
	Code    uint32 // of a result (RFC 4511 section 4.1.9)
	Text    string
	SASL    []byte // of a bind
	Entry   Entry
	Cookie  []byte // of a page (RFC 2696); empty: there is no further one
	hasSASL bool
}

// Entry is one person, as the directory has them.
type Entry struct {
	DN         string
	Attributes []Attribute
}

// Attribute is one attribute with its values.
type Attribute struct {
	Name   string
	Values []string
}

const (
	maxValue  = 1024 // bytes of a value that is kept; longer ones are no names and numbers
	maxValues = 32
	maxDN     = 1024
)

// ParseMessage reads a message of a server.
func ParseMessage(b []byte) (m Message, err error) {
	outer, rest, err := next(b)
	if err != nil {
		return m, err
	}
	parts, err := all(outer.body)
	if err != nil || outer.tag != tagSequence || len(rest) > 0 || len(parts) < 2 || parts[0].tag != tagInteger {
		return m, bad("this is no message of LDAP")
	}
	id, ok := parts[0].number()
	if !ok {
		return m, bad("a message has no number")
	}
	m.ID, m.Op = id, parts[1].tag
	switch m.Op {
	case opBindAnswer, opSearchDone, opExtendedDone:
		if err := m.result(parts[1].body); err != nil {
			return m, err
		}
		if m.Op == opSearchDone && len(parts) > 2 && parts[2].tag == contextual|constructed {
			m.Cookie, err = pageCookie(parts[2].body)
		}
		return m, err
	case opEntry:
		m.Entry, err = entry(parts[1].body)
		return m, err
	case opReference:
		return m, nil // where else one could ask; a phone asks the one server
	}
	return m, bad(fmt.Sprintf("operation %d is none of an answer", m.Op&highTag))
}

// pagedResults is the control for answers in pages (RFC 2696).
const pagedResults = "1.2.840.113556.1.4.319"

// maxCookie is how much a server can have a phone remember of a search.
const maxCookie = 4096

// page writes the control that asks for a page. It is not critical: a server that knows none gives what it gives.
func page(size int, cookie []byte) []byte {
	value := tlv(tagSequence, integer(tagInteger, uint32(size)), tlv(tagOctets, cookie))
	return tlv(contextual|constructed, tlv(tagSequence, octets(pagedResults), tlv(tagOctets, value)))
}

// pageCookie reads where the next page begins, of the controls of an answer.
func pageCookie(b []byte) ([]byte, error) {
	controls, err := all(b)
	if err != nil {
		return nil, err
	}
	for _, c := range controls {
		parts, err := all(c.body)
		if err != nil || len(parts) < 1 || parts[0].tag != tagOctets {
			return nil, bad("a control is ill-formed")
		}
		if string(parts[0].body) != pagedResults {
			continue
		}
		last := parts[len(parts)-1]
		value, rest, err := next(last.body)
		if err != nil || last.tag != tagOctets || len(rest) > 0 || value.tag != tagSequence {
			return nil, bad("a page has no place")
		}
		inner, err := all(value.body)
		if err != nil || len(inner) != 2 || inner[1].tag != tagOctets || len(inner[1].body) > maxCookie {
			return nil, bad("a page has no place")
		}
		return slices.Clone(inner[1].body), nil
	}
	return nil, nil
}

func (m *Message) result(b []byte) error {
	parts, err := all(b)
	if err != nil || len(parts) < 3 || parts[0].tag != tagEnumerated || parts[1].tag != tagOctets || parts[2].tag != tagOctets {
		return bad("a result is ill-formed")
	}
	code, ok := parts[0].number()
	if !ok {
		return bad("a result has no code")
	}
	m.Code, m.Text = code, printable(string(parts[2].body))
	for _, p := range parts[3:] {
		if m.Op == opBindAnswer && p.tag == contextual|7 {
			m.SASL, m.hasSASL = slices.Clone(p.body), true
		}
	}
	return nil
}

func entry(b []byte) (e Entry, err error) {
	parts, err := all(b)
	if err != nil || len(parts) != 2 || parts[0].tag != tagOctets || parts[1].tag != tagSequence || len(parts[0].body) > maxDN {
		return e, bad("an entry is ill-formed")
	}
	e.DN = printable(string(parts[0].body))
	attributes, err := all(parts[1].body)
	if err != nil {
		return e, err
	}
	for _, a := range attributes {
		pair, err := all(a.body)
		if err != nil || len(pair) != 2 || pair[0].tag != tagOctets || pair[1].tag != tagSet {
			return e, bad("an attribute is ill-formed")
		}
		values, err := all(pair[1].body)
		if err != nil {
			return e, err
		}
		x := Attribute{Name: printable(string(pair[0].body[:min(len(pair[0].body), maxValue)]))}
		for _, v := range values {
			if v.tag == tagOctets && len(v.body) <= maxValue && len(x.Values) < maxValues {
				x.Values = append(x.Values, printable(string(v.body)))
			}
		}
		e.Attributes = append(e.Attributes, x)
	}
	return e, nil
}

// printable puts question marks for what a screen would obey, and for what is no UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// failed makes an error of a result.
func (m Message) failed(doing string) error {
	kind, hint := ringfence.KindUnavailable, ""
	switch m.Code {
	case 0:
		return nil
	case 7, 48: // authMethodNotSupported, inappropriateAuthentication
		kind, hint = ringfence.KindUnsupported, "the server takes another LDAP_Auth_Method"
	case 8, 13: // strongerAuthRequired, confidentialityRequired
		kind, hint = ringfence.KindInsecure, "the server wants TLS, or another LDAP_Auth_Method"
	case 49:
		kind, hint = ringfence.KindUnauthenticated, "see LDAP_Client_DN, LDAP_Username and LDAP_Password"
	case 50:
		kind, hint = ringfence.KindDenied, "who binds may not search there"
	case 32:
		kind, hint = ringfence.KindNotFound, "see LDAP_Search_Base"
	case 2, 18, 34: // protocolError, inappropriateMatching, invalidDNSyntax
		kind, hint = ringfence.KindInvalid, "see LDAP_Search_Base, LDAP_Client_DN and the filters"
	case 3:
		kind = ringfence.KindTimeout
	case 51, 52:
		kind = ringfence.KindOverload
	}
	text := fmt.Sprintf("%s: the directory answers %d", doing, m.Code)
	if m.Text != "" {
		text += " (" + m.Text + ")"
	}
	return fault(kind, text, hint, nil)
}

func fault(kind ringfence.Kind, text, hint string, err error) error {
	return &ringfence.Fault{Op: "directory", Kind: kind, Text: text, Hint: hint, Err: err}
}
