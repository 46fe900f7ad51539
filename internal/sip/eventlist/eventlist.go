package eventlist

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"unicode"

	"ringfence"
)

// Bounds of a body.
const (
	MaxBody      = 512 << 10 // bytes
	maxParts     = 512
	maxResources = 512
	maxInstances = 4 // of a resource
	maxURI       = 256
	maxName      = 128
	maxCID       = 256
)

// ListType is the type of the list itself.
const ListType = "application/rlmi+xml"

// List is the list as one NOTIFY tells of it.
type List struct {
	URI       string
	Version   uint32 // 0 for the first one of a subscription, one more for each (section 5.1)
	Full      bool   // every resource is there; else those alone of which there is news (section 5.2)
	Resources []Resource
}

// Resource is one resource of a list.
type Resource struct {
	URI       string
	Name      string // for people; may be empty
	Instances []Instance
}

// Instance is one subscription of the server's to a resource.
type Instance struct {
	ID     string
	State  string // active, pending or terminated
	Reason string // of terminated
	Type   string // of Body, such as application/dialog-info+xml; empty if there is nothing new
	Body   []byte
}

func bad(format string, args ...any) error {
	return &ringfence.Fault{Op: "eventlist", Kind: ringfence.KindInvalid, Text: fmt.Sprintf(format, args...)}
}

// part is one part of a body.
type part struct {
	kind string
	body []byte
}

// Parse reads a body with its Content-Type. The errors are KindInvalid faults.
func Parse(contentType string, body []byte) (List, error) {
	if len(body) > MaxBody || len(contentType) > 1024 {
		return List{}, bad("what the server tells of the list is too long")
	}
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil || kind != "multipart/related" || params["boundary"] == "" {
		return List{}, bad("%.60q is not what a list comes in", contentType)
	}
	parts, first, err := split(body, params["boundary"])
	if err != nil {
		return List{}, err
	}
	root, ok := first, true
	if start := params["start"]; start != "" { // RFC 2387 section 3.2
		root, ok = parts[unbracket(start)]
	}
	if !ok || root.kind != ListType {
		return List{}, bad("the body does not begin with a list (%s)", ListType)
	}
	return read(root.body, parts)
}

// split returns the parts of a body by Content-ID, and the first one.
func split(body []byte, boundary string) (parts map[string]part, first part, err error) {
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	parts = map[string]part{}
	for n := 0; ; n++ {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) && n > 0 {
			return parts, first, nil
		}
		if err == nil && n >= maxParts {
			return nil, first, bad("the body has more than %d parts", maxParts)
		}
		var b []byte
		if err == nil {
			b, err = io.ReadAll(p) // no more than body
		}
		if err != nil {
			return nil, first, &ringfence.Fault{Op: "eventlist", Kind: ringfence.KindInvalid, Text: "the parts of the body cannot be told apart", Err: err}
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type")) // what has none is nothing that is looked for
		x := part{kind, b}
		if n == 0 {
			first = x
		}
		id := unbracket(p.Header.Get("Content-ID"))
		if _, twice := parts[id]; id == "" || len(id) > maxCID || twice {
			continue
		}
		parts[id] = x
	}
}

func unbracket(id string) string {
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(id), "<"), ">")
}

// shown is a text for people, without what a terminal would obey.
func shown(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s))
	return strings.ToValidUTF8(s[:min(len(s), maxName)], "")
}

// read reads the list, and finds the parts that it names.
func read(text []byte, parts map[string]part) (List, error) {
	if bytes.Contains(text, []byte("<!DOCTYPE")) {
		return List{}, bad("the list has a document type, which it must not")
	}
	var doc struct {
		XMLName   xml.Name `xml:"list"`
		URI       string   `xml:"uri,attr"`
		Version   *uint32  `xml:"version,attr"`
		Full      string   `xml:"fullState,attr"`
		Resources []struct {
			URI       string   `xml:"uri,attr"`
			Names     []string `xml:"name"`
			Instances []struct {
				ID     string `xml:"id,attr"`
				State  string `xml:"state,attr"`
				Reason string `xml:"reason,attr"`
				CID    string `xml:"cid,attr"`
			} `xml:"instance"`
		} `xml:"resource"`
	}
	if err := xml.Unmarshal(text, &doc); err != nil {
		return List{}, &ringfence.Fault{Op: "eventlist", Kind: ringfence.KindInvalid, Text: "the list cannot be read", Err: err}
	}
	full := strings.TrimSpace(doc.Full)
	if doc.Version == nil || full != "true" && full != "1" && full != "false" && full != "0" {
		return List{}, bad("the list does not say which version it is, or whether it is whole")
	}
	if len(doc.Resources) > maxResources {
		return List{}, bad("the list has more than %d resources", maxResources)
	}
	out := List{URI: strings.TrimSpace(doc.URI), Version: *doc.Version, Full: full == "true" || full == "1"}
	for _, r := range doc.Resources {
		x := Resource{URI: strings.TrimSpace(r.URI)}
		if x.URI == "" || len(x.URI) > maxURI || strings.ContainsFunc(x.URI, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`<>"`, c) }) {
			return List{}, bad("the list has %.60q, which is no address", r.URI)
		}
		if len(r.Names) > 0 {
			x.Name = shown(r.Names[0])
		}
		if len(r.Instances) > maxInstances {
			return List{}, bad("%s is there more than %d times", x.URI, maxInstances)
		}
		for _, i := range r.Instances {
			y := Instance{ID: i.ID, State: strings.ToLower(i.State), Reason: shown(i.Reason)}
			if y.State != "active" && y.State != "pending" && y.State != "terminated" {
				return List{}, bad("the state of %s is %.20q, which is none", x.URI, i.State)
			}
			if p, ok := parts[unbracket(i.CID)]; ok && i.CID != "" {
				y.Type, y.Body = p.kind, p.body
			}
			x.Instances = append(x.Instances, y)
		}
		out.Resources = append(out.Resources, x)
	}
	return out, nil
}
