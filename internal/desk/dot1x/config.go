package dot1x

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"ringfence"
)

// Method is an EAP method.
type Method string

// The methods of a desk phone.
const (
	TLS  Method = "EAP-TLS"  // RFC 5216, RFC 9190
	FAST Method = "EAP-FAST" // RFC 4851
)

// Config is what a phone proves itself with.
type Config struct {
	Methods    []Method // that it agrees to
	Identity   string   // the name that the phone shows first
	CA         string   // file with the authorities of the authentication server, in PEM
	ServerName string   // DNS name that the server's certificate must have; empty: any that is believed
	Cert       string   // files with the phone's certificate and key
	Key        string
	User       string // of the inner method of EAP-FAST
	Password   string
	PAC        string // file that keeps what EAP-FAST was given (RFC 4851 section 3.2); empty: nothing is kept
	// AnyPAC takes a PAC from a server that proves nothing (RFC 5422 section 3.2.1). Whoever is on the wire then can learn what guesses at the password need.
	AnyPAC bool
}

const maxText = 512

func bad(text, hint string) error {
	return &ringfence.Fault{Op: "dot1x.config", Kind: ringfence.KindInvalid, Text: text, Hint: hint}
}

// quoted writes a file's name, which wpa_supplicant takes in quotes and has no escape for.
func quoted(s string) (string, error) {
	if len(s) > maxText || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == 0x7f }) {
		return "", bad(fmt.Sprintf("%.60q cannot be the name of a file here", s), "")
	}
	return `"` + s + `"`, nil
}

// check finds what is missing.
func (c Config) check() error {
	for _, m := range c.Methods {
		switch {
		case m != TLS && m != FAST:
			return bad(fmt.Sprintf("%.20q is no method of a desk phone", m), "it is EAP-TLS or EAP-FAST")
		case m == TLS && (c.Cert == "" || c.Key == ""):
			return bad("EAP-TLS needs a certificate of the phone and its key", "give both, or EAP-FAST alone")
		case m == FAST && (c.User == "" || c.Password == ""):
			return bad("EAP-FAST needs a user and a password", "give both, or EAP-TLS alone")
		}
	}
	switch {
	case len(c.Methods) == 0:
		return bad("the phone has no way to prove itself", "give a certificate and its key for EAP-TLS, or a user and a password for EAP-FAST")
	case c.CA == "" && !c.AnyPAC:
		return bad("nothing says which authentication server is believed", "name the file of its authority")
	case c.CA == "" && slices.Contains(c.Methods, TLS):
		return bad("EAP-TLS without an authority to believe would prove nothing", "name the file of the server's authority")
	case len(c.Identity) > maxText || len(c.User) > maxText || len(c.Password) > maxText:
		return bad("a name or a password is too long", "")
	}
	return nil
}

// File writes the configuration of wpa_supplicant; control is the directory of its control socket. It holds the password.
func (c Config) File(control string) ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	var b strings.Builder
	// Names and passwords are written in hexadecimal, so that nothing in them is taken for the file's grammar.
	text := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "\t%s=%s\n", key, hex.EncodeToString([]byte(value)))
		}
	}
	var wrong error
	file := func(key, value string) {
		q, err := quoted(value)
		if err != nil {
			wrong = err
		} else if value != "" {
			fmt.Fprintf(&b, "\t%s=%s\n", key, q)
		}
	}
	if strings.ContainsFunc(control, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, bad(fmt.Sprintf("%.60q cannot be a directory of sockets", control), "")
	}
	var names []string
	for _, m := range c.Methods {
		names = append(names, strings.TrimPrefix(string(m), "EAP-"))
	}
	fmt.Fprintf(&b, "ctrl_interface=%s\nap_scan=0\nfast_reauth=0\nnetwork={\n\tkey_mgmt=IEEE8021X\n\teapol_flags=0\n\teap=%s\n", control, strings.Join(names, " "))
	inside, outside := cmp.Or(c.Identity, c.User), ""
	if slices.Contains(c.Methods, FAST) { // the user goes inside the tunnel, the other name in the clear
		inside, outside = c.User, c.Identity
	}
	text("identity", inside)
	text("anonymous_identity", outside)
	file("ca_cert", c.CA)
	if c.ServerName != "" {
		if !isName(c.ServerName) {
			return nil, bad(fmt.Sprintf("%.60q is no name of a server", c.ServerName), "")
		}
		file("domain_match", c.ServerName)
	}
	file("client_cert", c.Cert)
	file("private_key", c.Key)
	phase1 := "tls_disable_tlsv1_0=1 tls_disable_tlsv1_1=1"
	if slices.Contains(c.Methods, FAST) {
		text("password", c.Password)
		provisioning := 2 // by a server that proves itself
		if c.AnyPAC {
			provisioning = 3
		}
		phase1 += fmt.Sprintf(" fast_provisioning=%d fast_max_pac_list_len=1 fast_pac_format=binary", provisioning)
		if c.PAC != "" {
			file("pac_file", c.PAC)
		} else {
			file("pac_file", "blob://pac")
		}
		fmt.Fprintf(&b, "\tphase2=%q\n", "auth=MSCHAPV2")
	}
	fmt.Fprintf(&b, "\tphase1=%q\n}\n", phase1)
	if wrong != nil {
		return nil, wrong
	}
	return []byte(b.String()), nil
}

func isName(s string) bool {
	return len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.')
	})
}
