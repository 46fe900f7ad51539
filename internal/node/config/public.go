package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"ringfence"
)

// Trust is what the node gets from authorities outside.
type Trust struct {
	// Public is a certificate of a public authority for names that everybody's programs know; docs/guides/public-names.md.
	Public Public `yaml:"public,omitempty"`
}

// Public says for which names a certificate is kept, and by which authority.
type Public struct {
	Directory string   `yaml:"directory,omitempty"` // of the ACME server (RFC 8555), e.g. https://acme.example.net/directory; empty: off
	Names     []string `yaml:"names,omitempty"`     // DNS names that lead to this node
	Contact   []string `yaml:"contact,omitempty"`   // mail addresses that the authority may write to
	Agree     bool     `yaml:"agree,omitempty"`     // to the authority's terms of service
	// Challenge is how the names are shown to be ours: http-01, which is the default, or tls-alpn-01.
	Challenge string `yaml:"challenge,omitempty"`
	// Listen is where that is answered while an order runs: [::]:80 or [::]:443, unless a forwarded port leads elsewhere.
	Listen  netip.AddrPort `yaml:"listen,omitempty"`
	Alias   string         `yaml:"alias,omitempty"` // of the identity that TLS settings may name; empty: public
	Binding Binding        `yaml:"binding,omitempty"`
}

// Binding ties the ACME account to one that the authority knows already (RFC 8555 section 7.3.4).
type Binding struct {
	ID      string `yaml:"id,omitempty"`
	KeyFile string `yaml:"key-file,omitempty"` // holds the MAC key in base64url; only its owner may read it
}

// On reports whether a certificate for public names is kept.
func (p Public) On() bool { return p.Directory != "" }

// Kind returns the kind of challenge.
func (p Public) Kind() string {
	if p.Challenge == "" {
		return "http-01"
	}
	return p.Challenge
}

// At returns where challenges are answered.
func (p Public) At() netip.AddrPort {
	switch {
	case p.Listen.IsValid():
		return p.Listen
	case p.Kind() == "tls-alpn-01":
		return netip.AddrPortFrom(netip.IPv6Unspecified(), 443)
	}
	return netip.AddrPortFrom(netip.IPv6Unspecified(), 80)
}

// As returns the alias of the identity.
func (p Public) As() string {
	if p.Alias == "" {
		return "public"
	}
	return p.Alias
}

// answersTLS is where tls-alpn-01 is answered; invalid if it is not.
func (p Public) answersTLS() netip.AddrPort {
	if !p.On() || p.Kind() != "tls-alpn-01" {
		return netip.AddrPort{}
	}
	return p.At()
}

// endpoint returns the directory with its port, or nothing if it cannot be read: check says so.
func (p Public) endpoint() string {
	u, err := url.Parse(p.Directory)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return "https://" + net.JoinHostPort(u.Hostname(), port)
}

// Server returns where the directory is. The configuration must have been checked.
func (p Public) Server() (Endpoint, error) { return ParseEndpoint(p.endpoint(), "https") }

// flows declares the listener of challenges; the way to the directory is among those outside.
func (p Public) flows() []ringfence.Flow {
	if !p.On() {
		return nil
	}
	f := ringfence.Flow{Name: "public-http", Purpose: "shows an authority that a public name is ours (RFC 8555 section 8.3), in the clear since that is what it asks; open only while an order runs", Room: "trust/publicname",
		Direction: ringfence.Listens, Transport: "tcp", Addr: p.At().Addr(), Ports: ringfence.PortRange{First: p.At().Port(), Last: p.At().Port()}, Peers: "the authority that is asked for a certificate", TLS: ringfence.TLSNone}
	if p.Kind() == "tls-alpn-01" {
		f.Name, f.TLS = "public-tls", ringfence.TLSServer
		f.Purpose = "shows an authority that a public name is ours (RFC 8737); open only while an order runs"
	}
	return []ringfence.Flow{f}
}

// check returns what is wrong.
func (p Public) check() (wrong []Wrong) {
	bad := func(when bool, key, format string, args ...any) {
		if when {
			wrong = append(wrong, Wrong{"trust.public" + key, fmt.Sprintf(format, args...)})
		}
	}
	if !p.On() {
		bad(len(p.Names)+len(p.Contact)+len(p.Challenge)+len(p.Alias)+len(p.Binding.ID)+len(p.Binding.KeyFile) > 0 || p.Agree || p.Listen.IsValid(), "", "a directory is needed, the URL at which the authority's ACME begins")
		return wrong
	}
	u, err := url.Parse(p.Directory)
	if err == nil && u.User != nil { // it is not repeated
		bad(true, ".directory", "a URL with a name or password in it is no directory")
		return wrong
	}
	bad(err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Fragment != "" || len(p.Directory) > 1024 || p.endpoint() != "" && badEndpoint(p.endpoint()), ".directory", "%.120q is no https URL", p.Directory)
	const most = 100
	bad(len(p.Names) == 0 || len(p.Names) > most, ".names", "1 to %d names are needed", most)
	label := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	for i, n := range p.Names {
		key := fmt.Sprintf(".names[%d]", i)
		labels := strings.Split(n, ".")
		_, notAddr := netip.ParseAddr(n)
		switch {
		case strings.HasPrefix(n, "*."):
			bad(true, key, "%.80q is a wildcard, which is shown by dns-01 alone; name the hosts", n)
		case len(n) > 253 || len(labels) < 2 || notAddr == nil || slices.ContainsFunc(labels, func(l string) bool { return !label.MatchString(l) }):
			bad(true, key, "%.80q is no public host name in lower case", n)
		case slices.Contains(p.Names[:i], n):
			bad(true, key, "%q comes twice", n)
		}
	}
	mail := regexp.MustCompile(`^[^\s@,?]{1,64}@[A-Za-z0-9.-]{1,253}$`)
	for i, c := range p.Contact {
		bad(!mail.MatchString(c) || i > 9, fmt.Sprintf(".contact[%d]", i), "%.80q is no mail address, or the eleventh", c)
	}
	bad(p.Kind() != "http-01" && p.Kind() != "tls-alpn-01", ".challenge", "%.40q is neither http-01 nor tls-alpn-01", p.Challenge)
	alias := regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	bad(!alias.MatchString(p.As()) || slices.Contains([]string{"own", "host", "node", "tvs", "capf"}, p.As()), ".alias", "%.80q cannot be an alias: use 1 to 64 lower-case letters, digits and . _ -, and none of own, host, node, tvs, capf", p.As())
	bad((p.Binding.ID == "") != (p.Binding.KeyFile == ""), ".binding", "an id and a key-file belong together")
	return wrong
}

func badEndpoint(text string) bool {
	_, err := ParseEndpoint(text, "https")
	return err != nil
}
