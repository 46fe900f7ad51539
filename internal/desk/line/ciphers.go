package line

import (
	"crypto/tls"
	"slices"
	"strings"

	"ringfence/internal/desk/flatprofile"
	"ringfence/internal/trust/cipherlist"
)

// Application is one thing in a phone that speaks TLS.
type Application struct {
	Name   string   `json:"name"`
	From   string   `json:"from"`   // the parameter, or "its own list"
	Suites []string `json:"suites"` // as OpenSSL names them, best first
}

// Ciphers is what TLS_Cipher_List comes to.
type Ciphers struct {
	List         string        `json:"list"`
	Valid        bool          `json:"valid"` // it is set, and counts
	Why          string        `json:"why,omitempty"`
	Applications []Application `json:"applications"`
	Warnings     []string      `json:"warnings"`
	// Served are the suites up to TLS 1.2 that this phone speaks of the list of its SIP, provisioning and other connections. None: TLS 1.3 alone.
	Served []uint16 `json:"-"`
}

// curl are the applications that share one list of their own.
func curl() []string {
	return []string{"Customer CA provisioning", "E911 geolocation", "firmware and headset upgrade", "LDAPS", "LDAP with StartTLS", "picture download", "logo download", "dictionary download", "provisioning", "report upload",
		"PRT upload", "SIP over TLS", "TR-069", "WebSocket API", "XML services", "XSI services"}
}

// The lists of applications when the parameter is empty or invalid. The third holds 28 entries, of which the last is no suite but the signal of RFC 5746.
const (
	webList  = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA:AES128-SHA:DES-CBC3-SHA"
	xmppList = "HIGH:MEDIUM:AES:@STRENGTH"
	curlList = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-CHACHA20-POLY1305:" +
		"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:DHE-RSA-AES256-SHA256:ECDHE-ECDSA-AES128-SHA256:" +
		"ECDHE-RSA-AES128-SHA256:DHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA:DHE-RSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:DHE-RSA-AES128-SHA:" +
		"AES256-GCM-SHA384:AES128-GCM-SHA256:AES256-SHA256:AES128-SHA256:AES256-SHA:AES128-SHA"
)

// suites reads a list; what cannot be read has none.
func suites(list string) (names []string, parsed cipherlist.List, err error) {
	parsed, err = cipherlist.Parse(list)
	for _, s := range parsed.Suites {
		names = append(names, s.OpenSSL)
	}
	return names, parsed, err
}

// Suites works out which suites each TLS application speaks.
func Suites(set *flatprofile.Set) Ciphers {
	c := Ciphers{List: set.Text("TLS_Cipher_List"), Applications: []Application{}, Warnings: []string{}}
	names, parsed, err := suites(c.List)
	switch {
	case c.List == "":
		c.Why = "it is empty"
	case err != nil:
		c.Why = "it is invalid: " + strings.TrimPrefix(err.Error(), "cipherlist.parse: ")
	case len(names) == 0:
		c.Why = "it names no suite"
	default:
		c.Valid = true
	}
	if c.List != "" && !c.Valid {
		c.Warnings = append(c.Warnings, "TLS_Cipher_List does not count, since "+c.Why+": each application uses its own list")
	}
	add := func(name, own string) {
		a := Application{Name: name, From: "TLS_Cipher_List", Suites: names}
		if !c.Valid {
			a.From = "its own list"
			a.Suites, _, _ = suites(own)
		}
		c.Applications = append(c.Applications, a)
	}
	add("web server", webList)
	add("XMPP", xmppList)
	for _, name := range curl() {
		add(name, curlList)
	}
	if !c.Valid {
		_, parsed, _ = suites(curlList)
	}
	c.Served = parsed.Served()
	if left := len(parsed.Suites) - len(c.Served); len(c.Served) == 0 {
		c.Warnings = append(c.Warnings, "this phone speaks no suite of TLS_Cipher_List, so TLS 1.3 alone is left, which the list does not govern: it speaks suites with forward secrecy and authenticated encryption only")
	} else if left > 0 && c.Valid {
		c.Warnings = append(c.Warnings, "this phone speaks those suites of TLS_Cipher_List only that have forward secrecy and authenticated encryption")
	}
	for _, w := range parsed.Warnings {
		if c.Valid && !strings.Contains(w, "Go chooses") && !slices.Contains(c.Warnings, w) {
			c.Warnings = append(c.Warnings, w)
		}
	}
	return c
}

// Apply makes TLS settings speak these suites.
func (c Ciphers) Apply(conf *tls.Config) {
	if len(c.Served) == 0 {
		conf.MinVersion = tls.VersionTLS13
		return
	}
	conf.CipherSuites = c.Served
}
