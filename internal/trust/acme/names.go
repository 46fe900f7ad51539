package acme

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"ringfence"
)

// Policy says what an account may order.
type Policy interface {
	// Allow returns a fault whose text says why the account of a binding may not have the name; nil if it may.
	Allow(ctx context.Context, b Binding, name Identifier) error
}

// Names is the Policy that a [Binding] carries itself: a host name ("pbx.example.org"), all host names below a domain (".example.org", of
// any depth, not the domain itself), an address ("192.0.2.7") or a network ("192.0.2.0/24"). A wildcard has to be written out
// ("*.example.org"), since it speaks for hosts that do not exist yet.
type Names struct{}

// Allow looks the name up in the binding.
func (Names) Allow(_ context.Context, b Binding, name Identifier) error {
	for _, p := range b.Names {
		if name.Type == "dns" {
			p = strings.ToLower(p)
			below := strings.HasPrefix(p, ".") && strings.HasSuffix(name.Value, p) && len(name.Value) > len(p) && name.Value[0] != '*'
			if p == name.Value || below {
				return nil
			}
			continue
		}
		addr, err := netip.ParseAddr(name.Value)
		if err != nil {
			break
		}
		if a, err := netip.ParseAddr(p); err == nil && a == addr {
			return nil
		}
		if n, err := netip.ParsePrefix(p); err == nil && n.Contains(addr) {
			return nil
		}
	}
	return fault("acme.policy", ringfence.KindDenied, "the binding "+b.ID+" does not allow "+name.Value, "an administrator can add the name to the binding", nil)
}

// readIdentifiers checks the identifiers of an order, brings them to one spelling and leaves out what is there twice.
func readIdentifiers(list []Identifier, most int) ([]Identifier, error) {
	if len(list) == 0 || len(list) > most {
		return nil, refuse("malformed", fmt.Sprintf("an order has 1 to %d identifiers", most))
	}
	var out []Identifier
	var bad []problem
	for _, id := range list {
		var p *problem
		switch id.Type {
		case "dns":
			id.Value = strings.ToLower(id.Value)
			if !isHost(strings.TrimPrefix(id.Value, "*.")) {
				p = refuse("rejectedIdentifier", "it is no host name in ASCII (RFC 5890 A-labels), and only the first label may be *")
			}
		case "ip":
			if a, err := netip.ParseAddr(id.Value); err != nil || a.Zone() != "" || a.Is4In6() || a.String() != id.Value {
				p = refuse("rejectedIdentifier", "it is no address in its shortest spelling (RFC 8738 section 3)")
			}
		default:
			p = refuse("unsupportedIdentifier", "identifiers are of type dns or ip")
		}
		if p != nil {
			p.Status, p.Identifier = 0, &Identifier{Type: clip(id.Type, 20), Value: clip(id.Value, 255)}
			bad = append(bad, *p)
			continue
		}
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out, refuseNames(bad)
}

// refuseNames returns nil for none.
func refuseNames(bad []problem) error {
	if len(bad) == 0 {
		return nil
	}
	p := refuse(strings.TrimPrefix(bad[0].Type, problemType), bad[0].Identifier.Value+": "+bad[0].Detail)
	p.Subproblems = bad
	return p
}

// clip shortens words of a stranger before they are repeated, and drops what is not printable ASCII.
func clip(s string, most int) string {
	s = s[:min(len(s), most)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

// isHost reports whether s is a host name in lower case (RFC 1123 section 2.1) that cannot be taken for an IPv4 address.
func isHost(s string) bool {
	if len(s) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
		last = label
	}
	return strings.Trim(last, "0123456789") != ""
}
