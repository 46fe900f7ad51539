package cipherlist

import (
	"crypto/tls"
	"slices"
	"strings"
)

// Suite is one cipher suite of a list.
type Suite struct {
	Code           uint16 `json:"code"` // TLS Cipher Suites registry
	Name           string `json:"name"` // as the IANA spells it
	OpenSSL        string `json:"openssl"`
	KeyExchange    string `json:"key_exchange"`
	Authentication string `json:"authentication"`
	Encryption     string `json:"encryption"`
	MAC            string `json:"mac"`
	Bits           int    `json:"bits"`
	Served         bool   `json:"served"`
	Why            string `json:"why,omitempty"` // it is not served
}

// List is what a cipher list means.
type List struct {
	Suites   []Suite  `json:"suites"`             // in the order of the list, up to TLS 1.2
	TLS13    []Suite  `json:"tls13"`              // served whatever the list says: it does not govern them
	Level    int      `json:"security_level"`     // of @SECLEVEL; -1 if the list sets none
	Warnings []string `json:"warnings,omitempty"` // what most likely was not meant
}

// Served returns the code points of what can be served of the list, in its order.
func (l List) Served() (out []uint16) {
	for _, s := range l.Suites {
		if s.Served {
			out = append(out, s.Code)
		}
	}
	return out
}

// Parse reads a cipher list of OpenSSL (openssl-ciphers(1), versions 1.1.1 and 3). Names of suites may be those of the IANA too, which
// OpenSSL does not take. It fails for what OpenSSL refuses: a character that belongs to no word, and an unknown command behind "@".
func Parse(list string) (List, error) {
	r, err := read(openSSLNames(list))
	if err != nil {
		return List{}, err
	}
	out := List{Level: r.level, TLS13: tls13(), Suites: []Suite{}}
	for _, s := range r.order {
		if s.active {
			out.Suites = append(out.Suites, s.describe())
		}
	}
	out.Warnings = r.warnings
	out.advise(list)
	return out, nil
}

// openSSLNames puts the name that OpenSSL has for a suite in the place of the name that the IANA has.
func openSSLNames(list string) string {
	if !strings.Contains(list, "_WITH_") || len(list) > MaxSize {
		return list
	}
	all := suites()
	slices.SortFunc(all, func(a, b suite) int { return len(b.name) - len(a.name) }) // one name may begin with another
	for _, s := range all {
		list = strings.ReplaceAll(list, s.name, s.openssl)
	}
	return list
}

func (n *node) describe() Suite {
	s := Suite{Code: n.code, Name: n.name, OpenSSL: n.openssl, KeyExchange: kxName(n.kx), Authentication: authName(n.auth), Encryption: encName(n.enc), MAC: macName(n.mac), Bits: n.bits()}
	s.Why = n.refused()
	s.Served = s.Why == ""
	return s
}

// refused says why a suite is not served, or nothing.
func (n *node) refused() string {
	switch {
	case n.enc == eNULL:
		return "it does not encrypt"
	case n.auth == aNULL:
		return "nobody proves a name"
	case n.kx != kECDHE && n.kx != kDHE && n.kx != kECDHEPSK && n.kx != kDHEPSK:
		return "no forward secrecy"
	case n.mac != mAEAD:
		return "no authenticated encryption"
	case !slices.ContainsFunc(tls.CipherSuites(), func(c *tls.CipherSuite) bool { return c.ID == n.code }):
		return "not in Go's crypto/tls"
	}
	return ""
}

func tls13() []Suite {
	return []Suite{
		{Code: tls.TLS_AES_256_GCM_SHA384, Name: "TLS_AES_256_GCM_SHA384", OpenSSL: "TLS_AES_256_GCM_SHA384", KeyExchange: "any", Authentication: "any", Encryption: "AES-256-GCM", MAC: "AEAD", Bits: 256, Served: true},
		{Code: tls.TLS_CHACHA20_POLY1305_SHA256, Name: "TLS_CHACHA20_POLY1305_SHA256", OpenSSL: "TLS_CHACHA20_POLY1305_SHA256", KeyExchange: "any", Authentication: "any", Encryption: "ChaCha20-Poly1305", MAC: "AEAD", Bits: 256, Served: true},
		{Code: tls.TLS_AES_128_GCM_SHA256, Name: "TLS_AES_128_GCM_SHA256", OpenSSL: "TLS_AES_128_GCM_SHA256", KeyExchange: "any", Authentication: "any", Encryption: "AES-128-GCM", MAC: "AEAD", Bits: 128, Served: true},
	}
}

// advise adds the warnings that follow from the list as a whole.
func (l *List) advise(list string) {
	warn := func(text string) { l.Warnings = append(l.Warnings, text) }
	for word := range strings.FieldsFuncSeq(list, func(c rune) bool { return c < 0x80 && separator(byte(c)) }) {
		if word == "RSA" || word == "kRSA" {
			warn(word + " means RSA as the key exchange, which has no forward secrecy; for suites whose server has an RSA certificate write ECDHE+aRSA")
			break
		}
	}
	served := len(l.Served())
	switch {
	case len(l.Suites) == 0:
		warn("the list is empty: OpenSSL would refuse it, and programs that pass over the error use a list of their own")
	case served == 0:
		warn("nothing of the list can be served: with it only TLS 1.3 is left")
	}
	if served > 1 {
		warn("the order counts for OpenSSL only: Go chooses by the hardware of both ends")
	}
	for _, name := range []string{"TLS_AES_", "TLS_CHACHA20_"} {
		if strings.Contains(list, name+"1") || strings.Contains(list, name+"2") || strings.Contains(list, name+"P") {
			warn("the suites of TLS 1.3 are not governed by a cipher list")
			break
		}
	}
}

// ByName returns the code point of a suite by the name that the IANA or OpenSSL has for it.
func ByName(name string) (uint16, bool) {
	for _, s := range tls13() {
		if s.Name == name {
			return s.Code, true
		}
	}
	for _, s := range suites() {
		if s.name == name || s.openssl == name {
			return s.code, true
		}
	}
	return 0, false
}
