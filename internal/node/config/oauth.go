package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ringfence"
)

// ownClient is the program that needs no mention: our phone.
const ownClient = "ringfence"

// checkOAuth checks the programs that may be signed in. An authorization code may be sent over TLS, to a program on the same host, or to
// a scheme of the program's own (RFC 8252 section 7).
func (c Config) checkOAuth() (wrong []Wrong) {
	id := regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	var seen []string
	for i, cl := range c.OAuth.Clients {
		key := fmt.Sprintf("oauth.clients[%d]", i)
		switch {
		case !id.MatchString(cl.ID):
			wrong = append(wrong, Wrong{key + ".id", fmt.Sprintf("%.80q is no name of 1 to 64 letters, digits and . _ -", cl.ID)})
		case cl.ID == ownClient || slices.Contains(seen, cl.ID):
			wrong = append(wrong, Wrong{key + ".id", fmt.Sprintf("%q is there already", cl.ID)})
		}
		seen = append(seen, cl.ID)
		for j, r := range cl.Redirects {
			if text := badRedirect(r); text != "" {
				wrong = append(wrong, Wrong{fmt.Sprintf("%s.redirects[%d]", key, j), fmt.Sprintf("%.80q %s", r, text)})
			}
		}
	}
	return append(wrong, c.OAuth.Provider.check()...)
}

// Endpoint returns where the provider is; it is zero if there is none.
func (o OpenID) Endpoint() (Endpoint, error) {
	if o.Issuer == "" {
		return Endpoint{}, nil
	}
	bad := &ringfence.Fault{Op: "config.endpoint", Kind: ringfence.KindInvalid, Text: fmt.Sprintf("%.80q is no name of an OpenID provider, which is an https address without query and fragment", o.Issuer)}
	u, err := url.Parse(o.Issuer)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" || strings.ContainsAny(o.Issuer, "?#") || len(o.Issuer) > 512 {
		return Endpoint{}, bad
	}
	port := uint64(443)
	if text := u.Port(); text != "" {
		if port, err = strconv.ParseUint(text, 10, 16); err != nil || port == 0 {
			return Endpoint{}, bad
		}
	}
	return Endpoint{Scheme: "https", Host: u.Hostname(), Port: uint16(port)}, nil
}

func (o OpenID) check() (wrong []Wrong) {
	const key = "oauth.provider."
	say := func(name, text string) { wrong = append(wrong, Wrong{key + name, text}) }
	if o.Issuer == "" {
		if o != (OpenID{}) {
			say("issuer", "the provider has no name")
		}
		return wrong
	}
	if _, err := o.Endpoint(); err != nil {
		say("issuer", textOf(err))
	}
	shown := regexp.MustCompile(`^[!-~]{1,256}$`)
	if !shown.MatchString(o.ClientID) {
		say("client-id", fmt.Sprintf("%.80q is not what a provider can know this node by", o.ClientID))
	}
	if o.Claim != "" && !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_:/.-]{0,127}$`).MatchString(o.Claim) {
		say("claim", fmt.Sprintf("%.80q is no name of a claim", o.Claim))
	}
	if o.Strip != "" && !shown.MatchString(o.Strip) {
		say("strip", fmt.Sprintf("%.80q cannot end a claim", o.Strip))
	}
	if o.Claim == "email" && !strings.HasPrefix(o.Strip, "@") {
		say("strip", "an address of somewhere else would be another person: say which ending counts, such as @example.org")
	}
	return wrong
}

func badRedirect(r string) string {
	u, err := url.Parse(r)
	if err != nil || u.Scheme == "" || u.Fragment != "" || u.User != nil || len(r) > 512 {
		return "is no address for an answer"
	}
	switch u.Scheme {
	case "https":
		if u.Host == "" {
			return "names no host"
		}
	case "http":
		if ip, err := netip.ParseAddr(u.Hostname()); err != nil || !ip.IsLoopback() {
			return "would send the code in the clear; use https, or http://127.0.0.1/ for a program on the same host"
		}
	case "javascript", "data", "file", "about", "blob", "vbscript":
		return "is no address for an answer"
	}
	return ""
}
