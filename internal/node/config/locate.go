package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// empty reports whether a file says nothing, as one with comments only.
func empty(file *ast.File) bool {
	for _, d := range file.Docs {
		switch d.Body.(type) {
		case nil, *ast.NullNode, *ast.CommentGroupNode:
		default:
			return false
		}
	}
	return true
}

// located words an error of the YAML decoder as "file:line:column: what".
func located(name string, file *ast.File, err error) string {
	if e, ok := errors.AsType[yaml.Error](err); ok && e.GetToken() != nil && e.GetToken().Position != nil {
		at := e.GetToken().Position
		return fmt.Sprintf("%s:%d:%d: %s", name, at.Line, at.Column, firstLine(e.GetMessage()))
	}
	// The decoder does not say where when a value refuses its text; only addresses do that here.
	for _, key := range [...]string{"sip.tls", "sip.wss", "sip.plain", "sip.reached-at", "media.addr", "media.advertise", "api.https"} {
		n := find(file, key)
		if s, ok := n.(*ast.StringNode); ok {
			_, notAddr := netip.ParseAddr(s.Value)
			_, notPort := netip.ParseAddrPort(s.Value)
			if wants := strings.HasPrefix(key, "media."); wants && notAddr != nil || !wants && notPort != nil {
				return fmt.Sprintf("%s%s: %s: %.80q: %s", name, position(file, key), key, s.Value, firstLine(err.Error()))
			}
		}
	}
	return name + ": " + firstLine(err.Error())
}

func find(file *ast.File, key string) ast.Node {
	p, err := yaml.PathString("$." + key)
	if err != nil || file == nil {
		return nil
	}
	n, err := p.FilterFile(file)
	if err != nil || n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return nil
	}
	return n
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// locatedAll words what is wrong, each with the line of the key, or of the nearest key above it that the file has.
func locatedAll(name string, file *ast.File, wrong []Wrong) string {
	lines := make([]string, len(wrong))
	for i, w := range wrong {
		lines[i] = name + position(file, w.Key) + ": " + w.String()
		if w.Key == "" {
			lines[i] = name + ": " + w.Text
		}
	}
	return strings.Join(lines, "\n")
}

// position returns ":line:column" of a key, or "" if the file has neither the key nor one above it.
func position(file *ast.File, key string) string {
	for key != "" {
		if n := find(file, key); n != nil {
			at := n.GetToken().Position
			return fmt.Sprintf(":%d:%d", at.Line, at.Column)
		}
		cut := strings.LastIndexAny(key, ".[")
		key = key[:max(cut, 0)]
	}
	return ""
}
