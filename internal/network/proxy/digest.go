package proxy

import (
	"crypto/md5"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"ringfence"
)

// digest answers a challenge of RFC 7616.
type digest struct {
	algorithm string // as the challenge has it, or ""
	hash      func() hash.Hash
	session   bool // -sess
	realm     string
	nonce     string
	opaque    string
	hasOpaque bool
	qop       string // auth, auth-int or ""
	userhash  bool
	user      string
	password  string
	cnonce    string
	count     uint32
	ha1       string
}

// algorithms are those of RFC 7616 section 6.1, the best first.
func algorithm(name string) (h func() hash.Hash, session bool, rank int) {
	base, sess := strings.CutSuffix(strings.ToUpper(name), "-SESS")
	switch base {
	case "SHA-512-256":
		return sha512.New512_256, sess, 3
	case "SHA-256":
		return sha256.New, sess, 2
	case "MD5", "":
		return md5.New, sess, 1
	}
	return nil, false, 0
}

// newDigest chooses what to answer a challenge with.
func newDigest(c Challenge, user, password, cnonce string) (*digest, error) {
	bad := func(text string) (*digest, error) {
		return nil, &ringfence.Fault{Op: "proxy.digest", Kind: ringfence.KindUnsupported, Text: "the proxy's Digest challenge cannot be answered: " + text}
	}
	d := &digest{algorithm: c.Params["algorithm"], realm: c.Params["realm"], nonce: c.Params["nonce"], opaque: c.Params["opaque"], user: user, password: password, cnonce: cnonce,
		userhash: strings.EqualFold(c.Params["userhash"], "true")}
	_, d.hasOpaque = c.Params["opaque"]
	d.hash, d.session, _ = algorithm(d.algorithm)
	if d.hash == nil {
		return bad(fmt.Sprintf("the algorithm %.40q is not known", d.algorithm))
	}
	if d.nonce == "" {
		return bad("it has no nonce")
	}
	if offered, ok := c.Params["qop"]; ok {
		var all []string
		for q := range strings.SplitSeq(offered, ",") {
			all = append(all, strings.ToLower(strings.TrimSpace(q)))
		}
		switch {
		case slices.Contains(all, "auth"):
			d.qop = "auth"
		case slices.Contains(all, "auth-int"):
			d.qop = "auth-int" // the body of CONNECT is empty
		default:
			return bad(fmt.Sprintf("the quality of protection %.40q is not known", offered))
		}
	}
	return d, nil
}

func (d *digest) h(parts ...string) string {
	h := d.hash()
	h.Write([]byte(strings.Join(parts, ":")))
	return hex.EncodeToString(h.Sum(nil))
}

// response is request-digest of RFC 7616 section 3.4.1; method is "" for what the proxy proves itself with.
func (d *digest) response(method, uri string) string {
	if d.ha1 == "" {
		d.ha1 = d.h(d.user, d.realm, d.password)
		if d.session {
			d.ha1 = d.h(d.ha1, d.nonce, d.cnonce)
		}
	}
	ha2 := d.h(method, uri)
	if d.qop == "auth-int" {
		ha2 = d.h(method, uri, d.h(""))
	}
	if d.qop == "" { // RFC 2069, which RFC 7616 no longer has and old proxies speak
		return d.h(d.ha1, d.nonce, ha2)
	}
	return d.h(d.ha1, d.nonce, fmt.Sprintf("%08x", d.count), d.cnonce, d.qop, ha2)
}

// answer is the value of Proxy-Authorization.
func (d *digest) answer(method, uri string) string {
	d.count++
	var b strings.Builder
	quoted := func(name, v string) {
		b.WriteString(", " + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`)
	}
	switch {
	case d.userhash:
		b.WriteString(`Digest username="` + d.h(d.user, d.realm) + `"`)
		b.WriteString(", userhash=true")
	case strings.IndexFunc(d.user, func(r rune) bool { return r > 0x7e }) >= 0: // RFC 8187, as RFC 7616 section 3.4 demands
		b.WriteString("Digest username*=UTF-8''" + percent(d.user))
	default:
		b.WriteString(`Digest username="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(d.user) + `"`)
	}
	quoted("realm", d.realm)
	quoted("nonce", d.nonce)
	quoted("uri", uri)
	quoted("response", d.response(method, uri))
	if d.algorithm != "" {
		b.WriteString(", algorithm=" + d.algorithm)
	}
	if d.qop != "" {
		fmt.Fprintf(&b, ", qop=%s, nc=%08x", d.qop, d.count)
	}
	if d.qop != "" || d.session {
		quoted("cnonce", d.cnonce)
	}
	if d.hasOpaque {
		quoted("opaque", d.opaque)
	}
	return b.String()
}

// proved checks what the proxy proves itself with (RFC 7616 section 3.5); a proxy that says nothing proves nothing.
func (d *digest) proved(info, uri string) (ok bool, err error) {
	if info == "" {
		return false, nil
	}
	c, err := ParseChallenges([]string{"Info x=y, " + info})
	if err != nil || len(c) != 1 {
		return false, nil // it is advice, and broken
	}
	got, there := c[0].Params["rspauth"]
	if !there {
		return false, nil
	}
	if !strings.EqualFold(got, d.response("", uri)) {
		return false, &ringfence.Fault{Op: "proxy.digest", Kind: ringfence.KindInsecure, Text: "the proxy does not know the password: what it proves itself with is wrong", Hint: "somebody else may answer in its place"}
	}
	return true, nil
}

func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if isAlnum(s[i]) || strings.IndexByte("-._~", s[i]) >= 0 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}
