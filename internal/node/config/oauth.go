package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
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
