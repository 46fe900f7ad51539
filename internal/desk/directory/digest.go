package directory

import (
	"crypto/md5"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"

	"ringfence"
)

// ParseChallenge reads the directives of DIGEST-MD5 (RFC 2831 section 2.1.1): names and values, some in quotes.
func ParseChallenge(b []byte) (map[string]string, error) {
	if len(b) > 2048 {
		return nil, bad("a challenge is longer than 2048 bytes")
	}
	out, s := map[string]string{}, string(b)
	for s = strings.TrimLeft(s, " ,\t\r\n"); s != ""; s = strings.TrimLeft(s, " ,\t\r\n") {
		name, rest, ok := strings.Cut(s, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || len(out) > 32 {
			return nil, bad("a challenge is ill-formed")
		}
		var value strings.Builder
		if strings.HasPrefix(rest, `"`) {
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				value.WriteByte(rest[i])
			}
			if i >= len(rest) {
				return nil, bad("a challenge is ill-formed")
			}
			s = rest[i+1:]
		} else {
			var v string
			v, s, _ = strings.Cut(rest, ",")
			value.WriteString(strings.TrimSpace(v))
		}
		if _, twice := out[name]; !twice { // of several realms the first
			out[name] = value.String()
		} else if name != "realm" {
			return nil, bad("a challenge has a directive twice")
		}
	}
	return out, nil
}

// digest is an answer to a challenge, and what the server has to say to it.
type digest struct {
	response string
	expects  string
}

// answer makes the answer for a service, e.g. ldap/dir.example.com (RFC 2831 section 2.1.2). TLS protects what follows, so no layer of its own is asked for.
func answer(challenge map[string]string, user, password, service, cnonce string) (d digest, err error) {
	nonce := challenge["nonce"]
	qop := challenge["qop"]
	switch {
	case nonce == "" || challenge["algorithm"] != "md5-sess":
		return d, bad("the challenge is none of DIGEST-MD5")
	case qop != "" && !hasWord(qop, "auth"):
		return d, fault(ringfence.KindUnsupported, "the directory wants a layer of DIGEST-MD5, and TLS has taken its place", "let it offer qop=auth", nil)
	case challenge["charset"] != "utf-8" && strings.ContainsFunc(user+password, func(r rune) bool { return r > 0x7e }):
		return d, fault(ringfence.KindUnsupported, "the directory does not take a name or a password of this alphabet by DIGEST-MD5", "", nil)
	}
	realm, uri := challenge["realm"], service
	h := func(s string) string { sum := md5.Sum([]byte(s)); return hex.EncodeToString(sum[:]) }
	secret := md5.Sum([]byte(latin(user) + ":" + latin(realm) + ":" + latin(password)))
	a1 := h(string(secret[:]) + ":" + nonce + ":" + cnonce)
	of := func(a2 string) string { return h(a1 + ":" + nonce + ":00000001:" + cnonce + ":auth:" + h(a2)) }
	quote := func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }
	d.response = "username=" + quote(user)
	if challenge["charset"] == "utf-8" {
		d.response = "charset=utf-8," + d.response
	}
	if realm != "" {
		d.response += ",realm=" + quote(realm)
	}
	d.response += fmt.Sprintf(",nonce=%s,cnonce=%s,nc=00000001,qop=auth,digest-uri=%s,response=%s", quote(nonce), quote(cnonce), quote(uri), of("AUTHENTICATE:"+uri))
	d.expects = of(":" + uri)
	return d, nil
}

// proven checks that the server knows the password as well (section 2.1.3).
func (d digest) proven(b []byte) bool {
	said, err := ParseChallenge(b)
	return err == nil && subtle.ConstantTimeCompare([]byte(said["rspauth"]), []byte(d.expects)) == 1
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.TrimSpace(w), word) {
			return true
		}
	}
	return false
}

// latin writes a text in ISO 8859-1 if it can be: so it is hashed (section 2.1.2.1).
func latin(s string) string {
	out := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return s
		}
		out = append(out, byte(r))
	}
	return string(out)
}
