package config

import (
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"ringfence"
	"ringfence/internal/trust/tlspolicy"
)

// withTLS returns the text of a configuration with another tree of TLS settings. Everything else stays as it was written, line by line.
func withTLS(text string, tree tlspolicy.Tree) (string, error) {
	const op = "config.edit"
	b, err := yaml.Marshal(map[string]tlspolicy.Tree{"tls": tree})
	if err != nil {
		return "", &ringfence.Fault{Op: op, Kind: ringfence.KindInternal, Text: "the settings cannot be written", Err: err}
	}
	section := string(b)
	if len(tree) == 0 {
		section = ""
	}
	file, err := parser.ParseBytes([]byte(text), parser.ParseComments)
	if err != nil {
		return "", &ringfence.Fault{Op: op, Kind: ringfence.KindInvalid, Text: "the configuration cannot be read", Err: err}
	}
	first, last, err := sectionOf(file, "tls")
	if err != nil {
		return "", err
	}
	lines := strings.SplitAfter(text, "\n")
	if first == 0 {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + section, nil
	}
	if last == 0 {
		last = len(lines)
		if lines[last-1] != "" && section != "" && !strings.HasSuffix(section, "\n") {
			section += "\n"
		}
	}
	return strings.Join(lines[:first-1], "") + section + strings.Join(lines[last:], ""), nil
}

// sectionOf returns the lines of a key at the top of a file, from 1: the first, and the last before the next key. The first is 0 if the file has no such key,
// the last is 0 if it is the last key.
func sectionOf(file *ast.File, key string) (first, last int, err error) {
	for _, d := range file.Docs {
		m, ok := d.Body.(*ast.MappingNode)
		if !ok {
			if one, single := d.Body.(*ast.MappingValueNode); single {
				m, ok = &ast.MappingNode{Values: []*ast.MappingValueNode{one}}, true
			}
		}
		if !ok {
			continue
		}
		if m.IsFlowStyle {
			return 0, 0, &ringfence.Fault{Op: "config.edit", Kind: ringfence.KindUnsupported, Text: "the configuration file is written as one {…}", Hint: "write it with a key a line, or use `ringfence config apply`"}
		}
		for i, v := range m.Values {
			if v.Key.GetToken().Value != key {
				continue
			}
			first = v.Key.GetToken().Position.Line
			if i+1 < len(m.Values) {
				next := m.Values[i+1]
				last = next.Key.GetToken().Position.Line - 1
				if c := next.GetComment(); c != nil { // it belongs to what comes after it
					last = c.GetToken().Position.Line - 1
				}
			}
			return first, last, nil
		}
	}
	return 0, 0, nil
}
