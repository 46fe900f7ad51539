package cwmp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"

	"ringfence"
)

// Bounds of an envelope.
const (
	MaxEnvelope = 1 << 20
	maxNodes    = 20_000
	maxDepth    = 16
	maxText     = 64 << 10
)

// Namespaces of SOAP 1.1 and of CWMP, which has one for each version.
const (
	nsEnvelope = "http://schemas.xmlsoap.org/soap/envelope/"
	nsEncoding = "http://schemas.xmlsoap.org/soap/encoding/"
	nsCWMP     = "urn:dslforum-org:cwmp-1-"
)

// node is one element. Names are local ones: an ACS may call its namespaces what it likes.
type node struct {
	name     string
	space    string
	attr     []xml.Attr
	text     string
	children []*node
}

// child returns the first child of a name, or an empty one.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return &node{}
}

func (n *node) value(name string) string { return n.child(name).text }

// Envelope is one message of an ACS.
type Envelope struct {
	ID     string // to be sent back with the answer
	Hold   bool   // HoldRequests
	Method string // "" if the body is empty
	CWMP   string // its namespace
	body   *node
}

func bad(text string) error {
	return &ringfence.Fault{Op: "cwmp.parse", Kind: ringfence.KindInvalid, Text: text}
}

// ParseEnvelope reads a message of an ACS, with its limits before anything else. Document types are refused.
func ParseEnvelope(b []byte) (e Envelope, err error) {
	if len(b) > MaxEnvelope {
		return e, bad("the envelope is larger than 1 MiB")
	}
	root, err := tree(b)
	if err != nil {
		return e, err
	}
	if root.name != "Envelope" || root.space != nsEnvelope {
		return e, bad("this is no envelope of SOAP 1.1")
	}
	header := root.child("Header")
	for _, h := range header.children {
		switch h.name {
		case "ID":
			e.ID = h.text
		case "HoldRequests":
			e.Hold = h.text == "1" || h.text == "true"
		case "NoMoreRequests", "SessionTimeout":
		default:
			for _, a := range h.attr { // SOAP 1.1 section 4.2.3
				if a.Name.Local == "mustUnderstand" && a.Value == "1" {
					return e, bad("a header must be understood that nobody knows: " + h.name)
				}
			}
		}
	}
	if len(e.ID) > 256 {
		return e, bad("the ID of the envelope is too long")
	}
	body := root.child("Body")
	if len(body.children) > 1 {
		return e, bad("the body has more than one message")
	}
	if len(body.children) == 1 {
		e.body = body.children[0]
		e.Method, e.CWMP = e.body.name, e.body.space
		if e.Method != "Fault" && !strings.HasPrefix(e.CWMP, nsCWMP) {
			return e, bad("the message is none of CWMP")
		}
	}
	return e, nil
}

func tree(b []byte) (*node, error) {
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "iso-8859-1") {
			return in, nil
		}
		return nil, errors.New("the encoding " + charset + " is not read here")
	}
	var root *node
	var open []*node
	count := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && root != nil && len(open) == 0 {
			return root, nil
		}
		if err != nil {
			return nil, &ringfence.Fault{Op: "cwmp.parse", Kind: ringfence.KindInvalid, Text: "the envelope is no XML", Err: err}
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, bad("a document type has no place in an envelope")
		case xml.StartElement:
			if count++; count > maxNodes || len(open) >= maxDepth || len(t.Attr) > 32 {
				return nil, bad("the envelope has more than can be read")
			}
			n := &node{name: t.Name.Local, space: t.Name.Space, attr: t.Attr}
			switch {
			case len(open) > 0:
				p := open[len(open)-1]
				p.children = append(p.children, n)
			case root != nil:
				return nil, bad("there is something behind the envelope")
			default:
				root = n
			}
			open = append(open, n)
		case xml.CharData:
			if len(open) > 0 {
				n := open[len(open)-1]
				if len(n.text)+len(t) > maxText {
					return nil, bad("a text is too long")
				}
				n.text += string(t)
			}
		case xml.EndElement:
			n := open[len(open)-1]
			n.text = strings.TrimSpace(n.text)
			open = open[:len(open)-1]
		}
	}
}

// writer writes XML.
type writer struct{ bytes.Buffer }

func (w *writer) escaped(s string) {
	_ = xml.EscapeText(w, []byte(strings.ToValidUTF8(s, "?"))) // a buffer takes everything
}

// leaf writes an element with a text.
func (w *writer) leaf(name, text string) {
	w.WriteString("<" + name + ">")
	w.escaped(text)
	w.WriteString("</" + name + ">")
}

// list opens an array of SOAP's encoding.
func (w *writer) list(name, of string, n int) {
	w.WriteString("<" + name + ` soap-enc:arrayType="` + of + "[" + strconv.Itoa(n) + `]">`)
}

// value writes a parameter with its value and its type.
func (w *writer) value(v Value) {
	w.WriteString("<ParameterValueStruct>")
	w.leaf("Name", v.Name)
	w.WriteString(`<Value xsi:type="` + string(v.Type) + `">`)
	w.escaped(v.Value)
	w.WriteString("</Value></ParameterValueStruct>")
}

// envelope wraps a body.
func envelope(cwmp, id string, body func(w *writer)) []byte {
	w := &writer{}
	w.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<soap-env:Envelope xmlns:soap-env="` + nsEnvelope + `" xmlns:soap-enc="` + nsEncoding + `" xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:cwmp="`)
	w.escaped(cwmp)
	w.WriteString(`"><soap-env:Header>`)
	if id != "" {
		w.WriteString(`<cwmp:ID soap-env:mustUnderstand="1">`)
		w.escaped(id)
		w.WriteString("</cwmp:ID>")
	}
	w.WriteString("</soap-env:Header><soap-env:Body>")
	body(w)
	w.WriteString("</soap-env:Body></soap-env:Envelope>\n")
	return w.Bytes()
}
