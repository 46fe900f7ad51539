package flatprofile

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"ringfence"
)

// Bounds of a file.
const (
	MaxSize     = 10 << 20 // bytes
	maxElements = 20_000
	maxDepth    = 8
	maxName     = 128 // bytes of an element's name
	maxProblems = 1000
)

// Root is the name of the element around all others.
const Root = "flat-profile"

// Element is one parameter as the file has it.
type Element struct {
	Name   string `json:"name"`
	Value  string `json:"value"` // trimmed, with blanks for line ends, as a phone takes it
	UA     string `json:"ua,omitempty"`
	Line   int    `json:"line"`
	Depth  int    `json:"-"` // 2 below the root
	Nested bool   `json:"-"` // it has elements of its own
	// Other are attributes besides ua.
	Other []string `json:"-"`
}

// File is a configuration file.
type File struct {
	Root     string
	RootLine int
	Elements []Element // in the order of the file, without the root
	Stray    []int     // lines on which text stands between elements
}

// Parse reads a cfg.xml, with its limits before anything else. It fails where a phone would take nothing of the file: no XML, a document
// type (and with it entities of one's own), an encoding that is no superset of ASCII.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxSize {
		return nil, bad(1, "the file is larger than 10 MiB")
	}
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = func(charset string, in io.Reader) (io.Reader, error) {
		if strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "iso-8859-1") {
			return in, nil
		}
		return nil, errors.New("the encoding " + charset + " is not read here")
	}
	line := func() int { n, _ := d.InputPos(); return n }
	f := &File{}
	var open []int // elements that have not ended; -1 is the root
	var text strings.Builder
	ended := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && ended {
			return f, nil
		}
		if err != nil {
			return nil, bad(line(), "the file is no XML: "+cause(err))
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, bad(line(), "a document type has no place in a phone's file")
		case xml.StartElement:
			switch {
			case ended:
				return nil, bad(line(), "there is something behind the end of the file's one element")
			case len(f.Elements) >= maxElements || len(open) >= maxDepth:
				return nil, bad(line(), "the file has more than a phone's parameters")
			case len(t.Name.Local) > maxName:
				return nil, bad(line(), "the name of an element is longer than any of a phone's parameters")
			}
			if len(open) == 0 {
				f.Root, f.RootLine = t.Name.Local, line()
				open = append(open, -1)
				break
			}
			if at := open[len(open)-1]; at >= 0 {
				f.Elements[at].Nested = true
			}
			e := Element{Name: t.Name.Local, Line: line(), Depth: len(open) + 1}
			for _, a := range t.Attr {
				if a.Name.Local == "ua" {
					e.UA = a.Value
				} else {
					e.Other = append(e.Other, a.Name.Local)
				}
			}
			open = append(open, len(f.Elements))
			f.Elements = append(f.Elements, e)
			text.Reset()
		case xml.CharData:
			if len(open) > 1 {
				text.Write(t)
			} else if len(open) == 1 && len(bytes.TrimSpace(t)) > 0 && len(f.Stray) < maxProblems {
				f.Stray = append(f.Stray, line())
			}
		case xml.EndElement:
			at := open[len(open)-1]
			if open = open[:len(open)-1]; at < 0 {
				ended = true
			} else {
				f.Elements[at].Value = oneLine(text.String())
			}
			text.Reset()
		}
	}
}

// oneLine trims a value and puts blanks for the ends of lines.
func oneLine(s string) string {
	return strings.TrimSpace(strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ").Replace(s))
}

func cause(err error) string {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, "XML syntax error on line "); ok {
		_, text, _ = strings.Cut(rest, ": ")
	}
	return text
}

func bad(line int, text string) error {
	return &ringfence.Fault{Op: "flatprofile.parse", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("line %d: %s", line, text), Hint: "a phone would take nothing of the file"}
}
