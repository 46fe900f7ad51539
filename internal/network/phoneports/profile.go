package phoneports

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"ringfence"
)

// Profile is a phone's configuration file: flat, one element for each parameter, of which the last counts.
type Profile struct {
	values map[string]value
}

type value struct {
	text string
	line int
}

// Bounds of a file.
const (
	MaxSize     = 1 << 20 // bytes
	maxElements = 20_000
	maxDepth    = 8
)

// ParseProfile reads a cfg.xml.
func ParseProfile(b []byte) (*Profile, error) {
	bad := func(line int, text string) error {
		return &ringfence.Fault{Op: "phoneports.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("line %d: %s", line, text), Hint: "a phone would take nothing of the file"}
	}
	if len(b) > MaxSize {
		return nil, bad(1, "the file is larger than 1 MiB")
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "iso-8859-1") {
			return in, nil
		}
		return nil, errors.New("the encoding " + charset + " is not read here")
	}
	p := &Profile{values: map[string]value{}}
	line := func() int { n, _ := d.InputPos(); return n }
	var names []string
	var text strings.Builder
	elements := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && len(names) == 0 && elements > 0 {
			return p, nil
		}
		if err != nil {
			return nil, bad(line(), "the file is no XML: "+strings.TrimPrefix(err.Error(), "XML syntax error on "))
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, bad(line(), "a document type has no place in a phone's file")
		case xml.StartElement:
			if elements++; elements > maxElements || len(names) >= maxDepth {
				return nil, bad(line(), "the file has more than a phone's parameters")
			}
			names = append(names, t.Name.Local)
			text.Reset()
		case xml.CharData:
			text.Write(t)
		case xml.EndElement:
			p.values[names[len(names)-1]] = value{strings.Join(strings.Fields(text.String()), " "), line()}
			names = names[:len(names)-1]
			text.Reset()
		}
	}
}

// get returns a parameter, or its default, and how it came to that.
func (p *Profile) get(name, def string) (text, because string, line int) {
	v, ok := p.values[name]
	if !ok || v.text == "" {
		return def, name + " = " + def + " (default)", 0
	}
	return v.text, name + " = " + v.text, v.line
}
